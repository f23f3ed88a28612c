"""AudioSet's hierarchy of sound categories, and lists of those that a corpus wants."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from w2v_abx.corpora.tables import read_rows
from w2v_abx.errors import InputError
from w2v_abx.system.text import read_text

__all__ = ["Ontology", "read_labels"]


@dataclass(frozen=True)
class Ontology:
    """Display names and children by machine identifier ("/m/05tny_": "Bark").

    The layout is that of ``ontology.json`` in https://github.com/audioset/ontology.
    """

    names: Mapping[str, str]
    children: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> "Ontology":
        """The ontology in a JSON file; `InputError` naming the file where it is none."""
        try:
            entries = json.loads(read_text(path))
            names = {entry["id"]: entry["name"] for entry in entries}
            children = {entry["id"]: tuple(entry["child_ids"]) for entry in entries}
        except (InputError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no AudioSet ontology ({type(error).__name__}: {error}): delete it to download it anew"
            ) from error
        for parent, below in children.items():
            if unknown := set(below).difference(names):
                raise InputError(f"{path}: {parent} has the child {min(unknown)}, which has no entry")
        return cls(names, children)

    def below(self, roots: Iterable[str]) -> set[str]:
        """The categories ``roots`` and all their descendants (a category may have several parents)."""
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            if (mid := waiting.pop()) not in found:
                found.add(mid)
                waiting.extend(self.children[mid])
        return found

    def check(self, mids: Iterable[str], key: str) -> list[str]:
        """The identifiers as a list; `InputError` naming ``key`` for one that is no category."""
        mids = list(mids)
        for mid in mids:
            if mid not in self.names:
                alike = [known for known, name in self.names.items() if name.lower() == str(mid).lower()]
                hint = f" (did you mean {alike[0]}?)" if alike else ", such as /m/09l8g for Human voice"
                raise InputError(f"{key} holds {mid!r}, which is no machine identifier of AudioSet's ontology{hint}")
        return mids


def read_labels(path: Path, ontology: Ontology) -> dict[str, str]:
    """Display name by machine identifier, from a CSV with the columns ``mid`` and ``display_name``, in its order.

    Raises `InputError` that names the file and the line for an identifier that the ontology lacks or that stands twice,
    and for two categories of one name.
    """
    labels: dict[str, str] = {}
    for line, row in read_rows(path, ["display_name", "mid"], setting="corpus.categories"):
        mid, name = row["mid"], row["display_name"]
        if mid not in ontology.names:
            raise InputError(f"{path}, line {line}: {mid!r} ({name}) is no category of AudioSet's ontology")
        name = name or ontology.names[mid]
        if mid in labels or name in labels.values():
            raise InputError(f"{path}, line {line}: {mid} ({name}) stands in the list twice")
        labels[mid] = name
    if not labels:
        raise InputError(f"{path} has a header but no categories")
    return labels

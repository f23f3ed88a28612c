"""Which clips are held out from training."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from w2v_abx.clips import Clip
from w2v_abx.errors import InputError
from w2v_abx.system.checks import fail, number, whole
from w2v_abx.system.text import nfc

__all__ = ["HeldOut", "hold_out", "joined", "share_out", "uniform"]


@dataclass(frozen=True)
class HeldOut:
    """Which clips ``corpus.valid`` or ``corpus.test`` (``setting``) holds out.

    Either those whose ``label`` is one of ``values``, or a ``fraction`` by a hash of ``seed`` and each clip's key, or
    of its ``label``, so that clips that share it, such as a speaker's, stay together.
    """

    setting: str
    label: str | None = None
    values: frozenset[str] | None = None
    fraction: float = 0.0
    seed: int = 0

    @classmethod
    def parse(cls, setting: str, given: Mapping[str, Any] | None) -> "HeldOut | None":
        """Read a setting; ``None`` where it holds nothing out. Raises `InputError` for keys and values that do not fit.

        ``fraction`` beside ``values`` is passed over: it is a default that another file gives.
        """
        form = {key: value for key, value in (given or {}).items() if value is not None}
        if not form:
            return None
        if "values" in form:
            form.pop("fraction", None), form.pop("seed", None)
        if set(form) != {"label", "values"} and not {"fraction"} <= set(form) <= {"fraction", "seed", "label"}:
            raise InputError(
                f"{setting} has the keys {', '.join(sorted(form))}: give label and values, or fraction (with seed and "
                "label if wanted), and set the others to null"
            )
        if "values" not in form:
            number(f"{setting}.fraction", form["fraction"], above=0, below=1)
            whole(f"{setting}.seed", form.get("seed", 0))
            return cls(setting, **form)
        if not isinstance(form["values"], list | tuple):
            raise fail(f"{setting}.values", form["values"], f"a list, such as [{form['values']}]")
        return cls(setting, form["label"], frozenset(nfc(str(value)) for value in form["values"]))

    def choose(self, clips: list[Clip]) -> set[str]:
        """Keys of the clips that are held out.

        Raises `InputError` for a label that a clip lacks and for a value that no clip has.
        """
        groups = {clip.key: self._group(clip) for clip in clips}
        present = sorted(set(groups.values()))
        if self.values is None:
            # Another hash for test, lest its share be what valid took already.
            salt = "" if self.setting == "corpus.valid" else f"{self.setting}/"
            rank = {group: uniform(f"{salt}{self.seed}/{group}") for group in present}
            held = {group for group in present if rank[group] < self.fraction}
            # A handful of clips may fall on one side altogether, and training needs both.
            held = held or {min(present, key=rank.__getitem__)}
            if len(held) == len(present) > 1:
                held.remove(max(present, key=rank.__getitem__))
        else:
            held = set(self.values)
            if unknown := sorted(held.difference(present)):
                raise InputError(
                    f"{self.setting}.values: no clip has {self.label}={unknown[0]!r} "
                    f"(values: {', '.join(sorted(present, key=lambda value: (len(value), value))[:20])})"
                )
        return {key for key, group in groups.items() if group in held}

    def _group(self, clip: Clip) -> str:
        if not self.label:
            return clip.key
        group = clip.labels.get(self.label)
        if not isinstance(group, str):
            known = ", ".join(sorted(key for key, value in clip.labels.items() if isinstance(value, str)))
            raise InputError(
                f"{self.setting}.label={self.label!r}: {clip.path} has no such label (single labels: {known or 'none'})"
            )
        return group


def hold_out(clips: list[Clip], valid: HeldOut | None, test: HeldOut | None = None) -> list[Clip]:
    """Put the clips that ``valid`` and ``test`` choose into these splits; a fraction for test is one of what is left.

    Raises `InputError` where both choose a clip by its label, and where no clip is left to train on.
    """
    splits: dict[str, str] = {}
    for held in (valid, test):
        if held is None or not clips:
            continue
        split = held.setting.rpartition(".")[2]
        for key in held.choose([clip for clip in clips if held.values is not None or clip.key not in splits]):
            if splits.setdefault(key, split) != split:
                raise InputError(f"corpus.valid and corpus.test both hold out {key}: leave it to one")
        if len(splits) == len(clips):
            raise InputError(f"{held.setting} holds out every clip: leave some to train on")
    return [replace(clip, split=splits.get(clip.key, clip.split)) for clip in clips]


def share_out(groups: Mapping[str, Hashable], valid: float, test: float, seed: int) -> dict[str, str]:
    """Draw the split of each group, such as a speaker: so many of each stratum, such as the women of a corpus.

    The numbers of groups are rounded, and one of each stratum stays in train, at the cost of test first. Where that
    leaves valid empty, one group is valid. The draw of one stratum does not depend on the others.

    Args:
        groups: the stratum of each.
        valid, test: shares of the groups of each stratum.
    """
    splits: dict[str, str] = {}
    strata: dict[Hashable, list[str]] = {}
    order = sorted(groups, key=lambda group: uniform(f"{seed}/{group}"))
    for group in order:
        strata.setdefault(groups[group], []).append(group)
    for members in strata.values():
        most = len(members) - 1
        held = min(round(valid * len(members)), most)
        tested = min(round(test * len(members)), most - held)
        for place, group in enumerate(members):
            splits[group] = "valid" if place < held else "test" if place < held + tested else "train"
    if valid and "valid" not in splits.values():
        trained, others = ([group for group in order if splits[group] == split] for split in ("train", "test"))
        for group in (trained if len(trained) > 1 else others)[:1]:
            splits[group] = "valid"
    return splits


def joined(names: Iterable[Iterable[str]]) -> list[str]:
    """Find the group of each thing, given its names: things that share a name share the group, also through others."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    firsts = []
    for own in names:
        first, *others = own
        for other in others:
            low, high = sorted((root(first), root(other)))  # so that the least name is the group's, in any order
            parent[high] = low
        firsts.append(first)
    return [root(first) for first in firsts]


def uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48

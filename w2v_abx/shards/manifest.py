"""What a folder of shards holds."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

from w2v_abx.audio import SAMPLE_RATE, Format
from w2v_abx.clips import SPLITS
from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write_json
from w2v_abx.system.records import Checked, Form, OneOf, Range, Text, strict_json

__all__ = ["Manifest", "Shard", "count_labels"]

NAME = "manifest.json"
MIN_CLIP_BYTES = 4 * 512  # in a tar: two members, each with its header
Count = Annotated[int, Range(0, 2**53)]  # clips, samples, bytes: as JSON's numbers hold them
# May stand in a path, an address and a command.
FileName = Annotated[str, Form(re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=@-]{0,199}"), "a plain file's name")]


@dataclass(frozen=True)
class Shard(Checked):
    """One tar: its file name, split, clips, length (samples at 16 kHz), size in bytes and SHA-256."""

    name: FileName
    split: Annotated[str, OneOf(SPLITS)]
    clips: Count
    samples: Count
    bytes: Count
    sha256: Annotated[str, Form(re.compile("[0-9a-f]{64}"), "a SHA-256 in hexadecimal")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clips * MIN_CLIP_BYTES > self.bytes:
            raise ValueError(f"{self.name} cannot hold {self.clips} clips in {self.bytes} bytes")

    @property
    def hours(self) -> float:
        return self.samples / SAMPLE_RATE / 3600


@dataclass(frozen=True)
class Manifest(Checked):
    """The shards of a folder in the order of their names, and what was left out of them.

    ``cleaning`` says how clips were cleaned (the fields of `w2v_abx.audio.Cleaning`), ``listing`` is a digest of the
    clips and settings asked for. ``labels`` counts clips by split, label field and value, ``skipped`` counts clips by
    reason (``skipped.csv`` beside the manifest names each), ``passed_over`` the corpus's files that are not audio, by
    ending.
    """

    folder: Path
    corpus: Text
    format: Annotated[str, OneOf(get_args(Format))]
    cleaning: Mapping[str, Any]
    listing: Text
    shards: tuple[Shard, ...]
    labels: Mapping[str, Mapping[str, Mapping[str, Count]]]
    skipped: Mapping[str, Count]
    passed_over: Mapping[str, Count] = field(default_factory=dict)  # not known of what an earlier version prepared

    def __post_init__(self) -> None:
        super().__post_init__()
        if twice := [name for name, times in Counter(shard.name for shard in self.shards).items() if times > 1]:
            raise ValueError(f"it has the shard {twice[0]} twice")

    @property
    def clips(self) -> int:
        return sum(shard.clips for shard in self.shards)

    @property
    def hours(self) -> float:
        return sum(shard.hours for shard in self.shards)

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """``clips``, ``hours`` and number of ``shards`` of each split."""
        splits: dict[str, dict[str, Any]] = {}
        for shard in self.shards:
            entry = splits.setdefault(shard.split, {"clips": 0, "hours": 0.0, "shards": 0})
            entry["clips"] += shard.clips
            entry["hours"] += shard.hours
            entry["shards"] += 1
        return splits

    def of(self, split: str) -> list[Shard]:
        """The shards of a split that hold clips; `InputError` when there is none."""
        shards = [shard for shard in self.shards if shard.split == split and shard.clips]
        if not shards:
            held = ", ".join(f"{name}: {content['clips']}" for name, content in self.splits.items())
            raise InputError(
                f"{self.folder} holds no clip of the split {split!r} (clips by split: {held}); give the corpus one "
                f"(corpus.valid=… or corpus.split_column=…) and run `w2v-abx prepare` again"
            )
        return shards

    def counts(self, field: str = "labels", split: str | None = None) -> Counter[str]:
        """How many clips carry each value of a label, in one split or in any; `InputError` when no clip carries it."""
        chosen = [fields for name, fields in self.labels.items() if split in (None, name)]
        values: Counter[str] = Counter()
        for fields in chosen:
            values.update(fields.get(field, {}))
        if not values:
            known = ", ".join(sorted({name for fields in chosen for name in fields})) or "none"
            where = f"the split {split!r} of {self.folder}" if split else str(self.folder)
            raise InputError(f"no clip in {where} carries the label {field!r}; the labels there are: {known}")
        return values

    def categories(self, field: str = "labels", split: str | None = None) -> list[str]:
        """Every value of a label field, sorted; see `counts`."""
        return sorted(self.counts(field, split))

    def write(self) -> None:
        """Write ``manifest.json`` into the folder, whole or not at all."""
        content = {
            "corpus": self.corpus,
            "sample_rate": SAMPLE_RATE,
            "format": self.format,
            "cleaning": self.cleaning,
            "listing": self.listing,
            "clips": self.clips,
            "hours": self.hours,
            "splits": self.splits,
            "labels": self.labels,
            "skipped": self.skipped,
            **({"passed_over": self.passed_over} if self.passed_over else {}),
            "shards": [vars(shard) for shard in self.shards],
        }
        write_json(self.folder / NAME, content)

    @classmethod
    def read(cls, folder: Path | str) -> "Manifest":
        """The manifest of a prepared folder; `InputError` when there is none, or it cannot be read."""
        path = Path(folder) / NAME
        again = "run `w2v-abx prepare` again"
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path.parent} holds no {NAME}: run `w2v-abx prepare corpus=…` first, or again if it was interrupted"
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error}): {again}") from error
        return cls.parse(content, path.parent, str(path), again)

    @classmethod
    def parse(cls, text: bytes, folder: Path, name: str, remedy: str) -> "Manifest":
        """The manifest in ``text``; `InputError` with its ``name`` and the ``remedy`` where it is none."""
        try:
            content = strict_json(text)
            passed_over = content.get("passed_over", {}) if isinstance(content, Mapping) else {}
            return cls.made_of(content, folder=folder, passed_over=passed_over)
        except ValueError as error:
            raise InputError(f"{name} cannot be read ({error}): {remedy}") from error


def categories_of(value: Any) -> set[str]:
    """The categories in a label's value: a text, texts, or the symbols of ``[onset s, offset s, symbol, …]`` lists."""
    values = value if isinstance(value, list | tuple) else [value]
    symbols = [entry[2] if isinstance(entry, list | tuple) and len(entry) >= 3 else entry for entry in values]
    return {symbol for symbol in symbols if isinstance(symbol, str)}


def count_labels(labels: Mapping[str, Any], counts: dict[str, Counter[str]]) -> None:
    """Add the categories of one clip, by label.

    ``text`` is left out (each clip has its own), and so are numbers (they are not categories).
    """
    for name, value in labels.items():
        if name != "text" and (found := categories_of(value)):
            counts.setdefault(name, Counter()).update(found)

"""Parts of a preparation, made by processes that share nothing but the folder, and what must hold to merge them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from w2v_abx.errors import InputError
from w2v_abx.shards.planning import Plan
from w2v_abx.system.atomic import write_json

__all__ = ["Part", "PartRecord", "check_parts", "read_parts", "remove_parts"]

NAME = re.compile(r"part-\d{4,}-of-\d{4,}\.json")


@dataclass(frozen=True)
class Part:
    """Part ``number`` of ``of``: every so-manyth shard, so that all parts have about as much to do."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part of a setting such as ``3/64``; raises `InputError` for anything else."""
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", str(text))
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"prepare.part={text} is no part: write 3/64 for the third of 64, or merge")
        return cls(int(match[1]), int(match[2]))

    @property
    def file(self) -> str:
        """Where its record lies."""
        return f"part-{self.number:04d}-of-{self.of:04d}.json"

    def of_plans(self, plans: Sequence[Plan]) -> Sequence[Plan]:
        return plans[self.number - 1 :: self.of]


@dataclass(frozen=True)
class PartRecord:
    """What a part leaves in the folder when it is done: the digest of each shard's report, by its name.

    ``listing`` stands for all clips of all parts.
    """

    part: int
    of: int
    corpus: str
    format: str
    cleaning: Mapping[str, Any]
    listing: str
    shards: Mapping[str, str]

    @classmethod
    def make(cls, part: Part, plan: Plan, listing: str, shards: Mapping[str, str]) -> "PartRecord":
        """The record of a part of which ``plan`` is any; ``listing`` is the digest of all parts' plans."""
        return cls(part.number, part.of, plan.corpus, plan.format, asdict(plan.cleaning), listing, shards)

    def write(self, folder: Path) -> None:
        write_json(folder / Part(self.part, self.of).file, asdict(self))


def read_parts(folder: Path) -> list[PartRecord]:
    """The records in a folder; `InputError` for one that cannot be read."""
    records = []
    for path in _files(folder):
        try:
            records.append(PartRecord(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): make that part again") from error
    return sorted(records, key=lambda record: record.part)


def remove_parts(folder: Path) -> None:
    """Remove the records, once a manifest says what they said."""
    for path in _files(folder):
        path.unlink()


def check_parts(records: Sequence[PartRecord], folder: Path) -> None:
    """Raise `InputError`, naming the parts, unless they are all the parts of one plan: no gap, no overlap."""
    if not records:
        raise InputError(f"{folder} holds no part to merge: make them with prepare.part=1/N to prepare.part=N/N first")
    numbers = sorted({record.of for record in records})
    if len(numbers) > 1:
        raise InputError(
            f"{folder} holds parts of {' and of '.join(map(str, numbers))}, which overlap: remove the "
            f"part-*.json of those that are not meant, and make the missing ones"
        )
    of = numbers[0]
    common = max((record.listing for record in records), key=[record.listing for record in records].count)
    if others := [record.part for record in records if record.listing != common]:
        raise InputError(
            f"{folder}: the parts {_numbers(others)} of {of} were planned from other clips or settings than the rest, "
            f"as when the corpus differs from machine to machine: make them again where it is the same"
        )
    if missing := sorted(set(range(1, of + 1)).difference(record.part for record in records)):
        raise InputError(f"{folder} lacks the parts {_numbers(missing)} of {of}: run prepare.part={missing[0]}/{of} …")
    seen: dict[str, int] = {}
    for record in records:
        for name in record.shards:
            if name in seen:
                raise InputError(f"{folder}: the parts {seen[name]} and {record.part} of {of} both hold {name}")
            seen[name] = record.part


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)) if folder.is_dir() else []


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} … ({len(numbers)} in all)" if len(numbers) > 10 else shown

"""Parts of a preparation, made by processes that share nothing but the folder, and what must hold to merge them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from w2v_abx.clips import SPLITS
from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write_json
from w2v_abx.system.records import Checked, Form, strict_json

__all__ = ["Part", "check_parts", "parse_part", "part_file", "read_parts", "remove_parts"]

SHARD = re.compile(rf"({'|'.join(SPLITS)})-\d{{6}}\.tar")
NAME = re.compile(r"part-\d{4,}-of-\d{4,}\.json")


@dataclass(frozen=True)
class Part(Checked):
    """Part number ``part`` of ``of``, as its file in the folder says once it is done.

    ``listing`` stands for all clips of all parts; ``shards`` holds the digest of each shard's report, by its name, and
    ``passed_over`` counts the corpus's files that are not audio.
    """

    part: int
    of: int
    corpus: str
    format: str
    cleaning: Mapping[str, Any]
    listing: str
    shards: Mapping[Annotated[str, Form(SHARD, "a shard's name")], str]
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the part's file, whole or not at all."""
        write_json(part_file(folder, self.part, self.of), asdict(self))


def parse_part(text: str) -> tuple[int, int]:
    """The numbers of a setting such as ``3/64``; raises `InputError` for anything else."""
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", str(text))
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"prepare.part={text} is no part: write 3/64 for the third of 64, or merge")
    return int(match[1]), int(match[2])


def part_file(folder: Path, part: int, of: int) -> Path:
    """The file of a part."""
    return folder / f"part-{part:04d}-of-{of:04d}.json"


def read_parts(folder: Path) -> list[Part]:
    """The parts of a folder that are done; `InputError` for one whose file cannot be read."""
    parts = []
    for path in _files(folder):
        try:
            parts.append(Part.made_of(strict_json(path.read_bytes())))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): make that part again") from error
    return sorted(parts, key=lambda part: part.part)


def remove_parts(folder: Path) -> None:
    """Remove the files of parts, once a manifest says what they said."""
    for path in _files(folder):
        path.unlink()


def check_parts(parts: Sequence[Part], folder: Path) -> None:
    """Raise `InputError`, naming the parts, unless they are all the parts of one plan: no gap, no overlap."""
    if not parts:
        raise InputError(f"{folder} holds no part to merge: make them with prepare.part=1/N to prepare.part=N/N first")
    numbers = sorted({part.of for part in parts})
    if len(numbers) > 1:
        raise InputError(
            f"{folder} holds parts of {' and of '.join(map(str, numbers))}, which overlap: remove the "
            f"part-*.json of those that are not meant, and make the missing ones"
        )
    of = numbers[0]
    common = max((part.listing for part in parts), key=[part.listing for part in parts].count)
    if others := [part.part for part in parts if part.listing != common]:
        raise InputError(
            f"{folder}: the parts {_numbers(others)} of {of} were planned from other clips or settings than the rest, "
            f"as when the corpus differs from machine to machine: make them again where it is the same"
        )
    if missing := sorted(set(range(1, of + 1)).difference(part.part for part in parts)):
        raise InputError(f"{folder} lacks the parts {_numbers(missing)} of {of}: run prepare.part={missing[0]}/{of} …")
    seen: dict[str, int] = {}
    for part in parts:
        for name in part.shards:
            if name in seen:
                raise InputError(f"{folder}: the parts {seen[name]} and {part.part} of {of} both hold {name}")
            seen[name] = part.part


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)) if folder.is_dir() else []


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} … ({len(numbers)} in all)" if len(numbers) > 10 else shown

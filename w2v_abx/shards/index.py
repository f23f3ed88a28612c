"""Where each clip lies in its shard, how long it is and what it carries: known without touching audio."""

import io
import json
import multiprocessing
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.shards.description import parse_description
from w2v_abx.shards.manifest import MIN_CLIP_BYTES, Manifest, Shard, categories_of
from w2v_abx.shards.places import Place
from w2v_abx.shards.reading import TAR_BLOCK, opened_shard, pairs
from w2v_abx.system.records import strict_json

__all__ = ["INDEX", "Index", "scan_shard"]

INDEX = "index.parquet"
SCHEMA = {
    "shard": pl.UInt32,
    "key": pl.String,
    "samples": pl.UInt32,
    "offset": pl.UInt64,
    "size": pl.UInt32,
    "json_offset": pl.UInt64,
    "json_size": pl.UInt32,
    "labels": pl.String,
}
IMPORTING_PROCESS = os.getpid()  # that imported this


@dataclass(frozen=True)
class Index:
    """The clips of some of a folder's shards, in order; arrays, so that a million clips take megabytes.

    ``shards`` say how many of their first clips are used, ``starts`` (a number for each shard) with which row of the
    folder's index each begins. ``samples`` (N,) is each clip's length at 16 kHz, ``ends`` (N,) the byte of its shard
    where the blocks of its members end: it begins where the clip before it ends. ``tails`` (a number for each shard)
    is where its last clip ends, used or not.
    """

    place: Place
    manifest: Manifest
    shards: tuple[Shard, ...]
    starts: tuple[int, ...]
    samples: np.ndarray
    ends: np.ndarray
    tails: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Clips of each shard."""
        return tuple(shard.clips for shard in self.shards)

    @cached_property
    def firsts(self) -> np.ndarray:
        """The clip with which each shard begins, and the number of clips."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def span(self, shard: int, number: int) -> tuple[int, int]:
        """The bytes of a clip in its shard: the first and one past the last."""
        clip = int(self.firsts[shard]) + number
        return int(self.ends[clip - 1]) if number else 0, int(self.ends[clip])

    @classmethod
    def read(cls, place: Place, manifest: Manifest, shards: Sequence[Shard]) -> "Index":
        """The index of ``shards``, which may count fewer clips than the manifest's do: their first.

        A folder of this machine that holds no ``index.parquet`` is scanned. Raises `InputError` for an index that
        cannot be had or read, or does not fit the manifest.
        """
        table = _table(place, manifest, ["shard", "samples", "offset", "size", "json_offset", "json_size"])
        counts = np.array([shard.clips for shard in manifest.shards])
        if not np.array_equal(table["shard"].to_numpy(), np.repeat(np.arange(len(counts)), counts)):
            raise InputError(f"{place.name(INDEX)} does not fit the manifest beside it: run `w2v-abx prepare` again")
        ends = np.maximum(*(_ends(table, prefix) for prefix in ("", "json_")))
        first = np.concatenate([[0], np.cumsum(counts)])
        position = {shard.name: i for i, shard in enumerate(manifest.shards)}
        starts = tuple(int(first[position[shard.name]]) for shard in shards)
        spans = [slice(start, start + shard.clips) for start, shard in zip(starts, shards, strict=True)]
        samples = table["samples"].to_numpy()
        index = cls(
            place,
            manifest,
            tuple(shards),
            starts,
            np.concatenate([samples[span] for span in spans]),
            np.concatenate([ends[span] for span in spans]),
            tuple(int(ends[first[position[shard.name] + 1] - 1]) for shard in shards),
        )
        for shard, start, end in zip(index.shards, index.firsts, index.firsts[1:], strict=False):
            part = index.ends[start:end].astype(np.int64)
            fits = index.samples[start:end].all() and part.max() <= shard.bytes
            if not fits or (np.diff(part, prepend=0) < MIN_CLIP_BYTES).any():
                raise InputError(f"{place.name(INDEX)} does not fit {shard.name}: run `w2v-abx prepare` again")
        return index

    def find(self, keys: Collection[str]) -> np.ndarray:
        """Number the clips that have these keys; those that are not among them have none."""
        found = _table(self.place, self.manifest, ["key"])["key"].is_in(list(keys)).to_numpy()
        return np.flatnonzero(found[self._rows])

    @cached_property
    def _rows(self) -> np.ndarray:
        """The clips' rows in the folder's index."""
        return np.concatenate([np.arange(start, start + n) for start, n in zip(self.starts, self.counts, strict=True)])

    def categories(self, field: str) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """What each clip carries in a label field: numbers (N,) into the list of sets of categories."""
        table = _table(self.place, self.manifest, ["labels"])
        try:
            texts = table["labels"].str.json_path_match(f'$["{field}"]')[self._rows].fill_null("[]")
            unique = texts.unique().sort()
            numbers = texts.replace_strict(unique, pl.Series(np.arange(len(unique)))).to_numpy()
            return numbers, [tuple(sorted(_categories(text))) for text in unique]
        except (ValueError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{self.place.name(INDEX)} has labels that are none ({error}): prepare again") from error


def scan_shard(path: Path) -> pl.DataFrame:
    """The columns of the index, but ``shard``, of a tar of this machine; raises `InputError` as `read_shard` does."""
    rows: list[dict[str, Any]] = []
    with opened_shard(path) as tar:
        for key, members in pairs(path, tar):
            audio, description = members["audio"], members["json"]
            file = tar.extractfile(description)
            samples, labels = parse_description(path, key, file.read() if file else b"", audio.size)
            rows.append(
                {
                    "key": key,
                    "samples": samples,
                    "offset": audio.offset_data,
                    "size": audio.size,
                    "json_offset": description.offset_data,
                    "json_size": description.size,
                    "labels": json.dumps(_untimed(labels), ensure_ascii=False, sort_keys=True),
                }
            )
    return pl.DataFrame(rows, schema={name: kind for name, kind in SCHEMA.items() if name != "shard"})


def _untimed(labels: Mapping[str, Any]) -> dict[str, list[str]]:
    """The categories of the labels that hold for a whole clip."""
    timed = {
        field
        for field, value in labels.items()
        if isinstance(value, list) and any(isinstance(entry, list) for entry in value)
    }
    found = {field: sorted(categories_of(value)) for field, value in labels.items() if field not in {*timed, "text"}}
    return {field: categories for field, categories in found.items() if categories}


def _forked() -> bool:
    """Say whether this process was forked from one that may have used polars, as the server of a pool has not."""
    parent = multiprocessing.parent_process()
    of_server = parent is not None and parent.pid != os.getppid() == IMPORTING_PROCESS
    return os.getpid() != IMPORTING_PROCESS and not of_server


def _table(place: Place, manifest: Manifest, columns: list[str]) -> pl.DataFrame:
    if _forked():  # polars's threads do not survive a fork: it would wait for them for ever
        raise InputError(
            f"{place.name(INDEX)} cannot be read in a process that was forked: choose a strategy that starts processes "
            f"anew, such as trainer.strategy=ddp"
        )
    try:
        source = place.folder / INDEX if place.folder is not None else io.BytesIO(place.read(INDEX))
        size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
        rows = pl.scan_parquet(source, glob=False).select(pl.len()).collect().item()
        if rows != manifest.clips or rows > size:  # before they are read: a few bytes may claim billions
            raise ValueError(f"it has {rows} rows in {size} bytes where the manifest has {manifest.clips} clips")
        table = pl.read_parquet(source, columns=columns, glob=False)
        if table.null_count().row(0) != (0,) * len(columns):
            raise ValueError("it has empty cells")
        return table.cast({name: SCHEMA[name] for name in columns})
    except FileNotFoundError:
        assert place.folder is not None
        tables = [
            scan_shard(place.folder / shard.name).select(pl.lit(number, pl.UInt32).alias("shard"), pl.all())
            for number, shard in enumerate(manifest.shards)
        ]
        return pl.concat(tables).select(columns)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "run `w2v-abx prepare` again" if place.folder is not None else "try again, or copy the folder anew"
        raise InputError(f"{place.name(INDEX)} cannot be read ({reason}): {remedy}") from error


def _ends(table: pl.DataFrame, prefix: str) -> np.ndarray:
    """Where the blocks of members end; a place that no file has where there is none."""
    start, size = table[f"{prefix}offset"].to_numpy(), table[f"{prefix}size"].to_numpy().astype(np.uint64)
    end = np.minimum(start, np.uint64(2**62)) + size
    return (end + np.uint64(TAR_BLOCK - 1)) // np.uint64(TAR_BLOCK) * np.uint64(TAR_BLOCK)


def _categories(text: str) -> set[str]:
    value = strict_json(text.encode()) if text.startswith(("[", '"')) else text
    return categories_of(value)

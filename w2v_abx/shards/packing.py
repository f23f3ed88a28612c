"""One shard: a tar, its index and its report, each whole or not there."""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.clips import Clip, Failure
from w2v_abx.shards.index import scan_shard
from w2v_abx.shards.manifest import Shard, count_labels
from w2v_abx.shards.planning import Plan, json_bytes
from w2v_abx.shards.workers import Workers
from w2v_abx.system.atomic import write, write_json, write_parquet
from w2v_abx.system.records import Checked, strict_json

__all__ = ["Report", "pack", "read_index", "read_report", "reusable_report"]

PASSING = {"crashed", "failed", "timeout"}  # reasons that a second run may not have


@dataclass(frozen=True)
class Report(Checked):
    """One shard as the ``NAME.json`` beside it describes it."""

    digest: str
    corpus: str
    shard: Shard
    labels: Mapping[str, Mapping[str, int]]
    skipped: list[Mapping[str, str]]


def pack(
    plan: Plan,
    digest: str,
    folder: Path,
    workers: Workers,
    failures: Mapping[str, Failure],
    advance: Callable[[float, bool], None],
) -> Report:
    """Write ``NAME.tar``, then its index ``NAME.parquet`` and its report ``NAME.json``.

    They are a function of the plan, the audio files and ``failures`` alone: the clips that could not be fetched, by
    key. ``digest`` is the plan's with these. ``advance`` is called for each clip: its seconds, and whether it was
    skipped.
    """
    counts: dict[str, Counter[str]] = {}
    skipped: list[Mapping[str, str]] = []
    lengths: list[int] = []

    def fill(partial: Path) -> None:
        there = (clip for _, clip in plan.entries if clip.key not in failures)
        results = workers.clean(there)
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, clip in plan.entries:
                result = failures.get(clip.key) or next(results)
                if isinstance(result, Failure):
                    skipped.append(_skip(clip, result))
                    advance(0.0, True)
                    continue
                description = {
                    "key": clip.key,
                    "samples": result.samples,
                    "labels": dict(clip.labels),
                    "source": clip.source,
                    "licence": clip.licence,
                }
                _add(tar, f"{name}.{plan.format}", result.audio)
                _add(tar, f"{name}.json", json_bytes(description))
                count_labels(clip.labels, counts)
                lengths.append(result.samples)
                advance(result.samples / SAMPLE_RATE, False)

    path = folder / f"{plan.name}.tar"
    write(path, fill)
    write_parquet(path.with_suffix(".parquet"), scan_shard(path))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    shard = Shard(path.name, plan.split, len(lengths), sum(lengths), path.stat().st_size, sha256)
    labels = {field: dict(sorted(counter.items())) for field, counter in sorted(counts.items())}
    report = Report(digest, plan.corpus, shard, labels, skipped)
    write_json(path.with_suffix(".json"), asdict(report))
    return report


def reusable_report(plan: Plan, folder: Path, digest: str) -> Report | None:
    """The report of a shard that is as planned, and from which no clip is missing that may be had another time."""
    report = read_report(folder / f"{plan.name}.json")
    if report is None or report.digest != digest:
        return None
    return None if any(row["reason"] in PASSING for row in report.skipped) else report


def read_report(path: Path) -> Report | None:
    """The report at ``path`` of a shard that is whole."""
    try:
        report = Report.made_of(strict_json(path.read_bytes()))
        whole = path.with_suffix(".tar").stat().st_size == report.shard.bytes and path.with_suffix(".parquet").is_file()
        return report if whole else None
    except (OSError, ValueError):
        return None  # not there, or not written by this version: the shard is written anew


def read_index(report: Report, folder: Path) -> pl.DataFrame:
    """The index of a shard; made anew where the one beside it cannot be read."""
    path = folder / report.shard.name
    try:
        index = pl.read_parquet(path.with_suffix(".parquet"), glob=False)
        if index.height == report.shard.clips:
            return index
    except (OSError, pl.exceptions.PolarsError):
        pass
    return scan_shard(path)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # mtime, owner and mode are constants: the bytes depend on the data alone
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _skip(clip: Clip, failure: Failure) -> dict[str, str]:
    return {
        "key": clip.key,
        "path": str(clip.path),
        "split": clip.split,
        "reason": failure.reason,
        "message": failure.message,
    }

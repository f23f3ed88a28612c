"""Write a corpus as shards: resumable, deterministic to the byte, nothing dropped silently."""

import csv
import fcntl
import hashlib
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from w2v_abx.atomic import write, write_json, write_text
from w2v_abx.audio import AudioError, Format, Level, encode, load
from w2v_abx.corpora.clip import SPLITS, Clip, Corpus
from w2v_abx.errors import InputError
from w2v_abx.shards.manifest import Manifest, Shard, count_labels
from w2v_abx.shards.planning import Plan, json_bytes, plan_shards

__all__ = ["prepare"]

OURS = re.compile(rf"(\.\d+-)?({'|'.join(SPLITS)})-\d{{6}}\.(tar|json)")  # or its temporary name (atomic.write)


@dataclass(frozen=True)
class Report:
    """One shard as its sidecar describes it."""

    digest: str
    corpus: str
    shard: Shard
    labels: dict[str, dict[str, int]]
    skipped: list[dict[str, str]]


def prepare(
    corpus: Corpus,
    folder: Path | str,
    *,
    clips_per_shard: int = 256,
    format: Format = "flac",
    level: Level = "none",
    seed: int = 0,
    console: Console | None = None,
) -> Manifest:
    """Write the clips of ``corpus`` as shards ``SPLIT-NNNNNN.tar`` with ``manifest.json`` and ``skipped.csv``.

    Clips are dealt to shards in an order that only ``seed`` and their keys decide. A shard that already holds what is
    planned is kept, so a killed run resumes and a second run adds nothing; shards of an older plan are removed. A clip
    whose audio cannot be used is listed in ``skipped.csv`` under its reason.

    Raises `InputError` for a corpus without clips or without one usable clip, two clips with one key, an unknown split,
    labels that are not JSON, a folder of another corpus, and a disk that is full (whole shards stay, and a second run
    continues).
    """
    folder = Path(folder)
    if clips_per_shard < 1:
        raise InputError(f"prepare.clips_per_shard={clips_per_shard} must be 1 or more")
    for option, value, valid in (("format", format, get_args(Format)), ("level", level, get_args(Level))):
        if value not in valid:
            raise InputError(f"prepare.{option}={value!r} is unknown: choose from {', '.join(valid)}")
    plans = plan_shards(corpus, clips_per_shard, format, level, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            reports = _write_all(plans, folder, corpus.name, console or Console())
            return _conclude(reports, folder, corpus.name, format, level)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}): the shards there are whole; make room or choose "
            f"another folder, and run `w2v-abx prepare` again to continue"
        ) from error


def write_shard(plan: Plan, folder: Path) -> Report:
    """Write ``NAME.tar`` and then its sidecar ``NAME.json``; a function of the plan and the audio files alone."""
    digest = plan.digest  # before reading, so that a file that changes meanwhile is read again next time
    counts: dict[str, Counter[str]] = {}
    skipped: list[dict[str, str]] = []
    lengths: list[int] = []

    def fill(partial: Path) -> None:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, clip in plan.entries:
                try:
                    samples = load(clip.path, clip.start, clip.end, plan.level)
                except AudioError as error:
                    skipped.append(_skip(clip, error))
                    continue
                description = {
                    "key": clip.key,
                    "samples": len(samples),
                    "labels": dict(clip.labels),
                    "source": clip.source,
                    "licence": clip.licence,
                }
                _add(tar, f"{name}.{plan.format}", encode(samples, plan.format))
                _add(tar, f"{name}.json", json_bytes(description))
                count_labels(clip.labels, counts)
                lengths.append(len(samples))

    path = folder / f"{plan.name}.tar"
    write(path, fill)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    shard = Shard(path.name, plan.split, len(lengths), sum(lengths), path.stat().st_size, sha256)
    labels = {field: dict(sorted(counter.items())) for field, counter in sorted(counts.items())}
    report = Report(digest, plan.corpus, shard, labels, skipped)
    write_json(folder / f"{plan.name}.json", asdict(report))
    return report


def _write_all(plans: Sequence[Plan], folder: Path, corpus: str, console: Console) -> list[Report]:
    planned = {f"{plan.name}.{ending}" for plan in plans for ending in ("tar", "json")}
    present = sorted(path for path in folder.iterdir() if OURS.fullmatch(path.name))
    for path in present:
        if path.suffix == ".json" and (old := _read_report(path)) and old.corpus != corpus:
            raise InputError(f"{folder} holds shards of the corpus {old.corpus}: choose another folder for {corpus}")
    kept = {plan.name: report for plan in plans if (report := _kept(plan, folder))}
    stale = [path for path in present if path.name not in planned]
    if stale or len(kept) < len(plans):
        (folder / "manifest.json").unlink(missing_ok=True)  # it would describe neither the old state nor the new
    for path in stale:
        path.unlink()
    reports = []
    with _progress(console, plans) as advance:
        for plan in plans:
            report = kept.get(plan.name) or write_shard(plan, folder)
            reports.append(report)
            advance(report)
    return reports


def _kept(plan: Plan, folder: Path) -> Report | None:
    """The report of a shard that stands as planned."""
    report = _read_report(folder / f"{plan.name}.json")
    tar = folder / f"{plan.name}.tar"
    whole = report is not None and tar.is_file() and tar.stat().st_size == report.shard.bytes
    return report if report is not None and whole and report.digest == plan.digest else None


def _read_report(path: Path) -> Report | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Report(**content | {"shard": Shard(**content["shard"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not written by this version: the shard is written anew


def _conclude(reports: Sequence[Report], folder: Path, corpus: str, format: Format, level: Level) -> Manifest:
    skipped = sorted((row for report in reports for row in report.skipped), key=lambda row: row["key"])
    reasons = dict(sorted(Counter(row["reason"] for row in skipped).items()))
    table = io.StringIO()
    writer = csv.DictWriter(table, ["key", "path", "split", "reason", "message"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(skipped)
    write_text(folder / "skipped.csv", table.getvalue())
    labels: dict[str, dict[str, Counter[str]]] = {}
    for report in reports:
        fields = labels.setdefault(report.shard.split, {})
        for field, counts in report.labels.items():
            fields.setdefault(field, Counter()).update(counts)
    manifest = Manifest(
        folder=folder,
        corpus=corpus,
        format=format,
        level=level,
        shards=tuple(report.shard for report in reports),
        labels={
            split: {field: dict(sorted(counts.items())) for field, counts in sorted(fields.items())}
            for split, fields in labels.items()
        },
        skipped=reasons,
    )
    if not manifest.clips:
        why = ", ".join(f"{reason}: {count}" for reason, count in reasons.items())
        raise InputError(f"no clip of the corpus {corpus} can be used ({why}): see {folder / 'skipped.csv'}")
    manifest.write()
    return manifest


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other prepares (runs of a sweep share it) until this one is done or dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _progress(console: Console, plans: Sequence[Plan]) -> Iterator[Callable[[Report], None]]:
    """A bar on a terminal; in a file, a line for each tenth."""
    total = sum(len(plan.entries) for plan in plans)
    seen = skips = shown = 0
    hours = 0.0
    columns = (TextColumn("prepare"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def advance(report: Report) -> None:
            nonlocal seen, skips, shown, hours
            seen += report.shard.clips + len(report.skipped)
            skips += len(report.skipped)
            hours += report.shard.hours
            state = f"clips, {hours:.2f} h, {skips} skipped"
            bar.update(task, completed=seen, description=state)
            if not console.is_terminal and (seen == total or seen * 10 // total > shown):
                shown = seen * 10 // total
                console.print(f"prepare {seen}/{total} {state}", highlight=False)

        yield advance


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # mtime, owner and mode are constants: the bytes depend on the data alone
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _skip(clip: Clip, error: AudioError) -> dict[str, str]:
    return {
        "key": clip.key,
        "path": str(clip.path),
        "split": clip.split,
        "reason": error.reason,
        "message": str(error),
    }

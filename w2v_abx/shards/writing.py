"""Write a corpus as shards: resumable, in parts, deterministic to the byte, nothing dropped silently."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import polars as pl
from filelock import ReadWriteLock, Timeout
from rich.console import Console

from w2v_abx.audio import Cleaning, Format
from w2v_abx.clips import SPLITS, Corpus, Failure
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.shards.index import INDEX
from w2v_abx.shards.manifest import NAME, Manifest
from w2v_abx.shards.packing import Report, pack, read_index, read_report, reusable_report
from w2v_abx.shards.parts import Part, check_parts, parse_part, part_file, read_parts, remove_parts
from w2v_abx.shards.planning import Plan, listing, plan_shards
from w2v_abx.shards.workers import Workers
from w2v_abx.system.atomic import write_parquet, write_text
from w2v_abx.system.checks import choice, number, whole
from w2v_abx.system.machine import processors
from w2v_abx.system.progress import ClipProgress
from w2v_abx.system.spreadsheets import neutral
from w2v_abx.system.streams import plain_console

__all__ = ["merge", "prepare"]

# A shard's file.
OURS = re.compile(rf"({'|'.join(SPLITS)})-\d{{6}}\.(tar|parquet|json)")
LOCK = ".lock"
MIN_CLIPS_FOR_PROCESSES = 8  # clips: so few are written before other processes have started


def prepare(
    corpus: Corpus,
    folder: Path | str,
    *,
    clips_per_shard: int | None = 256,
    megabytes_per_shard: float | None = 250.0,
    format: Format = "flac",
    cleaning: Cleaning = Cleaning(),  # noqa: B008
    seed: int = 0,
    group: str | None = None,
    workers: int | None = None,
    part: str | None = None,
    replace: bool = True,
    console: Console | None = None,
) -> Manifest:
    """Write the clips of ``corpus`` as shards ``SPLIT-NNNNNN.tar`` with ``manifest.json`` and ``skipped.csv``.

    Clips are dealt to shards in an order that only ``seed`` and their keys decide. A shard that already holds what is
    planned stays, so a killed run resumes and a second run adds nothing; shards of an older plan are removed. A clip
    whose audio cannot be used is listed in ``skipped.csv`` under its reason. ``index.parquet`` says where in which
    shard each clip lies, how long it is and what it carries.

    Args:
        clips_per_shard, megabytes_per_shard: both limit a shard, the latter in megabytes of 16-bit audio; None: no
            limit.
        group: a label; clips that share its value lie side by side, so that batches which are to hold them
            (``data.group``) are read in one go.
        workers: processes that clean; None: one for each core. The bytes do not depend on it.
        part: ``3/64`` makes the third of 64 parts alone, and no manifest: `merge` does, when all parts are made. Parts
            may be made at the same time, on machines that share the folder.
        replace: shards that were prepared from other clips, labels or settings give way; else that is an error.

    Returns:
        The manifest; for a part, that of the part.

    Raises `InputError` for a corpus without clips or without one usable clip, two clips with one key, an unknown split,
    labels that are not JSON, a folder of another corpus, and a disk that is full (whole shards stay, and a second run
    continues).
    """
    folder = Path(folder)
    whole("prepare.clips_per_shard", clips_per_shard, 1, optional="for no limit")
    number("prepare.megabytes_per_shard", megabytes_per_shard, above=0, optional="for no limit")
    choice("prepare.format", format, get_args(Format))
    whole("prepare.workers", workers, 1, optional="for all cores")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"prepare.folder={folder} is a file, not a folder")
    own_part, parts = (1, 1) if part is None else parse_part(part)
    console = console or plain_console()
    plans = plan_shards(corpus, clips_per_shard, megabytes_per_shard, format, cleaning, seed, group)
    with _writable(folder), _held(folder, console, shared=part is not None):
        asked = listing(plans)
        _check_corpus(folder, corpus.name)
        if not replace:
            _check_listing(folder, asked)
        own = plans[own_part - 1 :: parts]  # every so-manyth shard: all parts have about as much to do
        if part is None:
            _remove_stale(folder, plans)
        else:
            part_file(folder, own_part, parts).unlink(missing_ok=True)  # it would speak of shards that change now
        few = sum(len(plan.entries) for plan in own) < MIN_CLIPS_FOR_PROCESSES
        with Workers(1 if few else workers or processors(), cleaning, format) as cleaners:
            reports = _write_all(own, folder, corpus, cleaners, console)
        digests = {report.shard.name: report.digest for report in reports}
        passed_over = getattr(corpus, "passed_over", {})
        done = Part(own_part, parts, corpus.name, format, cleaning.settings, asked, digests, passed_over)
        if part is not None:
            done.write(folder)
            return _manifest(reports, folder, done)
        return _conclude(reports, folder, done)


def merge(folder: Path | str, console: Console | None = None) -> Manifest:
    """The manifest of a folder whose parts have all been made.

    Raises `InputError`, naming them, for parts that are missing, that overlap, or that were planned from another
    listing of the corpus; for a shard that is not whole; and for a clip that lies in two shards.
    """
    folder = Path(folder)
    with _writable(folder), _held(folder, console or plain_console(), shared=False):
        parts = read_parts(folder)
        check_parts(parts, folder)
        digests = {name: digest for part in parts for name, digest in part.shards.items()}
        names = sorted(digests, key=_order)
        reports = []
        for name in names:
            report = read_report((folder / name).with_suffix(".json"))
            if report is None or report.digest != digests[name]:
                guilty = next(f"{part.part}/{part.of}" for part in parts if name in part.shards)
                raise InputError(
                    f"{folder / name} is missing, not whole or not what its part made: run prepare.part={guilty} again"
                )
            reports.append(report)
        stems = {Path(name).stem for name in names}
        for path in folder.iterdir():
            if OURS.fullmatch(path.name) and path.stem not in stems:
                path.unlink()
        return _conclude(reports, folder, parts[0])


def _check_corpus(folder: Path, corpus: str) -> None:
    for path in folder.glob("*-??????.json"):
        if (old := read_report(path)) and old.corpus != corpus:
            raise InputError(f"{folder} holds shards of the corpus {old.corpus}: choose another folder for {corpus}")


def _check_listing(folder: Path, asked: str) -> None:
    try:
        there = Manifest.read(folder)
    except InputError:
        return  # nothing that is whole
    if there.listing != asked:
        raise InputError(
            f"{folder} was prepared from other clips, labels or settings than this asks for ({there.clips} clips, "
            f"{there.hours:.2f} hours): repeat its settings, name this one otherwise (corpus.name=…), or set "
            f"prepare.replace=true to prepare it anew"
        )


def _remove_stale(folder: Path, plans: Sequence[Plan]) -> None:
    planned = {f"{plan.name}.{ending}" for plan in plans for ending in ("tar", "parquet", "json")}
    stale = [path for path in folder.iterdir() if OURS.fullmatch(path.name) and path.name not in planned]
    if stale:
        (folder / NAME).unlink(missing_ok=True)  # it would describe neither the old state nor the new
    for path in stale:
        path.unlink()


def _write_all(plans: Sequence[Plan], folder: Path, corpus: Corpus, workers: Workers, console: Console) -> list[Report]:
    reports = []
    with ClipProgress(console, sum(len(plan.entries) for plan in plans)) as progress:
        for plan in plans:
            failures = _fetch(corpus, plan)
            # Before reading, so that a file that changes meanwhile is read again next time.
            digest = plan.digest(failures)
            report = reusable_report(plan, folder, digest)
            if report is not None:
                progress.add_stored(report.shard.clips + len(report.skipped), len(report.skipped), report.shard.hours)
            else:
                (folder / NAME).unlink(missing_ok=True)
                report = pack(plan, digest, folder, workers, failures, progress.advance)
            reports.append(report)
    return reports


def _fetch(corpus: Corpus, plan: Plan) -> Mapping[str, Failure]:
    """Fetch the shard's audio, where the corpus lies elsewhere; return why clips that are missing could not be."""
    fetch = getattr(corpus, "fetch", None)
    try:
        return fetch([clip for _, clip in plan.entries]) if fetch is not None else {}
    except OSError as error:  # nothing is the matter with the shards' folder
        raise InputError(f"clips of {corpus.name} could not be fetched ({error}): run it again to go on") from error


def _manifest(reports: Sequence[Report], folder: Path, part: Part) -> Manifest:
    labels: dict[str, dict[str, Counter[str]]] = {}
    for report in reports:
        fields = labels.setdefault(report.shard.split, {})
        for field, counts in report.labels.items():
            fields.setdefault(field, Counter()).update(counts)
    return Manifest(
        folder=folder,
        corpus=part.corpus,
        format=part.format,
        cleaning=part.cleaning,
        listing=part.listing,
        shards=tuple(report.shard for report in reports),
        labels={
            split: {field: dict(sorted(counts.items())) for field, counts in sorted(fields.items())}
            for split, fields in labels.items()
        },
        skipped=dict(sorted(Counter(row["reason"] for report in reports for row in report.skipped).items())),
        passed_over=part.passed_over,
    )


def _conclude(reports: Sequence[Report], folder: Path, part: Part) -> Manifest:
    """Write ``skipped.csv``, ``index.parquet`` and, last, ``manifest.json``; remove what parts have left."""
    table = io.StringIO()
    writer = csv.DictWriter(table, ["key", "path", "split", "reason", "message"], lineterminator="\n")
    writer.writeheader()
    skipped = sorted((row for report in reports for row in report.skipped), key=lambda row: row["key"])
    writer.writerows({name: neutral(cell) for name, cell in row.items()} for row in skipped)
    write_text(folder / "skipped.csv", table.getvalue())
    manifest = _manifest(reports, folder, part)
    if not manifest.clips:
        why = ", ".join(f"{reason}: {count}" for reason, count in manifest.skipped.items())
        raise InputError(f"no clip of the corpus {part.corpus} can be used ({why}): see {folder / 'skipped.csv'}")
    index = pl.concat(
        read_index(report, folder).select(pl.lit(number, pl.UInt32).alias("shard"), pl.all())
        for number, report in enumerate(reports)
    )
    if twice := index["key"].filter(index["key"].is_duplicated()).head(1).to_list():
        raise InputError(f"{folder}: two shards hold the clip {twice[0]}: remove the folder and prepare it again")
    write_parquet(folder / INDEX, index)
    manifest.write()
    remove_parts(folder)
    return manifest


def _order(name: str) -> tuple[int, str]:
    return SPLITS.index(name.partition("-")[0]), name


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise NotWritten(
            f"{folder} cannot be written ({error.strerror or error}): the shards there are whole; make room or choose "
            f"another folder, and run `w2v-abx prepare` again to continue"
        ) from error


@contextmanager
def _held(folder: Path, console: Console, *, shared: bool) -> Iterator[None]:
    """Hold the folder against other prepares (runs of a sweep share it) until this one is done or dies.

    Parts share it with each other.
    """
    lock = ReadWriteLock(folder / LOCK, is_singleton=False)
    acquire = lock.acquire_read if shared else lock.acquire_write
    try:
        try:
            acquire(timeout=0)
        except Timeout:
            console.print(f"waiting for another prepare in {folder}", soft_wrap=True)
            acquire()
        yield
    finally:
        lock.close()

"""What `w2v-abx prepare` does about phones: give a corpus their times, and write item files and TextGrids."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path

import polars as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from w2v_abx.alignment.annotations import write_textgrids
from w2v_abx.alignment.timed import Timed
from w2v_abx.clips import Clip, Corpus
from w2v_abx.corpora.subset import Subset
from w2v_abx.errors import InputError
from w2v_abx.items.files import ItemFile, ItemSettings, require_stops
from w2v_abx.shards import Manifest
from w2v_abx.shards.item_audio import extract
from w2v_abx.shards.planning import member_names
from w2v_abx.system.spreadsheets import restored, write_csv

__all__ = ["corpus_of", "timed", "write_times"]


def corpus_of(config: DictConfig) -> Corpus:
    """``config.corpus``, of whose training clips it has ``corpus.minutes``."""
    settings = copy(config.corpus)
    with open_dict(settings):
        minutes = settings.pop("minutes", None)
    corpus: Corpus = instantiate(settings)
    return corpus if minutes is None else Subset(corpus, minutes, config.prepare.seed)


def timed(config: DictConfig) -> Timed:
    """``config.corpus``, with phone times as ``config.align`` says, and none that are not of their audio.

    Raises InputError for what would stop `write_times`, which comes after all other work.
    """
    settings: ItemSettings | None = instantiate(config["items"]) if config.get("items") else None
    if settings and settings.audio:
        _require_folder("items.audio", settings.audio)
    if config.get("textgrids"):
        _require_folder("textgrids", config.textgrids)
    corpus = corpus_of(config)
    timed: Timed = instantiate(config.align)(corpus) if config.get("align") else Timed(corpus)
    if settings:
        require_stops(timed, settings)
    return timed


def write_times(config: DictConfig, corpus: Timed, folder: Path) -> Iterator[str]:
    """Write what was asked, of the clips in the shards of ``folder``; a line about each, and about missing times."""
    if not (corpus.scanned or config.get("align") or config.get("items") or config.get("textgrids")):
        return  # a merge of parts, which wants no clips
    path = folder / "skipped.csv"
    skipped = set(map(restored, pl.read_csv(path, infer_schema=False, glob=False)["key"])) if path.is_file() else set()
    clips = [clip for clip in corpus.clips() if clip.key not in skipped]
    path = folder / "untimed.csv"
    if config.get("align") or corpus.untimed or path.exists():
        rows = [(key, *why) for key, why in sorted(corpus.untimed.items())]
        untimed = pl.DataFrame(rows, dict.fromkeys(("key", "reason", "message"), pl.String), orient="row")
        write_csv(path, untimed)
        for reason, count in sorted(Counter(why.reason for why in corpus.untimed.values()).items()):
            yield f"without phone times: {count} clips, {reason} (named in {path})"
        yield from corpus.remarks()
    if config.get("items"):
        yield from _write_items(instantiate(config["items"]), corpus, clips, folder)
    if config.get("textgrids"):
        grids, cut, dropped = write_textgrids(clips, config.textgrids)
        yield f"TextGrids: {grids}, below {config.textgrids}"
        if cut:
            yield f"  cut where the next one begins: {cut} intervals"
        if dropped:
            yield f"  left out as empty: {dropped} intervals"


def _write_items(settings: ItemSettings, corpus: Corpus, clips: Sequence[Clip], folder: Path) -> Iterator[str]:
    file = ItemFile.of(clips, settings)
    path = folder / settings.file
    file.write(path)
    yield f"items: {len(file.rows)} {settings.unit}s of {file.clips} clips, in {path}"
    for reason, phones in sorted(file.left_out.items()):
        if phones:
            yield f"  no item: {phones} phones, {reason}"
    if file.without:
        yield f"  no item: {file.without} clips, no phones"
    if settings.audio:
        keys = {key for key, *_ in file.rows}
        names = member_names([clip.key for clip in corpus.clips()])  # of all: they depend on each other
        chosen = {names[clip.key]: clip for clip in clips if clip.key in keys}
        written = extract(Manifest.read(folder), chosen, settings.audio)
        there = len(chosen) - written
        yield f"audio of the items: {written} clips written, {there} there already, below {settings.audio}"


def _require_folder(key: str, folder: Path | str) -> None:
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}={folder} cannot be made a folder ({error.strerror}): choose another") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{key}={folder} may not be written to: choose another folder")

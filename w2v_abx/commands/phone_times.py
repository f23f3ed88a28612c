"""What `w2v-abx prepare` does about phones: give a corpus their times, and write item files and TextGrids."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from w2v_abx import atomic
from w2v_abx.corpora.clip import Corpus
from w2v_abx.phones.annotations import write_textgrids
from w2v_abx.phones.item_files import ItemFile
from w2v_abx.phones.timed import Timed

__all__ = ["timed", "write_times"]


def timed(config: DictConfig) -> Corpus:
    """``config.corpus``, with phone times as ``config.align`` says."""
    corpus: Corpus = instantiate(config.corpus)
    if config.get("align"):
        with_times: Timed = instantiate(config.align)(corpus)
        return with_times
    # Scanned once, though shards and items both ask for its clips.
    return Timed(corpus) if config.get("items") or config.get("textgrids") else corpus


def write_times(config: DictConfig, corpus: Corpus, folder: Path) -> Iterator[str]:
    """Write what was asked, of the clips in the shards of ``folder``; a line about each."""
    if isinstance(corpus, Timed) and config.get("align"):
        path = folder / "untimed.csv"
        rows = [["key", "reason", "message"], *([key, *why] for key, why in sorted(corpus.untimed.items()))]
        atomic.write(path, lambda partial: _write_csv(partial, rows))
        for reason, count in sorted(Counter(why.reason for why in corpus.untimed.values()).items()):
            yield f"without phone times: {count} clips, {reason} (named in {path})"
        yield from corpus.remarks()
    if not (config.get("items") or config.get("textgrids")):
        return
    skipped = _keys(folder / "skipped.csv")
    clips = [clip for clip in corpus.clips() if clip.key not in skipped]
    if config.get("items"):
        file = ItemFile.of(clips, instantiate(config["items"]))
        path = folder / f"{file.settings.unit}.item"
        file.write(path)
        yield f"items: {len(file.rows)} {file.settings.unit}s of {file.clips} clips, in {path}"
        for reason, phones in sorted(file.left_out.items()):
            if phones:
                yield f"  no item: {phones} phones, {reason}"
        if file.without:
            yield f"  no item: {file.without} clips, no phones"
    if config.get("textgrids"):
        yield f"TextGrids: {write_textgrids(clips, config.textgrids)}, below {config.textgrids}"


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _keys(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8", newline="") as file:
        return {row["key"] for row in csv.DictReader(file)}

"""AudioSet's lists of segments: which seconds of which video carry which categories."""

from pathlib import Path

import numpy as np
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.system.text import NAMED, leave_out

__all__ = ["random_order", "read_segments"]

ROW = r'^([A-Za-z0-9_-]+), *(\d+(?:\.\d+)?), *(\d+(?:\.\d+)?), *"([^"]*)"\s*$'


def read_segments(path: Path) -> pl.DataFrame:
    """The segments of a CSV as ``video`` (its YouTube id), ``start`` and ``end`` (s), ``mids`` (list of str).

    The layout is that of https://research.google.com/audioset/download.html: three lines of comments, then
    ``YTID, start_seconds, end_seconds, "mid,mid"``. Other lines are left out with a warning that counts them; raises
    `InputError`, naming the first, where they outnumber the others.
    """
    try:
        # Whole lines: the blank before each quotation mark is more than CSV readers take.
        lines = pl.read_lines(path, row_index_name="number", row_index_offset=1, glob=False)
    except FileNotFoundError:
        raise InputError(f"the segments {path} do not exist") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read as a list of segments ({error})") from error
    row = pl.col("line").str.extract_groups(ROW).struct.rename_fields(["video", "start", "end", "mids"])
    table = (
        lines.with_columns(pl.col("line").str.strip_prefix("\ufeff"))
        .filter(~pl.col("line").str.contains(r"^\s*(#|$)"))
        .with_columns(row.alias("row"))
        .unnest("row")
        .with_columns(pl.col("start", "end").cast(pl.Float64))
    )
    if table.is_empty():
        raise InputError(f"{path} holds no segments: delete it to download it anew")
    bad = pl.col("video").is_null() | (pl.col("end") <= pl.col("start")) | (pl.col("mids").str.len_bytes() == 0)
    wrong = table.filter(bad)
    wanted = 'YTID, start_seconds, end_seconds, "label,label" with a start before its end'
    named = [f"{path}, line {row[0]}: {row[1][:80]!r} is not {wanted}" for row in wrong.head(NAMED).iter_rows()]
    leave_out(named, len(table), len(wrong))
    return table.filter(~bad).select("video", "start", "end", pl.col("mids").str.replace_all(" ", "").str.split(","))


def random_order(video: pl.Series, start: pl.Series, seed: int) -> np.ndarray:
    """A number (uint64) for each segment, to sort by: the same on every machine, whatever other segments there are.

    The characters of the id are mixed one by one by the finaliser of SplitMix64 (Steele et al., 2014), for all segments
    at once.
    """
    characters = video.to_numpy().astype(np.bytes_)
    columns = characters.view(np.uint8).reshape(len(characters), characters.dtype.itemsize).T
    state = _mixed(np.full(len(characters), np.uint64(seed % 2**64)))
    state = _mixed(state ^ np.rint(start.to_numpy() * 1000).astype(np.uint64))
    for column in columns:
        state = np.where(column != 0, _mixed(state ^ column.astype(np.uint64)), state)
    return state


def _mixed(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))

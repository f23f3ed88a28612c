"""The frames of each item, cut out of the features of its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from w2v_abx.abx.items import FILE, Items
from w2v_abx.errors import InputError

__all__ = ["Frames", "cut_frames"]

EXACT_IN_FLOAT32 = 2**24
LOST_FRAMES = 1  # A convolutional encoder without padding gives up to one frame fewer than its rate promises.


@dataclass(frozen=True)
class Frames:
    """Ragged frames of the items that have any.

    Attributes:
        rows: (N,) the row numbers, ascending, of the items that have frames.
        values: (T, D) float32, frames of one item lying together.
        starts, lengths: (N,) where each item's frames lie in ``values``.
        skipped: the items without frames: their columns, plus ``where`` and ``reason``.
        clipped: how many items lost their last frame because their file's features end one frame early.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    skipped: pl.DataFrame
    clipped: int


def cut_frames(features: Mapping[str, Any], items: Items, frequency: Fraction) -> Frames:
    """Cut each item's frames out of its file's features, a (T, D) array or tensor at ``frequency`` frames a second.

    An item may end one frame after its features do, as models lose a last frame: that frame is left out, and counted.
    An item shorter than a frame is left out, and named in ``skipped``.

    Raises:
        InputError: a file has no features, or they are not finite numbers in two dimensions of one width, or an item
            ends further outside them.
    """
    starts, stops = items.spans(frequency)
    files = items.frame[FILE]
    by_file = files.to_frame().with_row_index().group_by(FILE, maintain_order=True).agg("index")
    missing = [name for name in by_file[FILE].to_list() if name not in features]
    if missing:
        raise InputError(
            f"{items.where(int(files.index_of(missing[0]) or 0))}: there are no features for the file '{missing[0]}'"
            f"{f' (nor for {len(missing) - 1} other files)' if len(missing) > 1 else ''}; "
            "features and items must name files alike."
        )
    short = stops <= starts
    values = np.empty((0, 0), dtype=np.float32)
    position = np.full(len(items), -1, dtype=np.int64)
    filled = clipped = 0
    for name, rows in by_file.iter_rows():
        array = _as_float32(features[name], name)
        if not filled:
            values = np.empty((int((stops - starts)[~short].sum()), array.shape[1]), dtype=np.float32)
        if array.shape[1] != values.shape[1]:
            raise InputError(
                f"The features of '{name}' have {array.shape[1]} dimensions a frame, those of the files before it "
                f"{values.shape[1]}: all must come from one layer of one model."
            )
        for row in rows:
            if short[row]:
                continue
            over = stops[row] - len(array)
            if over > LOST_FRAMES:
                raise InputError(_past_the_end(items, row, name, int(stops[row]), len(array), frequency))
            stops[row] -= max(over, 0)
            length = max(int(stops[row] - starts[row]), 0)
            clipped += int(over > 0 and length > 0)
            position[row] = filled
            values[filled : filled + length] = array[starts[row] : stops[row]]
            filled += length
    lengths = stops - starts
    rows = np.flatnonzero(lengths > 0)
    return Frames(rows, values[:filled], position[rows], lengths[rows], _skipped(items, short, lengths), clipped)


def _as_float32(features: Any, name: str) -> npt.NDArray[np.float32]:
    if isinstance(features, torch.Tensor):
        # numpy knows no bfloat16; integers keep their kind for the check below.
        features = features.detach().cpu()
        features = (features.float() if features.is_floating_point() else features).numpy()
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.shape[1]:
        raise InputError(
            f"The features of '{name}' must be numbers in two dimensions (frames, width), "
            f"not {array.dtype} of shape {array.shape}."
        )
    if array.dtype.kind in "iu" and array.size and max(-int(array.min()), int(array.max())) > EXACT_IN_FLOAT32:
        raise InputError(f"The features of '{name}' hold integers above 2^24, which float32 cannot tell apart.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        frame = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InputError(f"The features of '{name}' hold a NaN or an infinite number, first in frame {frame}.")
    return array


def _past_the_end(items: Items, row: int, name: str, stop: int, available: int, frequency: Fraction) -> str:
    return (
        f"{items.where(row)}: the item ends {stop - available} frames after the features of '{name}' do (it needs "
        f"frame {stop - 1} and there are {available}). Models lose at most one last frame, because their convolutions "
        f"are not padded; more means another recording, or features that are not at {float(frequency):g} Hz."
    )


def _skipped(items: Items, short: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]) -> pl.DataFrame:
    gone = np.flatnonzero(lengths <= 0)
    reasons = ["shorter than a frame" if short[row] else "only in the last frame, which was lost" for row in gone]
    return items.frame[gone].with_columns(
        pl.Series("where", [items.where(int(row)) for row in gone], dtype=pl.String),
        pl.Series("reason", reasons, dtype=pl.String),
    )

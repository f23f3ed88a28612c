"""The frames of each item, cut out of the features of its file."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from w2v_abx.abx.rates import check_rate
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items
from w2v_abx.items.names import matched

__all__ = ["Frames", "cut_frames", "skipped_items"]

Integers = npt.NDArray[np.int64]

EXACT_IN_FLOAT32 = 2**24
SHORT, LOST = "shorter than a frame", "only in the last frame, which was lost"
DROPPED = "of a single frame, which abx.slicing=librilight drops"


@dataclass(frozen=True)
class Frames:
    """Ragged frames of the items that have any.

    Attributes:
        rows: (N,) the row numbers, ascending, of the items that have frames.
        files: the features (T, D) of whole files, as they came where they are floats of up to 32 bits: arrays (tensors,
            if bfloat16) on the host, tensors on ``device``.
        ends: (F + 1,) the numbers of the frames of all files at which each begins, and the last ends.
        starts, lengths: (N,) the number of each item's first frame, and how many it has.
        skipped: the items that are left out: their columns, plus ``where`` and ``reason``.
        clipped: how many items lost their last frame because their file's features end one frame early.
        device: that the frames are on and that aligns them; None for the engine of the CPU.
    """

    rows: Integers
    files: Sequence[Any]
    ends: Integers
    starts: Integers
    lengths: Integers
    skipped: pl.DataFrame
    clipped: int
    device: torch.device | None = None

    def take(self, places: Integers) -> "Frames":
        """The items at some places of ``rows``, in that order."""
        rows, starts, lengths = (values[places] for values in (self.rows, self.starts, self.lengths))
        return replace(self, rows=rows, starts=starts, lengths=lengths)

    def each(self, first: int, last: int) -> Iterator[Any]:
        """The frames (F, D) of each of the items first:last in float32, arrays on the host and tensors on a device."""
        starts, lengths = self.starts[first:last], self.lengths[first:last]
        files = np.searchsorted(self.ends, starts, side="right") - 1
        begins = starts - self.ends[files]
        for file, begin, length in zip(files.tolist(), begins.tolist(), lengths.tolist(), strict=True):
            frames = self.files[file][begin : begin + length]
            if isinstance(frames, torch.Tensor):
                frames = frames.float() if self.device is not None else frames.float().numpy()
            yield frames if self.device is not None else frames.astype(np.float32, copy=False)

    def together(self, first: int, last: int) -> torch.Tensor:
        """The frames (T, D) of the items first:last in float32, one item behind the other."""
        if self.device is not None:
            return torch.cat(list(self.each(first, last)))
        return torch.from_numpy(np.concatenate(list(self.each(first, last))))

    def parts(self, items: int = 1000) -> Iterator[tuple[torch.Tensor, Integers]]:
        """The frames of some ``items`` after those of others, see `together`, and how many each item has."""
        for first in range(0, len(self.rows), items):
            yield self.together(first, first + items), self.lengths[first : first + items]


def cut_frames(
    features: Mapping[str, Any],
    items: Items,
    frequency: Fraction,
    device: torch.device | None = None,
    slicing: str = "exact",
) -> Frames:
    """Cut each item's frames out of its file's features, a (T, D) array or tensor at ``frequency`` frames a second.

    ``slicing``: see `w2v_abx.items.frames.frame_spans`.

    An item may end one frame after its features do, as models lose a last frame: that frame is left out, and counted.
    An item shorter than a frame is left out, and named in ``skipped``.

    Files are kept whole, and as they are: what items share is there once, and nothing is copied that need not be. With
    a ``device``, they are sent there; features that lie on it do not leave it.

    Raises:
        InputError: a file has no features, or they are not finite numbers in two dimensions of one width, or an item
            ends further outside them, or they look like features at another frequency.
    """
    starts, stops = items.spans(frequency, slicing)
    names = items.frame[FILE]
    by_file = names.to_frame().with_row_index().group_by(FILE, maintain_order=True).agg("index")
    keys = matched(by_file[FILE].to_list(), features)
    missing = [name for name in by_file[FILE].to_list() if name not in keys]
    if missing:
        raise InputError(
            f"{items.where(int(names.index_of(missing[0]) or 0))}: there are no features for the file '{missing[0]}'"
            f"{f' (nor for {len(missing) - 1} other files)' if len(missing) > 1 else ''}; "
            f"features and items must name files alike; the features name {', '.join(map(repr, list(features)[:3]))}."
        )
    short = stops <= starts
    why = np.where(stops < starts, SHORT, SHORT if slicing == "exact" else DROPPED)
    files: list[Any] = []
    ends = [0]
    position = np.full(len(items), -1, dtype=np.int64)
    clipped = 0
    available: dict[str, int] = {}
    for name, rows in by_file.iter_rows():
        tensor = _checked(features[keys[name]], name, device or torch.device("cpu"))
        # numpy knows no bfloat16; other tensors are arrays that share their memory.
        files.append(tensor if device is not None or tensor.dtype == torch.bfloat16 else tensor.numpy())
        width = files[0].shape[1]
        if tensor.shape[1] != width:
            raise InputError(
                f"The features of '{name}' have {tensor.shape[1]} dimensions a frame, those of the files before it "
                f"{width}: all must come from one layer of one model."
            )
        available[name] = len(tensor)
        own = np.array(rows)[~short[rows]]
        over = stops[own] - len(tensor)
        stops[own] -= np.maximum(over, 0)
        clipped += int(((over > 0) & (stops[own] > starts[own])).sum())
        position[own] = ends[-1] + starts[own]
        ends.append(ends[-1] + len(tensor))
    check_rate(items, np.flatnonzero(~short), available, frequency)
    lengths = stops - starts
    rows = np.flatnonzero(lengths > 0)
    skipped = skipped_items(items, np.flatnonzero(lengths <= 0), np.where(short, why, LOST)[lengths <= 0])
    return Frames(rows, files, np.array(ends), position[rows], lengths[rows], skipped, clipped, device)


def _checked(features: Any, name: str, device: torch.device) -> torch.Tensor:
    """Features as a tensor on a device, of a float type of up to 32 bits, all of them finite.

    They are looked at where they are, if they are on the device, or else on the host.
    """
    tensor = _tensor(features, name)
    if tensor.device != device:
        tensor = tensor.cpu()
    if not tensor.is_floating_point():
        tensor = tensor.long()
        if tensor.numel() and max(-int(tensor.min()), int(tensor.max())) > EXACT_IN_FLOAT32:
            raise InputError(f"The features of '{name}' hold integers above 2^24, which float32 cannot tell apart.")
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    # One pass, and no array of flags: NaN is the least and the greatest of whatever holds it.
    if tensor.numel() and not all(torch.isfinite(bound) for bound in torch.aminmax(tensor)):
        frame = int(torch.nonzero(~torch.isfinite(tensor).all(dim=1))[0])
        raise InputError(f"The features of '{name}' hold a NaN or an infinite number, first in frame {frame}.")
    return tensor.to(device)


def _tensor(features: Any, name: str) -> torch.Tensor:
    """Numbers in two dimensions as a tensor. Raises InputError for anything else."""
    if isinstance(features, torch.Tensor):
        if features.ndim == 2 and features.shape[1] and not features.is_complex() and not features.is_sparse:
            return features.detach()
        what = f"{features.dtype} of shape {tuple(features.shape)}{' (sparse)' if features.is_sparse else ''}"
    else:
        try:
            array = np.asarray(features)
        except ValueError:  # rows of different lengths
            array = np.asarray(None)
        if array.ndim == 2 and array.dtype.kind in "fiub" and array.shape[1]:
            if array.dtype == np.uint64:
                array = np.minimum(array, EXACT_IN_FLOAT32 + 1)  # too large all the same, and fits a signed integer
            if array.dtype != np.float16:
                with np.errstate(over="ignore"):
                    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64, copy=False)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                return torch.from_numpy(np.ascontiguousarray(array))
        what = f"{array.dtype} of shape {array.shape}"
    raise InputError(
        f"The features of '{name}' must be numbers in two dimensions (frames, width), all rows alike, not {what}."
    )


def skipped_items(items: Items, rows: Integers, reasons: npt.NDArray[np.str_]) -> pl.DataFrame:
    """The items in some rows, with ``where`` they stand and the ``reason`` why each is left out."""
    return items.frame[rows].with_columns(
        pl.Series("where", [items.where(row) for row in rows.tolist()], dtype=pl.String),
        pl.Series("reason", reasons.tolist(), dtype=pl.String),
    )

"""The frames of each item, cut out of the features of its file."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from w2v_abx.abx.rates import check_rate
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items

__all__ = ["Frames", "WholeFiles", "cut_frames"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True)
class Frames:
    """Ragged frames of the items that have any.

    Attributes:
        rows: (N,) the row numbers, ascending, of the items that have frames.
        values: the frames of all files; or, where a device was given, a float32 tensor (T, D) of them on it.
        starts, lengths: (N,) where each item's frames lie in ``values``.
        skipped: the items without frames: their columns, plus ``where`` and ``reason``.
        clipped: how many items lost their last frame because their file's features end one frame early.
    """

    rows: Integers
    values: "WholeFiles | torch.Tensor"
    starts: Integers
    lengths: Integers
    skipped: pl.DataFrame
    clipped: int

    def parts(self, items: int = 1000) -> Iterator[tuple[torch.Tensor, Integers]]:
        """The frames of some ``items`` after those of others, (T, D) in float32, and how many each item has."""
        for first in range(0, len(self.rows), items):
            starts, lengths = self.starts[first : first + items], self.lengths[first : first + items]
            if isinstance(self.values, torch.Tensor):
                ends = np.cumsum(lengths) - lengths
                rows = np.arange(lengths.sum()) + np.repeat(starts - ends, lengths)
                yield self.values[torch.from_numpy(rows).to(self.values.device)], lengths
            else:
                yield torch.from_numpy(np.concatenate(list(self.values.stretches(starts, lengths)))), lengths


def cut_frames(
    features: Mapping[str, Any], items: Items, frequency: Fraction, device: torch.device | None = None
) -> Frames:
    """Cut each item's frames out of its file's features, a (T, D) array or tensor at ``frequency`` frames a second.

    An item may end one frame after its features do, as models lose a last frame: that frame is left out, and counted.
    An item shorter than a frame is left out, and named in ``skipped``.

    Files are kept whole, and as they are: what items share is there once, and nothing is copied that need not be. With
    a ``device``, they are sent there; features that lie on it do not leave it.

    Raises:
        InputError: a file has no features, or they are not finite numbers in two dimensions of one width, or an item
            ends further outside them, or they look like features at another frequency.
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
    gathered = WholeFiles() if device is None else _OnDevice(device)
    position = np.full(len(items), -1, dtype=np.int64)
    clipped = 0
    width: int | None = None
    available: dict[str, int] = {}
    for name, rows in by_file.iter_rows():
        array, first = gathered.add(features[name], name)
        width = width or array.shape[1]
        if array.shape[1] != width:
            raise InputError(
                f"The features of '{name}' have {array.shape[1]} dimensions a frame, those of the files before it "
                f"{width}: all must come from one layer of one model."
            )
        available[name] = len(array)
        own = np.array(rows)[~short[rows]]
        over = stops[own] - len(array)
        stops[own] -= np.maximum(over, 0)
        clipped += int(((over > 0) & (stops[own] > starts[own])).sum())
        position[own] = first + starts[own]
    check_rate(items, np.flatnonzero(~short), available, frequency)
    values = gathered.values(features)
    lengths = stops - starts
    rows = np.flatnonzero(lengths > 0)
    return Frames(rows, values, position[rows], lengths[rows], _skipped(items, short, lengths), clipped)


class WholeFiles:
    """The features of whole files on the host, as they came where they are floats of up to 32 bits."""

    def __init__(self) -> None:
        self._files: list[Any] = []
        self._ends: list[int] = [0]

    def add(self, features: Any, name: str) -> tuple[Any, int]:
        """Check the features of one more file; returns them, and the number of its first frame among all."""
        checked = _checked(features, name)
        # numpy knows no bfloat16; other tensors are arrays that share their memory.
        self._files.append(checked if checked.dtype == torch.bfloat16 else checked.numpy())
        self._ends.append(self._ends[-1] + len(checked))
        return checked, self._ends[-2]

    def values(self, _: Mapping[str, Any]) -> "WholeFiles":
        return self

    @classmethod
    def of(cls, values: torch.Tensor) -> "WholeFiles":
        """Features that are known to be right, (T, D), as one file."""
        files = cls()
        files._files, files._ends = [values.numpy()], [0, len(values)]
        return files

    @property
    def width(self) -> int:
        return int(self._files[0].shape[1])

    def stretches(self, starts: Integers, lengths: Integers) -> Iterator[Floats]:
        """The ``lengths`` frames from each of ``starts`` on, in float32."""
        files = np.searchsorted(self._ends, starts, side="right") - 1
        begins = starts - np.array(self._ends)[files]
        for file, begin, length in zip(files.tolist(), begins.tolist(), lengths.tolist(), strict=True):
            frames = self._files[file][begin : begin + length]
            if isinstance(frames, torch.Tensor):
                frames = frames.float().numpy()
            yield frames.astype(np.float32, copy=False)


class _OnDevice:
    """Whole files on a device. What is wrong with their numbers is asked once, when all have been sent."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._files: dict[str, torch.Tensor] = {}
        self._faults: list[torch.Tensor] = []
        self._begin = self._end = 0

    def add(self, features: Any, name: str) -> tuple[torch.Tensor, int]:
        """As :meth:`WholeFiles.add`."""
        there = isinstance(features, torch.Tensor) and features.device == self._device
        if not there or features.is_complex() or features.ndim != 2 or not features.shape[1]:
            features = _checked(features, name).to(self._device)
        features = features.detach()
        single = features.float()
        fault = ~torch.isfinite(single).all()
        if features.dtype in (torch.int32, torch.int64):
            fault |= ((features > EXACT_IN_FLOAT32) | (features < -EXACT_IN_FLOAT32)).any()
        self._files[name] = single
        self._faults.append(fault)
        self._begin, self._end = self._end, self._end + len(single)
        return single, self._begin

    def values(self, features: Mapping[str, Any]) -> torch.Tensor:
        """All files, one behind the other; raises InputError as :func:`_checked` for the first with a fault."""
        faults = torch.stack(self._faults).tolist()
        for name, fault in zip(self._files, faults, strict=True):
            if fault:
                _checked(features[name], name)
        return torch.cat(list(self._files.values()))


def _checked(features: Any, name: str) -> torch.Tensor:
    """Features as a tensor on the host, of a float type of up to 32 bits, all of them finite."""
    tensor = _tensor(features, name)
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
    return tensor


def _tensor(features: Any, name: str) -> torch.Tensor:
    """Numbers in two dimensions as a tensor on the host; raises InputError for anything else."""
    if isinstance(features, torch.Tensor):
        if features.ndim == 2 and features.shape[1] and not features.is_complex() and not features.is_sparse:
            return features.detach().cpu()
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


def _skipped(items: Items, short: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]) -> pl.DataFrame:
    gone = np.flatnonzero(lengths <= 0)
    reasons = ["shorter than a frame" if short[row] else "only in the last frame, which was lost" for row in gone]
    return items.frame[gone].with_columns(
        pl.Series("where", [items.where(int(row)) for row in gone], dtype=pl.String),
        pl.Series("reason", reasons, dtype=pl.String),
    )

"""Features that are kept for scoring: only the frames that some item needs, where there is room for them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items, exact_frequency

__all__ = ["Gather", "Kept", "KeptFeatures", "NeededFrames", "Room", "exchange", "keep_layers"]

Gather = Callable[[Tensor], list[Tensor]]  # a vector of bytes in, those of all ranks out, by rank


ALIGNED = 16  # bytes: the start of each tensor among others


class Kept(NamedTuple):
    """What is kept of a file that has ``length`` frames: the needed ones of them, or all, (K, D)."""

    length: int
    frames: Tensor


class Room:
    """Whether features may stay on the accelerator that they came on.

    They may as long as all that stay take at most ``limit`` bytes: by default half of the memory that is free when the
    first features come, so that the model and the scoring have the rest. What is more goes to the CPU's memory.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 0:
            raise InputError(f"device_bytes must be zero or more (or null for half of what is free), not {limit}.")
        self.limit, self.used = limit, 0
        self._free: int | None = limit

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor where it is, or a copy on the CPU."""
        if tensor.device.type == "cpu":
            return tensor
        if self._free is None:
            self._free = free_bytes(tensor.device) // 2
        if self.used + tensor.nbytes > self._free:
            return tensor.cpu()
        self.used += tensor.nbytes
        return tensor

    def clear(self) -> None:
        """Nothing is held any more."""
        self.used, self._free = 0, self.limit


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a CUDA device; none on other accelerators, which cannot tell."""
    if device.type != "cuda":
        return 0
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held by torch, and not in use
    return torch.cuda.mem_get_info(device)[0] + idle


class NeededFrames:
    """Which frames of which files some item needs, at ``frequency`` frames a second.

    Attributes:
        files: the files of the items, sorted.
        number: the position of each in ``files``.
    """

    def __init__(self, items: Items, frequency: float | str | Decimal | Fraction) -> None:
        starts, stops = items.spans(exact_frequency(frequency))
        names = items.frame[FILE].to_numpy()
        order = np.argsort(names, kind="stable")
        self.files, firsts = np.unique(names[order], return_index=True)
        self.files = self.files.tolist()
        self.number: dict[str, int] = {name: number for number, name in enumerate(self.files)}
        self._spans = [(starts[rows], stops[rows]) for rows in np.split(order, firsts[1:])]

    def rows(self, number: int, length: int) -> npt.NDArray[np.int64]:
        """The numbers of the needed frames of a file that has ``length`` of them."""
        starts, stops = (np.clip(edges, 0, length) for edges in self._spans[number])
        change = np.zeros(length + 1, dtype=np.int64)
        np.add.at(change, starts[stops > starts], 1)
        np.add.at(change, stops[stops > starts], -1)
        return np.flatnonzero(np.cumsum(change[:-1]) > 0)

    def take(self, names: Sequence[str], features: Tensor, lengths: Tensor) -> dict[str, Kept]:
        """The needed frames out of a batch: copies, of those files that the items name.

        A file with a number that is not finite is kept whole, so that scoring can say which frame it is in.

        Args:
            names: the files of the batch, B of them.
            features: (B, F, D), of any floating type.
            lengths: (B,) how many of the F frames belong to each file.

        Raises:
            InputError: the shapes do not fit each other, or the features are not floating point.
        """
        names = list(names)
        if features.ndim != 3 or not features.is_floating_point():
            kind = f"{features.dtype} of shape {tuple(features.shape)}"
            raise InputError(f"A batch of features must be floating point (files, frames, width), not {kind}.")
        if len(names) != len(features) or lengths.shape != (len(names),):
            raise InputError(
                f"A batch has {len(names)} names, {len(features)} rows of features and lengths of shape "
                f"{tuple(lengths.shape)}: there must be as many of each."
            )
        features, counts = features.detach(), [int(count) for count in lengths.tolist()]
        for name, count in zip(names, counts, strict=True):
            if not 0 <= count <= features.shape[1]:
                raise InputError(f"The file '{name}' is said to have {count} frames of {features.shape[1]}.")
        finite = torch.isfinite(features).all(dim=2).cpu().numpy()
        kept: dict[str, Kept] = {}
        for row, (name, count) in enumerate(zip(names, counts, strict=True)):
            if name not in self.number or name in kept:
                continue
            needed = self.rows(self.number[name], count)
            if len(needed) == count or not finite[row, :count].all():
                kept[name] = Kept(count, features[row, :count].clone())
            else:
                kept[name] = Kept(count, features[row, torch.from_numpy(needed).to(features.device)])
        return kept

    def restore(self, name: str, kept: Kept) -> Tensor:
        """The features of a file, (length, D): those of the frames that no item needs are zero."""
        length, frames = kept
        if len(frames) == length:
            return frames
        whole = frames.new_zeros(length, frames.shape[1])
        whole[torch.from_numpy(self.rows(self.number[name], length)).to(frames.device)] = frames
        return whole


def keep_layers(
    kept: dict[int, dict[str, Kept]],
    needed: NeededFrames,
    room: Room,
    names: Sequence[str],
    hidden: Sequence[Tensor],
    lengths: Tensor,
) -> None:
    """Add the needed frames of a batch to what is ``kept`` of each layer; ``hidden`` has its features by layer."""
    for own, features in zip(kept.values(), hidden, strict=True):
        for name, (length, frames) in needed.take(names, features, lengths).items():
            own[name] = Kept(length, room.place(frames))


class KeptFeatures(Mapping[str, Tensor]):
    """Kept features as a mapping from files to (length, D) tensors, each made when it is asked for."""

    def __init__(self, needed: NeededFrames, kept: Mapping[str, Kept]) -> None:
        self.needed, self.kept = needed, kept

    def __getitem__(self, name: str) -> Tensor:
        return self.needed.restore(name, self.kept[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    def frames(self) -> Tensor:
        """All kept frames, (N, D) in float32 on the CPU, file by file in the order of their names."""
        return torch.cat([self.kept[name].frames.float().cpu() for name in sorted(self.kept)])


def exchange(kept: Mapping[str, Kept], gather: Gather) -> dict[str, Kept]:
    """What all ranks have kept: of a file that several have, what the lowest of them has.

    It comes to rest on the device of this rank's own features, or on the CPU where that has no room for all.
    """
    own = list(kept.items())
    headers = [
        json.loads(bytes(part.cpu().numpy()))
        for part in gather(
            _bytes(json.dumps([[name, length, str(x.dtype)[6:], list(x.shape)] for name, (length, x) in own]).encode())
        )
    ]
    device = own[0][1].frames.device if own else torch.device("cpu")
    total = sum(_size(kind, shape) for header in headers for _, _, kind, shape in header)
    if device.type != "cpu" and 2 * total > free_bytes(device):
        device = torch.device("cpu")
    gathered: dict[str, Kept] = {}
    for header, data in zip(headers, gather(_pack([frames.to(device) for _, (_, frames) in own])), strict=True):
        begin = 0
        for name, length, kind, shape in header:
            end = begin + _size(kind, shape)
            frames = data[begin:end].view(getattr(torch, kind)).reshape(shape)
            gathered.setdefault(name, Kept(length, frames))
            begin = end + (-end) % ALIGNED
    return gathered


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _size(kind: str, shape: list[int]) -> int:
    dtype: torch.dtype = getattr(torch, kind)
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _pack(tensors: list[Tensor]) -> Tensor:
    """The bytes of some tensors, one after another; each starts where any type can be read from."""
    parts: list[Any] = []
    for tensor in tensors:
        data = tensor.contiguous().reshape(-1).view(torch.uint8)
        parts += [data, data.new_zeros((-data.numel()) % ALIGNED)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8)

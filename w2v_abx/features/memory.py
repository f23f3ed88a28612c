"""Features in memory, by layer and file: the frames that some item needs, on the accelerator while it has room."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items, exact_frequency
from w2v_abx.system.text import nfc

__all__ = ["Add", "AllGather", "DeviceBudget", "FileFrames", "LayerFeatures", "NeededFrames", "collecting", "gathered"]

AllGather = Callable[[Tensor], list[Tensor]]  # a vector of bytes in, those of all ranks out, by rank

# Of a batch: clips, of each layer (B, F, D), and the frames of each clip (B,).
Add = Callable[[Sequence[str], Sequence[Tensor], Tensor], None]

ALIGNMENT_BYTES = 16  # bytes: the start of each tensor among others


class FileFrames(NamedTuple):
    """The stored frames (K, D) of a file that has ``length`` frames: those that are needed, or all."""

    length: int
    frames: Tensor


class DeviceBudget:
    """Bytes of features that may stay on the accelerator that they came on; what is more goes to the CPU's memory.

    ``limit``: the bytes; None: half of the memory that is free when the first features come, so that the model and the
    scoring have the rest.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 0:
            raise InputError(f"device_bytes must be zero or more (or null for half of what is free), not {limit}.")
        self.limit = self._free = limit

    def place(self, tensor: Tensor) -> Tensor:
        """Return the tensor where it is, or a copy on the CPU."""
        if tensor.device.type == "cpu":
            return tensor
        if self._free is None:
            self._free = free_bytes(tensor.device) // 2
        if tensor.nbytes > self._free:
            return tensor.cpu()
        self._free -= tensor.nbytes
        return tensor

    def clear(self) -> None:
        """Count from nothing again."""
        self._free = self.limit


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a CUDA device; none on other accelerators, which do not say."""
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

    def take(self, names: Sequence[str], features: Tensor, lengths: Tensor) -> dict[str, FileFrames]:
        """Copy the needed frames of those files of a batch that the items name.

        Of a file with a number that is not finite all frames are taken, so that scoring can say which one it is in.

        Args:
            names: the files of the batch, B of them.
            features: (B, F, D), of any floating type.
            lengths: (B,) how many of the F frames belong to each file.

        Raises:
            InputError: the shapes do not fit each other, or the features are not floating point.
        """
        names = list(map(nfc, names))
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
        taken: dict[str, FileFrames] = {}
        for row, (name, count) in enumerate(zip(names, counts, strict=True)):
            if name not in self.number or name in taken:
                continue
            needed = self.rows(self.number[name], count)
            if len(needed) == count or not finite[row, :count].all():
                taken[name] = FileFrames(count, features[row, :count].clone())
            else:
                taken[name] = FileFrames(count, features[row, torch.from_numpy(needed).to(features.device)])
        return taken

    def restore(self, name: str, stored: FileFrames) -> Tensor:
        """The features of a file, (length, D): those of the frames that no item needs are zero."""
        length, frames = stored
        if len(frames) == length:
            return frames
        whole = frames.new_zeros(length, frames.shape[1])
        whole[torch.from_numpy(self.rows(self.number[name], length)).to(frames.device)] = frames
        return whole


class LayerFeatures(Mapping[str, Tensor]):
    """Features of one layer: a mapping from files to (length, D) tensors, each made when it is asked for.

    Args:
        needed: the frames that are stored, of the files that it names; None: all frames of all files.
        stored: by file.
    """

    def __init__(self, needed: NeededFrames | None, stored: Mapping[str, FileFrames] | None = None) -> None:
        self.needed, self.stored = needed, dict(stored or {})

    def __getitem__(self, name: str) -> Tensor:
        stored = self.stored[name]
        return stored.frames if self.needed is None else self.needed.restore(name, stored)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def add(self, names: Sequence[str], features: Tensor, lengths: Tensor, budget: DeviceBudget) -> None:
        """Store the frames of a batch (B, F, D), of which each file has so many (B,)."""
        if self.needed is not None:
            taken = self.needed.take(names, features, lengths)
        else:
            rows = zip(names, features.detach(), lengths.tolist(), strict=True)
            taken = {name: FileFrames(count, row[:count].clone()) for name, row, count in rows}
        for name, (length, frames) in taken.items():
            self.stored[name] = FileFrames(length, budget.place(frames))

    def frames(self) -> Tensor:
        """All stored frames, (N, D) in float32 on the CPU, file by file in the order of their names."""
        return torch.cat([self.stored[name].frames.float().cpu() for name in sorted(self.stored)])

    def gather(self, all_gather: AllGather) -> "LayerFeatures":
        """The features of all ranks: of a file that several have, those of the lowest of them.

        They come to rest on the device of this rank's own, or on the CPU where that has no room for all.
        """
        own = list(self.stored.items())
        rows = [[name, length, str(frames.dtype)[6:], list(frames.shape)] for name, (length, frames) in own]
        header = torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)
        headers = [json.loads(bytes(part.cpu().numpy())) for part in all_gather(header)]
        device = own[0][1].frames.device if own else torch.device("cpu")
        total = sum(_size(kind, shape) for rows in headers for _, _, kind, shape in rows)
        if device.type != "cpu" and 2 * total > free_bytes(device):
            device = torch.device("cpu")
        gathered: dict[str, FileFrames] = {}
        packed = all_gather(_pack(frames.to(device) for _, (_, frames) in own))
        for rows, data in zip(headers, packed, strict=True):
            begin = 0
            for name, length, kind, shape in rows:
                end = begin + _size(kind, shape)
                frames = data[begin:end].view(getattr(torch, kind)).reshape(shape)
                gathered.setdefault(name, FileFrames(length, frames))
                begin = end + (-end) % ALIGNMENT_BYTES
        return LayerFeatures(self.needed, gathered)


def collecting(layers: Iterable[int], needed: NeededFrames | None) -> tuple[dict[int, LayerFeatures], Add]:
    """Start the features of some ``layers``, and give a function that adds a batch's to them under one budget."""
    features, budget = {layer: LayerFeatures(needed) for layer in layers}, DeviceBudget()

    def add(keys: Sequence[str], hidden: Sequence[Tensor], lengths: Tensor) -> None:
        for own, values in zip(features.values(), hidden, strict=True):
            own.add(keys, values, lengths, budget)

    return features, add


def gathered(features: dict[int, LayerFeatures], ranks: DistributedRanks | None) -> Iterator[tuple[int, LayerFeatures]]:
    """Yield layer after layer the features of all ``ranks`` (None: there is one), each of which comes with its own.

    ``features`` is emptied: no more than one layer is held twice.
    """
    for layer in list(features):
        own = features.pop(layer)
        yield layer, own if ranks is None else own.gather(ranks.gather)


def _size(kind: str, shape: list[int]) -> int:
    dtype: torch.dtype = getattr(torch, kind)
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _pack(tensors: Iterable[Tensor]) -> Tensor:
    """The bytes of some tensors, one after another; each starts where any type can be read from."""
    parts = [torch.empty(0, dtype=torch.uint8)]
    for tensor in tensors:
        data = tensor.contiguous().reshape(-1).view(torch.uint8)
        parts += [data, data.new_zeros((-data.numel()) % ALIGNMENT_BYTES)]
    return torch.cat(parts[1:] or parts)

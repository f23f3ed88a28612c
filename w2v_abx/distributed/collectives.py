"""Collectives of the processes that train or evaluate together: sums, largest values, gathered values, errors.

Every function and method is a collective: all ranks call it, in the same order. In one process each function returns
what it was given.

Gradients and losses travel over the process group of the device (NCCL), where nothing waits for the device. What
decides what the host does next travels over a group on the CPU (gloo): that does not wait for the device either,
and a rank that rests or is slow is waited for rather than given up.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from w2v_abx.errors import InputError

__all__ = [
    "DistributedRanks",
    "agree",
    "alone",
    "current_rank",
    "gather",
    "gather_rows",
    "largest",
    "sum_gradients",
    "sum_named",
    "sum_over_ranks",
    "world_size",
]

CPU_TIMEOUT = timedelta(days=1)  # of a collective on the CPU, where a rank hangs: one that ends is noticed at once
BUCKET_BYTES = 1 << 25  # of gradients that are copied together and reduced at once
STAGED_BYTES = 1 << 28  # that are sent at once: what has to be copied to a GPU for it is never more

Number = TypeVar("Number", float, Tensor, float | Tensor)


class DistributedRanks:
    """The ranks of a ``torch.distributed`` process group (gloo or NCCL).

    Attributes:
        rank, size: this process's number in the group, and how many there are.
    """

    def __init__(self, group: Any = None) -> None:
        """``group``: a process group, None for all processes. Raises InputError without ``torch.distributed``."""
        if not (dist.is_available() and dist.is_initialized()):
            raise InputError("There are no ranks to share the work: torch.distributed is not initialised.")
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        # NCCL moves tensors on the GPU alone; a group that has gloo, too, takes those of the CPU.
        on_gpu = "cpu:" not in dist.get_backend_config(group)
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """All-reduce the sum of an int64, float64 or float32 array of one shape everywhere.

        Where at most one rank has another number than zero, as where each rank scores its own cells, it is exact.
        """
        tensor = torch.from_numpy(np.array(values, order="C")).to(self._device)
        dist.all_reduce(tensor, group=self.group)
        total: npt.NDArray[Any] = tensor.cpu().numpy()
        return total

    def gather(self, data: Tensor) -> list[Tensor]:
        """Gather the uint8 vectors of all ranks, of any lengths, by rank; on the device of this rank's own."""
        lengths = torch.zeros(self.size, dtype=torch.int64, device=self._device)
        lengths[self.rank] = data.numel()
        dist.all_reduce(lengths, group=self.group)
        gathered = []
        for rank, length in enumerate(lengths.tolist()):
            received = data if rank == self.rank else torch.empty(length, dtype=torch.uint8, device=data.device)
            source = rank if self.group is None else dist.get_global_rank(self.group, rank)
            for part in received.split(STAGED_BYTES) if length else ():
                staged = part.to(self._device)
                dist.broadcast(staged, source, group=self.group)
                if staged.data_ptr() != part.data_ptr() and rank != self.rank:
                    part.copy_(staged)
            gathered.append(received)
        return gathered

    def gather_json(self, value: Any) -> list[Any]:
        """Gather a JSON value of each rank, by rank. Unlike ``all_gather_object``, it unpickles nothing."""
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(bytes(part.numpy())) for part in self.gather(data)]

    def agree(self, error: Exception | None) -> None:
        """Raise on every rank if any of them comes with an error: its own there, elsewhere one that quotes it.

        So none waits for one that has ended.
        """
        messages = self.gather_json(None if error is None else str(error) or type(error).__name__)
        if error is not None:
            raise error
        for rank, message in enumerate(messages):
            if message is not None:
                raise InputError(f"Rank {rank} of {self.size} failed: {message}")


_cpu_group: tuple[Any, DistributedRanks] | None = None
_alone = False


def world_size() -> int:
    """Count the processes that train together."""
    if _alone or not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


def current_rank() -> int:
    """Return this process's number among those that train together."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """Let this process be the only one: what ranks do in different numbers, such as trials, waits for none."""
    global _alone  # noqa: PLW0603 as the process group is
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def cpu_group() -> DistributedRanks:
    """Return all ranks, over a process group that takes tensors of the CPU."""
    global _cpu_group  # noqa: PLW0603 a group is made once, by all ranks, and lasts as long as the processes' own
    if _cpu_group is None or _cpu_group[0] is not dist.group.WORLD:
        _cpu_group = dist.group.WORLD, DistributedRanks(dist.new_group(backend="gloo", timeout=CPU_TIMEOUT))
    return _cpu_group[1]


def largest(values: Sequence[int]) -> list[int]:
    """All-reduce the largest of each value (int64)."""
    if world_size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX, cpu_group().group)
    found: list[int] = tensor.tolist()
    return found


def gather(value: Any) -> list[Any]:
    """Gather a JSON value of each rank, by rank."""
    return [value] if world_size() == 1 else cpu_group().gather_json(value)


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all ranks, by rank: (N, …) on the CPU, of one type and of as many columns everywhere."""
    if world_size() == 1:
        return rows
    parts = cpu_group().gather(rows.contiguous().view(torch.uint8).flatten())
    return torch.cat([part.view(rows.dtype).view(-1, *rows.shape[1:]) for part in parts])


def agree(error: Exception | None = None) -> None:
    """Raise on every rank if any of them comes with an error: see `DistributedRanks.agree`."""
    if world_size() > 1:
        cpu_group().agree(error)
    elif error is not None:
        raise error


def sum_over_ranks(value: Number) -> Number:
    """All-reduce the sum: of a number over the CPU group, of a tensor on its device."""
    if world_size() == 1:
        return value
    if isinstance(value, Tensor):
        return _add(value.detach().clone())
    return type(value)(_add(torch.tensor(value, dtype=torch.float64)).item())


def sum_named(values: Mapping[str, float]) -> dict[str, float]:
    """All-reduce the sums of numbers of the same names, in one exchange between the hosts."""
    names = sorted(values)
    summed = sum_over_ranks(torch.tensor([values[name] for name in names], dtype=torch.float64))
    return dict(zip(names, summed.tolist(), strict=True))


def sum_gradients(gradients: Iterable[Tensor]) -> None:
    """All-reduce the sum of each gradient in place, the same on every rank."""
    if world_size() == 1:
        return
    for bucket in _buckets(gradients):
        if len(bucket) == 1 and bucket[0].is_contiguous():
            _add(bucket[0])
            continue
        summed = _add(torch.cat([gradient.flatten() for gradient in bucket]))
        parts = summed.split([gradient.numel() for gradient in bucket])
        torch._foreach_copy_(bucket, [part.view_as(gradient) for part, gradient in zip(parts, bucket, strict=True)])


def _add(tensor: Tensor) -> Tensor:
    """All-reduce the sum of a tensor in place, and return it."""
    dist.all_reduce(tensor, group=cpu_group().group if tensor.device.type == "cpu" else None)
    return tensor


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group neighbours of one type and device, together no larger than a bucket unless there is only one."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        alike = bucket and (gradient.dtype, gradient.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and not (alike and size + gradient.nbytes <= BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket

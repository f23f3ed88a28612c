"""Collectives of the processes that train together: sums, largest values, gathered values, errors.

Every function is a collective: all ranks call it, in the same order. In one process each returns what it was given.

Gradients and losses travel over the process group of the device (NCCL), where nothing waits for the device. What
decides what the host does next travels over a group on the CPU (gloo): that does not wait for the device either,
and a rank that rests or is slow is waited for rather than given up.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from w2v_abx.distributed.ranks import DistributedRanks

__all__ = [
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

PATIENCE = timedelta(days=1)  # a process that ends is noticed at once; this is for one that hangs
LARGE = 1 << 20  # bytes of a gradient that travels by itself
BUCKET = 1 << 25  # bytes of others that travel together

Number = TypeVar("Number", float, Tensor, float | Tensor)

_cpu_group: tuple[Any, "DistributedRanks"] | None = None
_alone = False


def world_size() -> int:
    """Count the processes that train together."""
    if _alone or not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


def current_rank() -> int:
    """This process's number among those that train together."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """In here this process is by itself: what ranks do in different numbers, such as trials, waits for none."""
    global _alone  # noqa: PLW0603 as the process group is
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def cpu_group() -> "DistributedRanks":
    """All ranks, over a process group that takes tensors of the CPU."""
    global _cpu_group  # noqa: PLW0603 a group is made once, by all ranks, and lasts as long as the processes' own
    from w2v_abx.distributed.ranks import DistributedRanks  # its package loads kernels, which one process does not need

    if _cpu_group is None or _cpu_group[0] is not dist.group.WORLD:
        _cpu_group = dist.group.WORLD, DistributedRanks(dist.new_group(backend="gloo", timeout=PATIENCE))
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
    """The rows of all ranks, by rank: (N, …) on the CPU, of one type and of as many columns everywhere."""
    if world_size() == 1:
        return rows
    parts = cpu_group().gather(rows.contiguous().view(torch.uint8).flatten())
    return torch.cat([part.view(rows.dtype).view(-1, *rows.shape[1:]) for part in parts])


def agree(error: Exception | None = None) -> None:
    """Raise on every rank if any of them comes with an error: its own there, elsewhere an InputError that quotes it.

    So that none waits for one that is gone.
    """
    if world_size() > 1 and any(largest([error is not None])):
        cpu_group().agree(error)
    if error is not None:
        raise error


def sum_over_ranks(value: Number) -> Number:
    """All-reduce the sum: of a number over the CPU group, of a tensor on its device."""
    if world_size() == 1:
        return value
    if isinstance(value, Tensor):
        return _add(value.detach().clone())
    return type(value)(_add(torch.tensor(value, dtype=torch.float64)).item())


def sum_named(values: Mapping[str, float]) -> dict[str, float]:
    """Sum numbers of the same names over ranks, in one exchange between the hosts."""
    if world_size() == 1:
        return dict(values)
    names = sorted(values)
    summed = _add(torch.tensor([values[name] for name in names], dtype=torch.float64)).tolist()
    return dict(zip(names, summed, strict=True))


def sum_gradients(gradients: Iterable[Tensor]) -> None:
    """Each gradient becomes, in place, its sum over ranks, the same on every rank."""
    if world_size() == 1:
        return
    small = []
    for gradient in gradients:
        if gradient.nbytes >= LARGE and gradient.is_contiguous():
            _add(gradient)
        else:
            small.append(gradient)
    for bucket in _buckets(small):
        summed = _add(torch.cat([gradient.flatten() for gradient in bucket]))
        parts = summed.split([gradient.numel() for gradient in bucket])
        torch._foreach_copy_(bucket, [part.view_as(gradient) for part, gradient in zip(parts, bucket, strict=True)])


def _add(tensor: Tensor) -> Tensor:
    """The tensor, which has become its sum over ranks."""
    dist.all_reduce(tensor, group=cpu_group().group if tensor.device.type == "cpu" else None)
    return tensor


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type and device, together no larger than a bucket where they are not one."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        alike = bucket and (gradient.dtype, gradient.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and not (alike and size + gradient.nbytes <= BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket

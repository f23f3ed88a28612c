"""Synchronise the ranks of a step, each of which has run its clips or failed."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from w2v_abx.distributed.collectives import agree, gather, largest, sum_over_ranks
from w2v_abx.training.microbatch.finite import Finiteness
from w2v_abx.training.microbatch.memory import MemoryLimit

__all__ = ["sum_losses", "synchronize"]

NO_LIMIT = 1 << 62  # clips or samples: stands for no limit where ranks compare theirs


def synchronize(
    sums: dict[str, Tensor], parameters: Sequence[nn.Parameter], memory: Sequence[MemoryLimit], error: Exception | None
) -> list[int]:
    """Agree among ranks on what there is to sum. Returns whether any rank has a gradient of each of the parameters.

    Adds to ``sums`` what only others have, and settles on the smallest of the ranks' memory limits. The host waits for
    other hosts, not for its device. Raises on all ranks if one comes with an error.
    """
    checksum = zlib.crc32("\n".join(sorted(sums)).encode())
    failed, most, least, *rest = largest(
        [
            error is not None,
            checksum,
            -checksum,
            *(-(size or NO_LIMIT) for limit in memory for size in (limit.size, limit.failed)),
            *(parameter.grad is not None for parameter in parameters),
        ]
    )
    if failed:
        agree(error)
    if most != -least:  # a rank without clips of a kind has no loss of theirs
        for name in {name for names in gather([*sums]) for name in names}:
            sums.setdefault(name, torch.zeros_like(sums["loss"]))
    for limit in memory:
        size, failure, *rest = rest
        limit.settle(*(None if value == -NO_LIMIT else -value for value in (size, failure)))
    return rest


def sum_losses(sums: dict[str, Tensor], step: Finiteness) -> dict[str, Tensor]:
    """Sum losses over all ranks, and with them whether the step is finite."""
    names = sorted(sums)
    values = [*(sums[name] for name in names), step.failures()]
    *summed, failures = sum_over_ranks(torch.stack([value.to(sums["loss"]) for value in values])).unbind()
    step.found = (failures > 0) | ~torch.isfinite(summed[names.index("loss")])
    return dict(zip(names, summed, strict=True))

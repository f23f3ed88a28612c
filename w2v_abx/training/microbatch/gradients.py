"""The gradients of a step: summed over ranks, measured, and clipped."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from w2v_abx.distributed.collectives import sum_gradients, sum_over_ranks

__all__ = ["clip", "gradient_norm", "is_sharded", "parameters_of", "sum_used"]


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """What the optimiser trains, in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def is_sharded(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether ranks hold a part of the parameters each (FSDP), whose gradients come summed from the backward pass."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)


def sum_used(parameters: Sequence[nn.Parameter], used: Sequence[int]) -> None:
    """Sum the gradients of parameters over ranks; ``used`` tells of each whether any rank has one."""
    gradients = []
    for parameter, anywhere in zip(parameters, used, strict=True):
        if anywhere and not isinstance(parameter, DTensor):
            if parameter.grad is None:  # this rank has dropped the layer
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    sum_gradients(gradients)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients, a scalar on their device, the same on all ranks."""
    whole, parts = _local(parameters)
    norm = get_total_norm(whole)
    if parts:
        norm = (norm.square() + sum_over_ranks(get_total_norm(parts).square())).sqrt()
    return norm


def clip(parameters: Iterable[nn.Parameter], most: float, norm: Tensor) -> None:
    """Scale gradients of 2-norm ``norm`` so that it is ``most`` at most, as ``torch.nn.utils.clip_grad_norm_`` does."""
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    whole, parts = _local(parameters)
    for gradients in (whole, parts):
        if gradients:
            torch._foreach_mul_(gradients, factor)


def _local(parameters: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients that every rank has whole, and this rank's parts of the others, to be changed in place."""
    whole, parts = [], []
    for parameter in parameters:
        if isinstance(parameter.grad, DTensor):
            parts.append(parameter.grad.to_local())
        elif parameter.grad is not None:
            whole.append(parameter.grad)
    return whole, parts

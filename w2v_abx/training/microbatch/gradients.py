"""The gradients of a step: summed over ranks, and measured."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from w2v_abx.distributed.collectives import sum_gradients

__all__ = ["gradient_norm", "parameters_of", "sum_used"]


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """What the optimiser trains, in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def sum_used(parameters: Sequence[nn.Parameter], used: Sequence[int]) -> None:
    """Sum the gradients of parameters over ranks; ``used``: whether any rank has one of each."""
    gradients = []
    for parameter, anywhere in zip(parameters, used, strict=True):
        if anywhere:
            if parameter.grad is None:  # this rank has dropped the layer
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    sum_gradients(gradients)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Compute the 2-norm of all gradients, a scalar on their device."""
    return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])

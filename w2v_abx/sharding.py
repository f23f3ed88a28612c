"""A model divided among ranks (FSDP): each holds a part of the weights, of their gradients and of the optimiser."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from w2v_abx.encoder import Encoder
from w2v_abx.errors import InputError

__all__ = ["brought_together", "check_shardable", "full_state", "shard"]


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the encoders in ``module`` over the ranks of ``mesh``, block by block; what else it has, all ranks have.

    A block's weights are brought together while it runs. Gradients are summed over ranks, not averaged. Zhao et al.
    (2023), PyTorch FSDP: experiences on scaling fully sharded data parallel.

    Raises:
        InputError: see `check_shardable`.
    """
    for encoder in check_shardable(module):
        if isinstance(encoder, FSDPModule):
            continue  # for a loop that came before
        for part in (*encoder.model.encoder.layers, encoder):
            sharded = fully_shard(part, mesh=mesh)
            sharded.set_gradient_divide_factor(1.0)
            if mesh.device_type == "cpu":
                sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def check_shardable(module: nn.Module) -> list[Encoder]:
    """The encoders in ``module``. Raises InputError for none, and for one that skips blocks at random."""
    encoders = [part for part in module.modules() if isinstance(part, Encoder)]
    if not encoders:
        raise InputError(
            "trainer=fsdp divides an encoder among processes, and this objective has none; take trainer=ddp"
        )
    for encoder in encoders:
        if encoder.model.config.layerdrop > 0:
            raise InputError(
                "with trainer=fsdp all processes run the same blocks, which a model that skips some at random does "
                "not: set model.layer_drop=0"
            )
    return encoders


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``module`` with whole tensors, on the CPU and in every rank; all ranks call it."""
    for part in _sharded(module):
        part.reshard()
    state = {}
    for name, value in module.state_dict().items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        state[name] = whole.detach().cpu()
    return state


@contextmanager
def brought_together(module: nn.Module) -> Iterator[None]:
    """While it lasts, each rank has all weights, and forward passes, of which it may make any number, ask no other."""
    parts = _sharded(module)
    with torch.no_grad():
        for part in parts:
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(not isinstance(part, Encoder), recurse=False)  # as `fully_shard` has it
            part.reshard()


def _sharded(module: nn.Module) -> list[FSDPModule]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]

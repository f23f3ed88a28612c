"""A model divided among ranks (FSDP): each holds a part of the weights, of their gradients and of the optimiser."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder

__all__ = ["Sharded", "brought_together", "check_shardable", "full_state", "shard"]


class Sharded(ModelParallelStrategy):
    """The strategy of ``trainer=fsdp``: an objective's encoder is divided by `shard`.

    Checkpoints are those of one process, with whole weights and optimiser states, and either kind of training goes on
    from them. (Lightning's own want a state for every parameter, and one that no clip has used yet has none.)
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
        super().setup_environment()
        self._device_mesh = self.device_mesh["data_parallel"]

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole, in the first rank."""
        assert self.lightning_module is not None
        return full_state(self.lightning_module, keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer | LightningOptimizer) -> dict[str, Any]:
        """Whole, in the first rank."""
        raw = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state = raw.state_dict()
        state["state"] = {number: _whole(values, self.is_global_zero) for number, values in state["state"].items()}
        return state

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Tensors are read when they are used: no rank needs room for all of them."""
        path = self.broadcast(str(checkpoint_path))
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return found

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module = self.lightning_module
        assert module is not None
        here = module.state_dict()
        parts = {name: _part(value, here.get(name)) for name, value in checkpoint["state_dict"].items()}
        module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                number: {name: _part(value, parameters[number]) for name, value in values.items()}
                for number, values in whole["state"].items()
            }
            optimizer.load_state_dict({**whole, "state": parts})


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


def full_state(module: nn.Module, *, keep: bool = True) -> dict[str, Any]:
    """The state dict of ``module`` with whole tensors, on the CPU. All ranks call it; those that ``keep`` it get it."""
    for part in _sharded(module):
        part.reshard()
    return _whole(module.state_dict(), keep)


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


def _whole(values: Mapping[str, Any], keep: bool) -> dict[str, Any]:
    """Whole tensors, one after another, so that a rank that keeps none of them has room for one."""
    whole: dict[str, Any] = {}
    for name, value in values.items():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            whole[name] = full.detach().cpu() if isinstance(full, Tensor) else full
    return whole


def _part(value: Any, like: Any) -> Any:
    """This rank's part of a whole tensor that belongs to a divided one of its shape; anything else as it is."""
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return value

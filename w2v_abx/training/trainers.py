"""Lightning trainers, made for what this machine has and for the ranks of this job."""

import re
from typing import Any

import lightning
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from omegaconf import DictConfig, OmegaConf

from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.system.signals import reinstate

__all__ = ["evaluation_trainer", "processes", "training_trainer", "watching"]


def processes(config: DictConfig) -> tuple[int, int]:
    """Nodes, and processes on each of them, that ``config`` asks for. Raises InputError as `training_trainer` does."""
    trainer = _made(config, logger=False, enable_checkpointing=False)
    return trainer.num_nodes, trainer.num_devices


def training_trainer(config: DictConfig, **arguments: Any) -> lightning.Trainer:
    """The trainer of a configuration, in the only process of a job or in one of its ranks.

    Raises:
        InputError: devices, a strategy or a precision that cannot be had here.
    """
    strategy = {} if OmegaConf.is_config(config.strategy) else {"strategy": _copying()}
    return _checked(config, **strategy, **arguments)


def evaluation_trainer(config: DictConfig, *callbacks: lightning.Callback | None) -> lightning.Trainer:
    """As `training_trainer`, but it logs and saves nothing, and each rank has the whole model. ``callbacks``: such as
    the run's thermal one; None: none."""
    return _checked(
        config,
        strategy=_copying(),
        logger=False,
        enable_checkpointing=False,
        callbacks=[watching(), *(callback for callback in callbacks if callback is not None)],
        fast_dev_run=False,
        limit_test_batches=None,
    )


def watching() -> lightning.Callback:
    """Make a callback that handles signals again where Lightning, at the start of a loop, has come to handle SIGTERM.

    Lightning would send something to the other ranks from wherever it is interrupted, which may be in the middle of
    something that they are sending each other.
    """
    starts = ("on_train_start", "on_validation_start", "on_test_start")
    return LambdaCallback(**dict.fromkeys(starts, lambda trainer, module: reinstate()))


def _copying() -> Any:
    """The strategy in which each rank has the whole model."""
    # Buffers are constants here; sent before each forward pass, they would hang ranks that have unequal work.
    return DDPStrategy(broadcast_buffers=False) if current_process().size > 1 else "auto"


def _checked(config: DictConfig, **arguments: Any) -> lightning.Trainer:
    if current_process().size > 1 and SLURMEnvironment.detect():
        # What is done before a job has to stop, and after it was put back in the queue, does not depend on Slurm.
        arguments["plugins"] = [SLURMEnvironment(auto_requeue=False)]
    # Deterministic runs would else fill each new array before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    trainer = _made(config, **arguments)
    if current_process().size > 1:
        _connect(trainer.strategy)
    device, precision = trainer.strategy.root_device.type, str(config.precision)  # not what Lightning makes of it
    if device == "cpu" and precision.startswith("16"):
        raise InputError(f"trainer.precision={precision}: CPUs do not train in float16; set trainer.precision=32-true")
    if device == "cuda" and precision.startswith("bf16") and not torch.cuda.is_bf16_supported(False):
        raise InputError(
            f"trainer.precision={precision}: {torch.cuda.get_device_name()} does not compute in bfloat16; set "
            f"trainer.precision=16-mixed or 32-true"
        )
    return trainer


def _connect(strategy: Any) -> None:
    """Have the ranks meet where `current_process` says; Lightning would open a store of its own, to all interfaces."""
    device = strategy.root_device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = strategy.process_group_backend or torch.distributed.get_default_backend_for_device(device)
    current_process().connect(backend, device, strategy._timeout)


def _made(config: DictConfig, **arguments: Any) -> lightning.Trainer:
    if isinstance(config.strategy, str) and config.strategy not in ("auto", "ddp"):
        raise InputError(
            f"trainer.strategy={config.strategy}: several processes work by trainer=ddp, each with the whole model"
        )
    try:
        trainer: lightning.Trainer = instantiate(config, **arguments)
    except InstantiationException as error:
        asked = ", ".join(f"trainer.{name}={config[name]}" for name in ("accelerator", "devices", "precision"))
        reason = " ".join(str(_cause(error)).split())
        if not re.search("accelerator|device|precision|gpu|cuda|mps", reason, re.IGNORECASE):
            raise InputError(f"trainer: {reason}") from error
        raise InputError(
            f"{asked}: this machine, with {torch.cuda.device_count()} GPUs, cannot do that ({reason})"
        ) from error
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise InputError(f"trainer.strategy makes a {type(trainer.strategy).__name__}: use trainer=ddp")
    return trainer


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error

"""The optimiser and its learning-rate schedule."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import lightning
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from w2v_abx.errors import InputError
from w2v_abx.system import checks
from w2v_abx.training.parameters import groups, in_encoder, trained
from w2v_abx.training.schedules import Schedule, warmup_steps

__all__ = ["Optimization"]

log = logging.getLogger(__name__)


class Optimization:
    """An optimiser, with learning rates by depth, and a schedule with a warm-up.

    An optimiser that can work in one fused kernel does, unless its own ``fused`` or ``foreach`` says otherwise: AdamW
    then takes a quarter of the time on a CPU, too, and its weights are equal to rounding.

    Args:
        optimizer: makes the optimiser from parameter groups.
        warmup_share: share of all steps over which the learning rate rises.
        schedule: how it goes from there; a straight line to zero by default.
        layer_decay: each block of the encoder learns at so many times the rate of the one above it, the last at so many
            times that of the heads, and what is below the first block as much slower again.
        head_factor: the heads learn at so many times the learning rate.
        decay_all: weight decay on biases and norms, too.
        gradient_clip_norm: largest 2-norm of the gradient of the effective batch; None: not clipped.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        warmup_share: float = 0.1,
        schedule: Schedule | None = None,
        layer_decay: float = 1.0,
        head_factor: float = 1.0,
        decay_all: bool = False,
        gradient_clip_norm: float | None = None,
    ) -> None:
        checks.number("optimizer.warmup_share", warmup_share, low=0, below=1)
        checks.number("optimizer.layer_decay", layer_decay, above=0, high=1, hint="1 is for no decay")
        checks.number("optimizer.head_factor", head_factor, above=0)
        checks.number("optimizer.gradient_clip_norm", gradient_clip_norm, above=0, optional="for none")
        self.schedule = schedule or Schedule()
        if warmup_share + self.schedule.hold_share > 1:
            raise InputError(
                f"optimizer.warmup_share={warmup_share} and optimizer.schedule.hold_share={self.schedule.hold_share} "
                "are more than all steps; make one of them smaller"
            )
        self.optimizer = optimizer
        self.warmup_share, self.layer_decay, self.head_factor = warmup_share, layer_decay, head_factor
        self.decay_all, self.gradient_clip_norm = decay_all, gradient_clip_norm

    def configure(self, module: lightning.LightningModule) -> dict[str, Any]:
        """What ``configure_optimizers`` of ``module`` returns.

        Raises:
            InputError: nothing trains, or the trainer knows no last step, or there is no head to be faster or slower.
        """
        names = [name for name, _ in trained(module)]
        if not names:
            raise InputError("nothing trains: every parameter is frozen; see model.train")
        if self.head_factor != 1 and all(map(in_encoder, names)):
            raise InputError(f"optimizer.head_factor={self.head_factor} is for heads, and this objective trains none")
        if self.layer_decay != 1 and not any(map(in_encoder, names)):
            log.warning("optimizer.layer_decay=%g changes nothing: no layer of the encoder trains", self.layer_decay)
        steps: Any = module.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise InputError("the schedule needs a last step; give trainer.max_epochs or trainer.max_steps")
        warmup = warmup_steps(self.warmup_share, steps)

        encoder: Any = module.encoder
        optimizer = self._make(groups(module, encoder.n_layers - 1, self.layer_decay, self.head_factor, self.decay_all))
        optimizer.register_load_state_dict_pre_hook(_check_groups)
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
        scheduler = LambdaLR(optimizer, lambda step: self.schedule.factor(step, warmup, steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1},
        }

    def _make(self, made: list[dict[str, Any]]) -> Optimizer:
        given = getattr(self.optimizer, "keywords", {})
        places = {(p.device.type, p.is_floating_point()) for group in made for p in group["params"]}
        fused = (
            "fused" in inspect.signature(self.optimizer).parameters
            and given.get("fused") is None
            and given.get("foreach") is None
            and places <= {("cpu", True), ("cuda", True)}
        )
        try:
            return self.optimizer(made, fused=True) if fused else self.optimizer(made)
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer.optimizer: {error}") from error


def _check_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise InputError where a checkpoint's groups are not the optimiser's, which torch says without the reason."""
    here, there = (
        [len(group["params"]) for group in groups] for groups in (optimizer.param_groups, state["param_groups"])
    )
    if here != there:
        raise InputError(
            f"the checkpoint's optimiser has groups of {there} parameters, and here they are of {here}: give "
            "model.train, optimizer.layer_decay and optimizer.decay_all as they were there"
        )

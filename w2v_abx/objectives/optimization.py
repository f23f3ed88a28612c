"""The optimiser and its learning-rate schedule."""

from collections.abc import Callable
from typing import Any

import lightning
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from w2v_abx.errors import InputError

__all__ = ["Optimization"]


class Optimization:
    """An optimiser with a linear warm-up over ``warmup_share`` of all steps and a linear decay to zero at the last.

    Args:
        optimizer: makes the optimiser from the parameters that train.
        warmup_share: between 0 and 1.
    """

    def __init__(self, optimizer: Callable[..., Optimizer], warmup_share: float = 0.1) -> None:
        if not 0 <= warmup_share < 1:
            raise InputError(f"optimizer.warmup_share={warmup_share} must lie in [0, 1)")
        self.optimizer = optimizer
        self.warmup_share = warmup_share

    def configure(self, module: lightning.LightningModule) -> dict[str, Any]:
        """What ``configure_optimizers`` of ``module`` returns.

        Raises:
            InputError: nothing trains, or the trainer knows no last step.
        """
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not parameters:
            raise InputError("nothing trains: every parameter is frozen; see model.train")
        steps = module.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise InputError("the schedule needs a last step; give trainer.max_epochs or trainer.max_steps")
        warmup = round(self.warmup_share * steps)

        def factor(step: int) -> float:
            return (step + 1) / (warmup + 1) if step < warmup else max(0.0, (steps - step) / (steps - warmup))

        optimizer = self.optimizer(parameters)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "frequency": 1},
        }

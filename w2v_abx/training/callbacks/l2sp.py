"""Pull weights back to where they started (L2-SP)."""

import logging
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim import Optimizer

from w2v_abx.errors import InputError
from w2v_abx.system import checks
from w2v_abx.training.parameters import from_checkpoint, in_encoder, trained

__all__ = ["L2SP"]

log = logging.getLogger(__name__)


class L2SP(lightning.Callback):
    """Add alpha / 2 · |w − w0|² over the pretrained weights, and beta / 2 · |w|² over those that are new, to the loss.

    Li et al. (2018), Explicit inductive bias for transfer learning with convolutional networks. Pretrained are the
    encoder's weights, and those of a quantiser and projections that come from a checkpoint; new are the heads'. w0
    are the weights that the run began with; checkpoints hold them, so that a resumed run is pulled to the same. The
    penalty's gradient is added to each step's, before it is clipped: once, whatever the number of micro-batches and of
    processes. Its value is logged as ``train/l2sp``. Weights that do not train are left out; with LoRA, its two factors
    are pulled to their own start, an update of zero.

    Args:
        alpha: of pretrained weights.
        beta: of new ones.

    Raises:
        InputError: a value out of range; heads to pull where none starts anew.
    """

    def __init__(self, alpha: float = 0.01, beta: float = 0.01) -> None:
        checks.number("callbacks.l2sp.alpha", alpha, low=0)
        checks.number("callbacks.l2sp.beta", beta, low=0)
        self.alpha, self.beta = alpha, beta
        self.start: dict[str, Tensor] = {}
        self._names: list[str] = []

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Store the weights as they are before a checkpoint changes them."""
        if stage != "fit":
            return
        old, weights = from_checkpoint(pl_module), dict(trained(pl_module))
        self._names = [name for name in weights if in_encoder(name) or name in old]
        if self.beta and len(self._names) == len(weights):
            raise InputError(
                f"callbacks.l2sp.beta={self.beta} is for heads that start anew, and here none does; set it to 0"
            )
        if self.alpha and not self._names:
            log.warning("callbacks.l2sp.alpha=%g changes nothing: no weight of the encoder trains", self.alpha)
        self.start = {name: weights[name].detach().clone() for name in self._names}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the starting weights on the weights' device, and check that they are of these weights."""
        weights = dict(pl_module.named_parameters())
        if {name: start.shape for name, start in self.start.items()} != {
            name: weights[name].shape for name in self._names
        }:
            raise InputError("the checkpoint's start of callbacks=l2sp is of another model or another model.train")
        self.start = {name: self.start[name].to(weights[name]) for name in self._names}

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the penalty's gradient to that of the loss, which is whole by now, and no longer scaled."""
        old: list[tuple[Tensor, Tensor]] = []  # gradient, and how far from where it is pulled to
        new: list[tuple[Tensor, Tensor]] = []
        for name, weight in trained(pl_module):
            if weight.grad is None:  # of a layer that was dropped, say
                weight.grad = torch.zeros_like(weight)
            if name in self.start:
                old.append((weight.grad, weight - self.start[name]))
            else:
                new.append((weight.grad, weight.detach()))
        penalty = torch.zeros((), device=pl_module.device)
        for factor, pulled in ((self.alpha, old), (self.beta, new)):
            if factor and pulled:
                gradients, away = map(list, zip(*pulled, strict=True))
                torch._foreach_add_(gradients, away, alpha=factor)
                penalty += factor / 2 * torch.stack(torch._foreach_norm(away)).square().sum()
        pl_module.log("train/l2sp", penalty)

    def state_dict(self) -> dict[str, Any]:
        """The weights that the run began with."""
        return {"start": dict(self.start)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with those of a checkpoint."""
        self.start = dict(state_dict["start"])

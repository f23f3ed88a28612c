"""Average the weights of a run, validate with the average and end with it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from w2v_abx.errors import InputError
from w2v_abx.system import checks
from w2v_abx.training.parameters import trained

__all__ = ["Ema"]

log = logging.getLogger(__name__)


class Ema(lightning.Callback):
    """Keep an exponential moving average of the weights that train, in float32.

    After each optimiser step, average ← decay · average + (1 − decay) · weights. Validation during training sees the
    average. When training ends the average takes the place of the weights, after the last checkpoint: what is saved as
    the run's encoder and measured after training is the average. Checkpoints hold both, the weights where they always
    are, so that training goes on with exactly what it had.

    Args:
        decay: share of the average that a step leaves.
        warmup: begin with less, (1 + n) / (10 + n) at the n-th step, until that passes ``decay``: an average of few
            steps is then not held back by the weights that the run began with.

    Raises:
        InputError: a decay out of range; a checkpoint whose average is of other weights.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        checks.number("callbacks.ema.decay", decay, low=0, below=1)
        self.decay, self.warmup = decay, warmup
        self.average: dict[str, Tensor] = {}
        self.steps = -1  # so many the average has followed; below zero, none has been seen
        self._names: list[str] = []
        self._ready = False
        self._weights_aside: dict[str, Tensor] = {}  # the weights, where the average is in their place

    # Following

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Begin with the weights as they are; a checkpoint's average replaces this."""
        if stage == "fit":
            self.average = {name: weight.detach().float().clone() for name, weight in trained(pl_module)}
            self.steps, self._names, self._weights_aside, self._ready = -1, list(self.average), {}, False
            module: Any = pl_module
            module.averaged = partial(self.averaged, trainer, pl_module)  # for callbacks that measure

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin, unless a checkpoint's average goes on."""
        self.follow(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the step."""
        self.follow(trainer, pl_module)

    @torch.no_grad()
    def follow(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take in the weights of the last step, unless that has been done."""
        if not self._ready:
            self._begin(trainer, pl_module)
        if trainer.global_step <= self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.warmup else self.decay
        weights = self._weights(pl_module)
        torch._foreach_lerp_(list(self.average.values()), [weight.float() for weight in weights.values()], 1 - decay)

    def _begin(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Put the average on the weights' device, and check that it is of these weights."""
        if self.steps < 0:
            self.steps = trainer.global_step
            if self.steps:
                log.warning("The checkpoint has no average (callbacks=ema): it begins at step %d", self.steps)
                self._fill(self.average, self._weights(module))
        if self.average.keys() != set(self._names):
            raise InputError("the checkpoint's average of callbacks=ema is of another model or another model.train")
        for name, weight in self._weights(module).items():
            self.average[name] = self.average[name].to(weight.device)
        self._ready = True

    # Taking the place of the weights

    @contextmanager
    def averaged(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> Iterator[None]:
        """Put the average in place of the module's weights; afterwards these are as before, to the bit."""
        self.follow(trainer, pl_module)
        self._put(pl_module)
        try:
            yield
        finally:
            self._take_back(pl_module)

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Validation in training is of the average; before training that is the weights, after it is in their place."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._put(pl_module)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Training goes on with the weights."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._take_back(pl_module)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """From here on the module is the average."""
        if self.steps >= 0:  # a finished run that is resumed trains no step
            self._put(pl_module)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """The weights of the last step are in the last checkpoint, and needed no longer."""
        self._weights_aside = {}

    def _put(self, module: lightning.LightningModule) -> None:
        weights = self._weights(module)
        self._weights_aside = {name: weight.detach().clone() for name, weight in weights.items()}
        self._fill(weights, self.average)

    def _take_back(self, module: lightning.LightningModule) -> None:
        self._fill(self._weights(module), self._weights_aside)
        self._weights_aside = {}

    def _weights(self, module: lightning.LightningModule) -> dict[str, Tensor]:
        """The weights that are averaged, which another callback may have frozen for a while."""
        every = dict(module.named_parameters())
        return {name: every[name] for name in self.average}

    @staticmethod
    @torch.no_grad()
    def _fill(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, place in places.items():
            place.copy_(values[name])

    # Checkpoints

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A checkpoint that is made while the average is in the place of the weights holds the weights all the same."""
        for name, weight in self._weights_aside.items():
            checkpoint["state_dict"][name] = weight

    def state_dict(self) -> dict[str, Any]:
        """The average, and how many steps it has followed."""
        return {"steps": self.steps, "average": dict(self.average)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the average of a checkpoint."""
        self.steps, self.average = state_dict["steps"], dict(state_dict["average"])

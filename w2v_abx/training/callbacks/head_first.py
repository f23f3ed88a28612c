"""Train the heads alone for the first steps."""

from typing import Any

import lightning
from torch.nn import Parameter

from w2v_abx.errors import InputError
from w2v_abx.system import checks
from w2v_abx.training.parameters import in_encoder, trained

__all__ = ["HeadFirst"]


class HeadFirst(lightning.Callback):
    """Freeze the encoder for the first steps (fairseq's ``freeze_finetune_updates``).

    It is in evaluation mode meanwhile, without dropout, and no gradient is computed for it. The schedule of the
    learning rate is that of the whole run.

    Args:
        steps: optimiser steps that only the heads take.

    Raises:
        InputError: no steps, or more than the run has; no heads that train.
    """

    def __init__(self, steps: int) -> None:
        checks.whole("callbacks.head_first.steps", steps, 1)
        self.steps = steps
        self._frozen: list[Parameter] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Freeze, unless a resumed run is past that."""
        if all(in_encoder(name) for name, _ in trained(pl_module)):
            raise InputError(f"callbacks.head_first.steps={self.steps}: this objective has no heads to train first")
        if self.steps >= trainer.estimated_stepping_batches:
            raise InputError(
                f"callbacks.head_first.steps={self.steps} leaves the encoder none of the run's "
                f"{trainer.estimated_stepping_batches} steps; take fewer, or model.train=head"
            )
        if trainer.global_step <= self.steps:  # at the last of them the first batch lets it go, as without resuming
            self._frozen = [weight for name, weight in trained(pl_module) if in_encoder(name)]
            self._switch(pl_module, False)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Let the encoder train from its first step on."""
        if self._frozen and trainer.global_step >= self.steps:
            self._switch(pl_module, True)
            self._frozen = []
            module: Any = pl_module
            module.microbatches.found = None  # which was found with the encoder frozen

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A run that was stopped early leaves the encoder as it found it."""
        self._switch(pl_module, True)
        self._frozen = []

    def _switch(self, module: lightning.LightningModule, trains: bool) -> None:
        for weight in self._frozen:
            weight.requires_grad_(trains)
        encoder: Any = module.encoder
        encoder.train(encoder.training)

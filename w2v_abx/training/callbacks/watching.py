"""Keep handling signals under Lightning."""

import lightning

from w2v_abx.system.signals import reinstate

__all__ = ["Watching"]


class Watching(lightning.Callback):
    """Handles the signals again where Lightning, at the start of a loop, has come to handle SIGTERM.

    It would send something to the other ranks from wherever it is interrupted, which may be in the middle of something
    that they are sending each other.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        reinstate()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        reinstate()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        reinstate()

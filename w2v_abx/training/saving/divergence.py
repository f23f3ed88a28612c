"""Stop a training that diverges before it is saved."""

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from w2v_abx.data.batch import Batch
from w2v_abx.distributed import collectives as distributed
from w2v_abx.errors import Unlearnable
from w2v_abx.system import atomic, checks
from w2v_abx.training.microbatch.finite import NonFiniteLoss, to_host
from w2v_abx.training.microbatch.gradients import gradient_norm, parameters_of

__all__ = ["DivergenceGuard"]

log = logging.getLogger(__name__)

UNJUDGED_STEPS = 10  # at the beginning
LARGEST_RISE = 10.0  # of a running median, as a multiple of that of the first steps


Clips = list[dict[str, str]]  # key and corpus of each


class DivergenceGuard(lightning.Callback):
    """Stop training when the loss, or the norm of the gradient, is above a multiple of its running median.

    The running median is that of the last ``window`` steps, or of the first ten where that was higher: a loss that has
    become tiny may grow a hundredfold and be no larger than it was. It counts as at most ten times that of the first
    ten, or a loss that grows by a little at each step would take it along. The first ten are not judged, nor is what is
    not finite: `ElasticModule` notices that, or a loss scaler (``16-mixed``) meant it.

    Either way ``diverged.json`` in the run's folder has the step, its values and medians and the clips of the batch,
    and no checkpoint has what the step made of the weights. On a GPU a step is judged when the next one has been
    queued, so that nothing waits for it; before a checkpoint is written, it is waited for.

    Args:
        folder: of the run.
        loss_above: multiple of the running median of the loss; None: not looked at.
        gradient_above: multiple of the running median of the gradient's norm before clipping; None: not looked at.
        window: steps.

    Raises:
        InputError: a value out of range.
        Unlearnable: in training, on all ranks.
    """

    def __init__(
        self,
        folder: str | Path,
        loss_above: float | None = 20.0,
        gradient_above: float | None = None,
        window: int = 100,
    ) -> None:
        checks.number("callbacks.divergence.loss_above", loss_above, above=1, optional="for no limit")
        checks.number("callbacks.divergence.gradient_above", gradient_above, above=1, optional="for no limit")
        checks.whole("callbacks.divergence.window", window, 3)
        self.folder, self.window = Path(folder), window
        self.limits = {"loss": loss_above, "gradient": gradient_above}
        self._first: dict[str, list[float]] = {name: [] for name in self.limits}
        self._last: dict[str, deque[float]] = {name: deque(maxlen=window) for name in self.limits}
        self._waiting: deque[tuple[int, Clips, dict[str, Callable[[], Tensor]]]] = (
            deque()
        )  # steps that are not judged yet
        self._clips: Clips = []
        self._gradient: Tensor | None = None
        self._file = "diverged.json"

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Each rank has clips of its own."""
        self._file = f"diverged-rank{trainer.global_rank}.json" if trainer.global_rank else "diverged.json"

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._clips = _clips(batch.keys, batch.corpora) if isinstance(batch, Batch) else []

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self.limits["gradient"] is not None:
            self._gradient = gradient_norm(parameters_of(optimizer))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        found = {"loss": loss, "gradient": self._gradient}
        values = {
            name: to_host(value.detach().float())
            for name, value in found.items()
            if self.limits[name] is not None and isinstance(value, Tensor)
        }
        self._waiting.append((trainer.global_step - 1, self._clips, values))
        self._judge(keep=1 if pl_module.device.type == "cuda" else 0)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._judge(keep=0)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Write the clips of a loss that is not finite."""
        if isinstance(exception, NonFiniteLoss):
            self._write(exception.step, _clips(exception.keys, exception.corpora), {"loss": "not finite"})

    def state_dict(self) -> dict[str, Any]:
        """The values that medians are of. What is saved has been judged: all ranks come here together."""
        self._judge(keep=0)
        return {
            name: {watched: list(values) for watched, values in medians.items()}
            for name, medians in (("first", self._first), ("last", self._last))
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the medians of a checkpoint."""
        self._first = {name: list(values) for name, values in state_dict["first"].items()}
        self._last = {name: deque(values, self.window) for name, values in state_dict["last"].items()}

    def _judge(self, keep: int) -> None:
        """Judge the steps that wait, but for the ``keep`` last."""
        while len(self._waiting) > keep:
            step, clips, values = self._waiting.popleft()
            for name, value in values.items():
                self._look(step, clips, name, float(value()))

    def _look(self, step: int, clips: Clips, name: str, value: float) -> None:
        first, last, limit = self._first[name], self._last[name], self.limits[name]
        assert limit is not None
        if not math.isfinite(value):
            return
        if len(first) >= min(UNJUDGED_STEPS, self.window):
            begun, median = statistics.median(first), statistics.median(last)
            median = max(begun, min(median, LARGEST_RISE * begun) if begun > 0 else median)
            above = 0 < limit * median < value
            if distributed.largest([above])[0]:
                self._write(step, clips, {name: value, f"{name}_median": median})
                raise Unlearnable(
                    f"the {name} of step {step} is {value:g}, more than {limit:g} times its running median "
                    f"{median:g}; the clips are in {self.folder / self._file}. Lower the learning rate and start from "
                    f"a checkpoint before it (resume=PATH), or set callbacks.divergence.{name}_above"
                )
        if len(first) < min(UNJUDGED_STEPS, self.window):
            first.append(value)
        last.append(value)

    def _write(self, step: int, clips: Clips, values: dict[str, Any]) -> None:
        path = self.folder / self._file
        try:
            atomic.write_json(path, {"step": step, **values, "clips": clips})
        except OSError as error:  # which is not to hide what went wrong
            log.warning("%s cannot be written (%s); its clips would be %s.", path, error.strerror, clips)


def _clips(keys: Sequence[str], corpora: Sequence[str]) -> Clips:
    return [{"key": key, "corpus": corpus} for key, corpus in zip(keys, corpora, strict=True)]

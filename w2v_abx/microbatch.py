"""Elastic micro-batches: a training step of constant mathematics in pieces of any size.

A step takes the *effective batch*, as the data module gives it, and runs it in *micro-batches* of the current size.
Heat and memory pressure change the size, also in the middle of a step, and never the mathematics: each micro-batch
adds the gradient of its *sum* of losses divided by one normaliser drawn from the whole effective batch, and one
optimiser step follows. With dropout off, losses and weights match the unsplit step to rounding. (Layers that couple the
clips of a batch, such as batch norm, would break this; the wav2vec 2.0 family has none.)

An objective is a subclass of :class:`ElasticModule` and writes::

    class MyObjective(ElasticModule):
        def __init__(self, ..., microbatch: int | None = None, gradient_clip_norm: float | None = None):
            super().__init__(microbatch=microbatch, gradient_clip_norm=gradient_clip_norm)

        def prepare(self, batch):       # optional: draw everything random (masks, negatives) for the whole batch, here
            return {**batch, "mask": draw_mask(...)}              # (B, F); rows are handed out with their clips
        def normaliser(self, batch):    # optional; default: the number of clips. Sees what prepare returned
            return batch["mask"].sum()
        def loss_sum(self, micro):      # the SUM over the micro-batch, a scalar; may run twice on a clip: keep it pure
            return loss                 # or {"loss": loss, "another_sum": ...}: each is divided by the normaliser and
                                        # logged as train/loss, train/another_sum
        def configure_optimizers(self): # as usual; one optimiser; schedulers of interval "step" step once per effective
            ...                         # batch, those of interval "epoch" once per epoch

``training_step`` is not to be overridden. ``self.microbatches`` is the :class:`MicroBatcher`. ``trainer.global_step``
counts effective batches. Lightning's ``gradient_clip_val`` and ``accumulate_grad_batches`` do not exist for manual
optimisation (Lightning says so); use ``gradient_clip_norm`` and a larger effective batch.

How a batch is split: tensors with leading dimension B and lists of length B are sliced, dicts (``targets``) are gone
into, zero-dimensional tensors, numbers, strings and None go whole to each micro-batch. With ``waveforms`` and
``lengths``, trailing padding is trimmed to the longest clip of the micro-batch, so a ``mask`` (B, F) drawn for the
whole batch may be longer than the micro-batch's frames: use ``mask[:, :frames]``.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from w2v_abx.errors import InputError

__all__ = ["Batch", "ElasticModule", "MicroBatcher", "NonFiniteLoss", "batch_size"]

Batch = dict[str, Any]

log = logging.getLogger(__name__)


class NonFiniteLoss(InputError):
    """The loss of a step is NaN or infinite; ``keys`` are the clips of the micro-batches it came from."""

    def __init__(self, step: int, keys: list[str]) -> None:
        shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        super().__init__(
            f"The loss is not finite at step {step}, in the micro-batches of the clips {shown}; the weights were not "
            "updated with it. Lower the learning rate, clip gradients, or look at these clips."
        )
        self.keys = keys


class MicroBatcher:
    """How many clips run at once, and who limits them.

    ``size`` is the smallest of the starting size and of the limits in force; None means the whole batch. Limits are
    kept per reason (``"memory"``, ``"heat"``), so that a device that has cooled does not grow back past what its memory
    holds. Each function in ``hooks`` is called before each micro-batch, in order; it may sleep and change the limits.
    """

    def __init__(self, size: int | None = None) -> None:
        """``size``: clips per micro-batch to start with (None: the whole batch). Raises InputError if below 1."""
        self._start = self._checked(size)
        self._limits: dict[str, int] = {}
        self.hooks: list[Callable[[], None]] = []
        self.handed: tuple[int, int] | None = None  # clips of the last piece and of its batch; a hook may take it away

    @staticmethod
    def _checked(size: int | None) -> int | None:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise InputError(f"microbatch={size!r} is not a number of clips; give a whole number from 1, or null.")
        return size

    @property
    def size(self) -> int | None:
        """Clips per micro-batch now; None: the whole batch."""
        sizes = [*self._limits.values(), *([] if self._start is None else [self._start])]
        return min(sizes, default=None)

    def limit(self, reason: str, size: int | None) -> None:
        """Hold micro-batches at or below ``size`` clips for this reason; None lifts the reason's limit."""
        if self._checked(size) is None:
            self._limits.pop(reason, None)
        else:
            assert size is not None
            self._limits[reason] = size

    def split(self, batch: Batch) -> Iterator[Batch]:
        """The batch in order, in pieces of the size that holds when each piece is asked for."""
        total, start = batch_size(batch), 0
        while start < total:
            for hook in self.hooks:
                hook()
            stop = min(total, start + (self.size or total))
            self.handed = (stop - start, total)
            yield _trimmed({name: _rows(value, name, start, stop, total) for name, value in batch.items()})
            start = stop


def batch_size(batch: Batch) -> int:
    """Clips in a batch: the length of ``keys``, else the first dimension of ``waveforms``, else of the first tensor."""
    for name in ("keys", "waveforms", *batch):
        value = batch.get(name)
        if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0):
            return len(value)
    raise InputError(
        f"A batch with the entries {', '.join(batch) or '(none)'} has no list or tensor to count clips by."
    )


def _rows(value: Any, name: str, start: int, stop: int, total: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _rows(entry, f"{name}.{key}", start, stop, total) for key, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0):
        if len(value) != total:
            raise InputError(f"The batch entry {name!r} has {len(value)} rows where the batch has {total} clips.")
        return value[start:stop]
    return value


def _trimmed(micro: Batch) -> Batch:
    waveforms, lengths = micro.get("waveforms"), micro.get("lengths")
    if isinstance(waveforms, Tensor) and isinstance(lengths, Tensor) and waveforms.ndim > 1:
        micro["waveforms"] = waveforms[:, : int(lengths.max())]
    return micro


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error).lower()


class ElasticModule(lightning.LightningModule):
    """Base of the objectives: the effective batch is constant, the micro-batch is not. See the module's docstring."""

    def __init__(self, microbatch: int | None = None, gradient_clip_norm: float | None = None) -> None:
        """``microbatch``: clips run at once to start with (None: all). ``gradient_clip_norm``: largest 2-norm of the
        gradient of the effective batch (None: not clipped). Raises InputError for values out of range."""
        super().__init__()
        self.automatic_optimization = False
        if gradient_clip_norm is not None and not 0 < gradient_clip_norm < math.inf:
            raise InputError(f"gradient_clip_norm={gradient_clip_norm} must be a positive number, or null for none.")
        self.gradient_clip_norm = gradient_clip_norm
        self.microbatches = MicroBatcher(microbatch)

    def prepare(self, batch: Batch) -> Batch:
        """The whole effective batch with everything random drawn, so that splitting changes nothing."""
        return batch

    def normaliser(self, batch: Batch) -> float | Tensor:
        """What the step's summed loss is divided by: the number of clips unless overridden."""
        return float(batch_size(batch))

    def loss_sum(self, micro: Batch) -> Tensor | dict[str, Tensor]:
        """The loss summed over the micro-batch (scalar), alone or as ``"loss"`` among other scalar sums to log."""
        raise TypeError(f"{type(self).__name__} has no loss_sum")

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One effective batch, one optimiser step.

        Raises NonFiniteLoss before the weights are touched, and InputError where a single clip exceeds the memory.
        """
        optimizer = self.optimizers()
        if isinstance(optimizer, list):
            raise InputError(f"{type(self).__name__} configures {len(optimizer)} optimisers; give one.")
        batch = self.prepare(batch)
        while (sums := self._accumulate(batch, optimizer.zero_grad)) is None:
            self._halve(batch_size(batch))
        optimizer.step()
        optimizer.zero_grad()
        self._step_schedulers("step", self.global_step)
        self.log_dict(
            {f"train/{name}": value for name, value in sums.items() if name != "loss"}, batch_size=batch_size(batch)
        )
        self.log("train/loss", sums["loss"], prog_bar=True, batch_size=batch_size(batch))
        return {"loss": sums["loss"]}

    def _accumulate(self, batch: Batch, zero_grad: Callable[[], None]) -> dict[str, Tensor] | None:
        """Gradients of the whole batch in place, and the normalised sums; None where memory ran out."""
        zero_grad()
        normaliser = self.normaliser(batch)
        sums: dict[str, Tensor] = {}
        losses: list[tuple[Tensor, Batch]] = []
        try:
            for micro in self.microbatches.split(batch):
                terms = self.loss_sum(micro)
                terms = terms if isinstance(terms, dict) else {"loss": terms}
                self.manual_backward(terms["loss"] / normaliser)
                for name, value in terms.items():
                    share = value.detach() / normaliser
                    sums[name] = sums[name] + share if name in sums else share
                losses.append((terms["loss"].detach(), micro))
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            # A backward pass that was cut short has added to some parameters only, so nothing of the step is kept.
            # Nothing is retried in here: the exception holds the frames, and with them the memory, of what failed.
            zero_grad()
            return None
        finite = torch.isfinite(torch.stack([loss for loss, _ in losses]))
        if not finite.all() or not torch.isfinite(sums["loss"]):
            zero_grad()
            bad = [micro for (_, micro), fine in zip(losses, finite.tolist(), strict=True) if not fine] or [batch]
            keys = [str(key) for micro in bad for key in micro.get("keys", ["(no keys)"])]
            raise NonFiniteLoss(self.global_step, keys)
        return sums

    def _halve(self, total: int) -> None:
        size = min(self.microbatches.size or total, total)
        if size == 1:
            raise InputError(
                "Memory ran out with a single clip in the micro-batch; take shorter clips, a smaller model, gradient "
                "checkpointing, or a lower precision (trainer.precision=bf16-mixed)."
            )
        self.microbatches.limit("memory", size // 2)
        log.warning("Out of memory: micro-batches shrink from %d to %d clips; the step is run again.", size, size // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: by now a loss scaler has unscaled the gradients."""
        if self.gradient_clip_norm is not None:
            self.clip_gradients(optimizer, self.gradient_clip_norm, "norm")

    def on_train_epoch_end(self) -> None:
        """Schedulers of interval "epoch". A subclass that overrides this calls ``super()``."""
        self._step_schedulers("epoch", self.current_epoch + 1)

    def _step_schedulers(self, interval: str, count: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                raise InputError("ReduceLROnPlateau does not work with elastic micro-batches; take another scheduler.")
            if config.interval == interval and count % config.frequency == 0:
                config.scheduler.step()

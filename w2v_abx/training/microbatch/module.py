"""The LightningModule whose effective batch is constant."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from w2v_abx.data.batch import Batch
from w2v_abx.distributed.collectives import sum_named
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch.batcher import MicroBatcher, MicroBatching
from w2v_abx.training.microbatch.finite import Finiteness, to_host
from w2v_abx.training.microbatch.gradients import gradient_norm, parameters_of, sum_used
from w2v_abx.training.microbatch.memory import free_memory, out_of_memory
from w2v_abx.training.microbatch.search import reports_full_memory, search
from w2v_abx.training.microbatch.settings import check_trainer
from w2v_abx.training.microbatch.synchronization import sum_losses, synchronize

__all__ = ["ElasticModule"]

Result = TypeVar("Result")


class ElasticModule(lightning.LightningModule):
    """Train with a constant effective batch, in micro-batches of any size: see the package's docstring.

    Args:
        microbatch: how much runs at once.
        gradient_clip_norm: largest 2-norm of the gradient of the effective batch; None: not clipped.
    """

    def __init__(self, microbatch: MicroBatching | None = None, gradient_clip_norm: float | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.gradient_clip_norm = gradient_clip_norm
        self.microbatches = MicroBatcher(microbatch)
        self._evaluated = MicroBatcher()
        self._step: Finiteness | None = None  # the step under way
        # The step before, and whether it was not finite, where the host does not know yet.
        self._unsure: tuple[Finiteness, Callable[[], Tensor]] | None = None

    # What an objective is

    def prepare(self, batch: Batch) -> Batch:
        """Draw everything random for the whole effective batch, so that splitting changes nothing."""
        return batch

    def totals(self, batch: Batch) -> dict[str, float]:
        """Count what losses are means over, in this rank's prepared batch: its clips unless overridden."""
        return {"clips": float(len(batch))}

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        """Compute the share of a micro-batch in the step's ``"loss"``, and in what else is logged.

        The shares of all micro-batches of all ranks are summed: divide sums by ``totals``, those of all ranks. It may
        run twice on a clip and has to be pure. Empty: nothing is asked of these clips.
        """
        raise TypeError(f"{type(self).__name__} has no loss")

    # The step

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take one optimiser step with one effective batch.

        Raises NonFiniteLoss, of this step or the one before, with the weights untouched by what is not finite; and
        InputError where a single clip exceeds the memory or another rank failed.
        """
        optimizer = self._only_optimizer()
        parameters = parameters_of(optimizer.optimizer)
        self._find_size(batch)
        batch = self._prepared(batch)
        totals = sum_named(self.totals(batch))
        sums, error = self._accumulate(batch, totals, optimizer.zero_grad)
        used = synchronize(sums, parameters, list(self.microbatches.memory.values()), error)
        sum_used(parameters, used)
        assert self._step is not None
        sums = sum_losses(sums, self._step)
        self._be_sure()
        self._update(optimizer)
        self._step_schedulers("step", self.global_step)
        self.log_dict({f"train/{name}": value for name, value in sums.items() if name != "loss"}, batch_size=len(batch))
        self.log("train/loss", sums["loss"], prog_bar=True, batch_size=len(batch))
        return sums

    def _find_size(self, batch: Batch) -> None:
        """Find the micro-batch's size before the first step, where it is ``auto``."""
        if self.microbatches.auto and self.microbatches.found is None and reports_full_memory(self.device):
            with self._unsynchronized():
                self.microbatches.found = search(self, batch)

    def _prepared(self, batch: Batch) -> Batch:
        """Prepare the batch. Raises InputError where memory runs out, which no smaller micro-batch helps."""
        try:
            return self.prepare(batch)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise InputError(
                "Memory ran out in what a step does with all its clips at once, before it is divided (masks, targets, "
                "the usage of codebooks): take fewer clips (data.batch_size), shorter ones (data.crop_seconds), or "
                "more processes"
            ) from error

    def _only_optimizer(self) -> LightningOptimizer:
        optimizer = self.optimizers()
        if isinstance(optimizer, list):
            raise InputError(f"{type(self).__name__} configures {len(optimizer)} optimisers; give one.")
        assert isinstance(optimizer, LightningOptimizer)
        if any(isinstance(config.scheduler, ReduceLROnPlateau) for config in self.trainer.lr_scheduler_configs):
            raise InputError("ReduceLROnPlateau does not work with elastic micro-batches; take another scheduler.")
        return optimizer

    @contextlib.contextmanager
    def _unsynchronized(self) -> Iterator[None]:
        """Let backward passes send nothing to other ranks, which may run more or fewer, or some again."""
        model = self.trainer.strategy.model
        with model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext():
            yield

    def _accumulate(
        self, batch: Batch, totals: Mapping[str, float], zero_grad: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Exception | None]:
        """Add up gradients and losses of this rank's clips, in as many attempts as memory asks for.

        Returns the losses' sums, or what went wrong, for all ranks to learn.
        """
        while True:
            zero_grad()
            try:
                with self._unsynchronized():
                    return self._attempt(self.microbatches.split(batch), totals), None
            except Exception as error:
                if not out_of_memory(error):
                    zero_grad()
                    return {}, error
            # A backward pass that was cut short has added to some parameters only, so nothing of the step is kept.
            # Nothing is retried in the clause: the exception holds the frames, and so the memory, of what failed.
            zero_grad()
            try:
                self.microbatches.halve()
            except InputError as error:
                return {}, error
            free_memory()

    def _attempt(self, micros: Iterator[Batch], totals: Mapping[str, float]) -> dict[str, Tensor]:
        step = self._step = Finiteness(self.global_step)
        sums: dict[str, Tensor] = {}
        for micro in micros:
            shares = self.loss(micro, totals)
            if "loss" not in shares:
                continue
            self.manual_backward(shares["loss"])
            for name, value in shares.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
            step.add(shares["loss"].detach(), micro)
        return sums or {"loss": torch.zeros((), device=self.device)}

    def _update(self, optimizer: LightningOptimizer) -> None:
        """Update the weights."""
        raw, scaler = optimizer.optimizer, self._scaler
        if scaler is not None and _takes_flag(raw):
            scaler.unscale_(raw)  # a fused one would do so itself, after the hooks that look at gradients
        try:
            optimizer.step()
        finally:
            vars(raw).pop("found_inf", None)
        optimizer.zero_grad()

    @property
    def _scaler(self) -> Any:
        """The loss scaler of ``16-mixed``."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def in_micro_batches(self, batch: Batch, work: Callable[[Batch], Result]) -> list[Result]:
        """Return what ``work``, which asks for no gradients, makes of a validation batch: whole, or as memory holds."""
        while True:
            try:
                return [work(micro) for micro in self._evaluated.split(batch)]
            except Exception as error:
                if not out_of_memory(error):
                    raise
            self._evaluated.halve()
            free_memory()

    # Lightning's hooks: a subclass that overrides one of these calls ``super()``

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Return none; but Lightning asks for them before it looks at the trainer's settings in its own words."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            check_trainer(self.trainer, self.microbatches)
        return []

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Look at the gradients and clip them; by now a loss scaler has unscaled and callbacks have changed them."""
        step, self._step = self._step, None
        if step is None:
            return
        assert step.found is not None
        parameters = parameters_of(optimizer)
        norm = gradient_norm(parameters)
        if self._scaler is None:  # which else skips steps of gradients that overflow, and scales less
            step.found = step.found | ~torch.isfinite(norm)
        if self._scaler is None and _takes_flag(optimizer):
            # The device itself leaves the weights alone, and the host need not wait to know.
            optimizer.found_inf = step.found.float()  # type: ignore[attr-defined]
            self._unsure = step, to_host(step.found)
        elif bool(step.found):
            optimizer.zero_grad()
            raise step.error()
        if self.gradient_clip_norm is not None:
            clip_grads_with_norm_(parameters, self.gradient_clip_norm, norm)

    def _be_sure(self) -> None:
        """Raise NonFiniteLoss if the step before was not finite; its weights are those of the step before it."""
        unsure, self._unsure = self._unsure, None
        if unsure is not None:
            step, found = unsure
            if bool(found()):
                raise step.error()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save after a step that is known to be good, and with it what limits memory has set."""
        self._be_sure()
        checkpoint["microbatches"] = self.microbatches.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the limits that memory had set."""
        if "microbatches" in checkpoint:
            self.microbatches.load_state_dict(checkpoint["microbatches"])

    def on_train_epoch_end(self) -> None:
        """Step the schedulers of interval "epoch"."""
        self._be_sure()
        self._step_schedulers("epoch", self.current_epoch + 1)

    def _step_schedulers(self, interval: str, count: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            assert not isinstance(config.scheduler, ReduceLROnPlateau)
            if config.interval == interval and count % config.frequency == 0:
                config.scheduler.step()


def _takes_flag(optimizer: Optimizer) -> bool:
    """Say whether the optimiser leaves the weights alone where ``found_inf`` is 1, as torch's fused ones do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))

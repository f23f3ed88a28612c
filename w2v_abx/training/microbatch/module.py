"""The LightningModule whose effective batch is constant."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from w2v_abx.data.batch import Batch, batch_size, longest_clips
from w2v_abx.distributed.collectives import largest, sum_over_ranks
from w2v_abx.distributed.sharding import shard
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch.batcher import MicroBatcher
from w2v_abx.training.microbatch.finite import Finiteness
from w2v_abx.training.microbatch.gradients import clip, gradient_norm, is_sharded, parameters_of, sum_used
from w2v_abx.training.microbatch.meeting import meet, sum_losses
from w2v_abx.training.microbatch.memory import free_memory, out_of_memory
from w2v_abx.training.microbatch.search import search
from w2v_abx.training.microbatch.settings import check_trainer

__all__ = ["ElasticModule"]

Result = TypeVar("Result")


class ElasticModule(lightning.LightningModule):
    """Base of the objectives: the effective batch is constant, the micro-batch is not. See the package's docstring."""

    def __init__(
        self,
        microbatch: int | Literal["auto"] | None = None,
        gradient_clip_norm: float | None = None,
        microbatch_seconds: float | None = None,
        microbatch_grow_after: int | None = None,
    ) -> None:
        """``microbatch``: clips run at once to start with (None: all; auto: as many as the device holds, or as many as
        it is fastest with). ``gradient_clip_norm``: largest 2-norm of the gradient of the effective batch (None: not
        clipped). ``microbatch_seconds``: audio run at once, padding counted (None: any). ``microbatch_grow_after``:
        steps without running out of memory after which a micro-batch that had been halved doubles again (None: never).
        Raises InputError for values out of range."""
        super().__init__()
        self.automatic_optimization = False
        if gradient_clip_norm is not None and not 0 < gradient_clip_norm < math.inf:
            raise InputError(f"gradient_clip_norm={gradient_clip_norm} must be a positive number, or null for none.")
        self.gradient_clip_norm = gradient_clip_norm
        self.microbatches = MicroBatcher(microbatch, microbatch_seconds, microbatch_grow_after)
        self._evaluated = MicroBatcher()
        self._step: Finiteness | None = None  # the step under way
        self._unsure: Finiteness | None = None  # the step before, if the host has not been told how it went

    # What an objective is

    def prepare(self, batch: Batch) -> Batch:
        """The whole effective batch with everything random drawn, so that splitting changes nothing."""
        return batch

    def normaliser(self, batch: Batch) -> float | Tensor:
        """What the step's summed loss is divided by, of this rank's clips: their number unless overridden."""
        return float(batch_size(batch))

    def loss_sum(self, micro: Batch) -> Tensor | dict[str, Tensor]:
        """The loss summed over the micro-batch (scalar), alone or as ``"loss"`` among other scalar sums to log."""
        raise TypeError(f"{type(self).__name__} has no loss_sum")

    def worst_case(self, batch: Batch, clips: int, samples: int | None) -> Batch:
        """The clips that ask for the most memory, ``clips`` of them: the longest of ``batch``, their audio repeated to
        ``samples``. To be overridden where targets follow the audio in time."""
        return longest_clips(batch, clips, samples)

    # The step

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One effective batch, one optimiser step.

        Raises NonFiniteLoss, of this step or the one before, with the weights untouched by what is not finite; and
        InputError where a single clip exceeds the memory or another rank failed.
        """
        optimizer = self._only_optimizer()
        parameters = parameters_of(optimizer.optimizer)
        clips = batch_size(batch)
        if self.microbatches.auto and self.microbatches.found is None:
            with self._apart():
                self.microbatches.found = search(self, batch)
        batch = self._prepared(batch)
        normaliser: float | Tensor = self.normaliser(batch)
        normaliser = sum_over_ranks(normaliser)
        error: Exception | None = None
        if is_sharded(self.parameters()):  # those that are frozen, too, are gathered in each forward pass
            sums = self._in_step(batch, normaliser)
        else:
            sums, error = self._accumulate(batch, normaliser, optimizer.zero_grad)
        sum_used(parameters, meet(sums, parameters, list(self.microbatches.memory.values()), error))
        assert self._step is not None
        sums = sum_losses(sums, self._step)
        self._be_sure()
        self._update(optimizer)
        self._step_schedulers("step", self.global_step)
        self.log_dict({f"train/{name}": value for name, value in sums.items() if name != "loss"}, batch_size=clips)
        self.log("train/loss", sums["loss"], prog_bar=True, batch_size=clips)
        return {"loss": sums["loss"]}

    def _prepared(self, batch: Batch) -> Batch:
        """The batch as ``prepare`` makes it. Raises InputError where memory runs out, which no smaller piece helps."""
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
    def _apart(self) -> Iterator[None]:
        """Backward passes in here send nothing to other ranks, which may run more or fewer, or some again."""
        model = self.trainer.strategy.model
        with model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext():
            yield

    def _accumulate(
        self, batch: Batch, normaliser: float | Tensor, zero_grad: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Exception | None]:
        """Gradients of this rank's clips in place, and their normalised sums, in as many attempts as memory asks for;
        or what went wrong, for all ranks to be told."""
        while True:
            zero_grad()
            try:
                with self._apart():
                    return self._attempt(self.microbatches.split(batch), normaliser), None
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

    def _in_step(self, batch: Batch, normaliser: float | Tensor) -> dict[str, Tensor]:
        """As ``_accumulate`` where the ranks hold the weights together: each pass moves them between the ranks, so that
        all have to run the same number, and none can go back."""
        pieces = largest([len(self.microbatches.plan(batch))])[0]
        try:
            return self._attempt(self.microbatches.split_in(pieces, batch), normaliser, pieces)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        raise InputError(
            "Memory ran out, and with trainer=fsdp a step cannot be run again in smaller pieces; set "
            "objective.microbatch or objective.microbatch_seconds lower."
        )

    def _attempt(self, micros: Iterator[Batch], normaliser: float | Tensor, passes: int = 0) -> dict[str, Tensor]:
        """Run the pieces, and the last one again without effect until there were ``passes``."""
        step = self._step = Finiteness(self.global_step)
        sums: dict[str, Tensor] = {}
        micro: Batch = {}
        for micro in micros:
            terms = self._terms(micro)
            self.manual_backward(terms["loss"] / normaliser)
            for name, value in terms.items():
                share = value.detach() / normaliser
                sums[name] = sums[name] + share if name in sums else share
            step.add(terms["loss"].detach(), micro)
        for _ in range(passes - step.pieces):
            self.manual_backward(0.0 * self._terms(micro)["loss"])
        return sums

    def _terms(self, micro: Batch) -> dict[str, Tensor]:
        terms = self.loss_sum(micro)
        return terms if isinstance(terms, dict) else {"loss": terms}

    def _update(self, optimizer: LightningOptimizer) -> None:
        """The optimiser step."""
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

    def in_pieces(self, batch: Batch, work: Callable[[Batch], Result]) -> list[Result]:
        """What ``work``, which asks for no gradients, makes of the clips of a validation batch: of all at once, or of
        as many as memory holds. (Where ranks hold the weights together, of all: they have to make as many passes.)"""
        while True:
            try:
                return [work(piece) for piece in self._evaluated.split(batch)]
            except Exception as error:
                if not out_of_memory(error) or is_sharded(self.parameters()):
                    raise
            self._evaluated.halve()
            free_memory()

    # Lightning's hooks: a subclass that overrides one of these calls ``super()``

    def configure_callbacks(self) -> list[lightning.Callback]:
        """None; but Lightning asks for them first, before it looks at the trainer's settings in its own words."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            check_trainer(self.trainer, self.microbatches)
        return []

    def configure_model(self) -> None:
        """Divide the encoder among the ranks where the strategy is to do so."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            shard(self, self.trainer.strategy.device_mesh["data_parallel"])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """``lengths`` stay on the CPU, where batches are cut and padding is told from audio: nothing waits for the
        device to say them."""
        if not (isinstance(batch, dict) and "lengths" in batch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        rest = {name: value for name, value in batch.items() if name != "lengths"}
        if self._trainer is not None and isinstance(self.trainer.strategy.model, DistributedDataParallel):
            self.trainer.strategy.model.device_ids = None  # it would move them, and wait
        return {**super().transfer_batch_to_device(rest, device, dataloader_idx), "lengths": batch["lengths"]}

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
        if self._scaler is None and _takes_flag(optimizer) and not is_sharded(parameters):
            # The device itself leaves the weights alone, and the host need not wait to be told.
            optimizer.found_inf = step.found.float()  # type: ignore[attr-defined]
            step.send()
            self._unsure = step
        elif bool(step.found):
            optimizer.zero_grad()
            raise step.error()
        if self.gradient_clip_norm is not None:
            clip(parameters, self.gradient_clip_norm, norm)

    def _be_sure(self) -> None:
        """Raise NonFiniteLoss if the step before was not finite; its weights are those of the step before it."""
        step, self._unsure = self._unsure, None
        if step is not None and step.told():
            raise step.error()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint follows a step that is known to be good, and tells what memory has taught."""
        self._be_sure()
        checkpoint["microbatches"] = self.microbatches.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what memory has taught."""
        if "microbatches" in checkpoint:
            self.microbatches.load_state_dict(checkpoint["microbatches"])

    def on_train_epoch_end(self) -> None:
        """Schedulers of interval "epoch"."""
        self._be_sure()
        self._step_schedulers("epoch", self.current_epoch + 1)

    def _step_schedulers(self, interval: str, count: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            assert not isinstance(config.scheduler, ReduceLROnPlateau)
            if config.interval == interval and count % config.frequency == 0:
                config.scheduler.step()


def _takes_flag(optimizer: Optimizer) -> bool:
    """Whether the optimiser leaves the weights alone where ``found_inf`` is 1, as torch's fused ones do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))

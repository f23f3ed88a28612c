"""Train an encoder under any number of heads."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from w2v_abx.data.batch import Batch
from w2v_abx.data.dataset import STATES
from w2v_abx.data.module import ShardDataModule
from w2v_abx.distributed.collectives import gather, sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.features.cache import FeatureCache
from w2v_abx.heads.coupled import CoupledHead
from w2v_abx.heads.head import Head, HeadResult, States
from w2v_abx.heads.readout import Readout
from w2v_abx.heads.weighting import Fixed, Weighting
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import ElasticModule, MicroBatching
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.probing import store_features, stored_states
from w2v_abx.training.specaugment import SpecAugment

__all__ = ["Objective", "build"]

HELD_OUT = -1  # the "step" of all validation and test: what is drawn for a clip is the same each time
RESERVED = ("time_mask", "feature_mask", STATES)  # what SpecAugment, and features that are stored, add to a batch
CLIPS = " clips"  # what no head, and nothing that one sums, is called


def build(config: DictConfig, encoder: Encoder, data: ShardDataModule) -> "Objective":
    """Build the objective that a run's config describes: its groups objective, optimizer, weighting and microbatch."""
    for head in (config.objective.get("heads") or {}).values():
        if isinstance(head, DictConfig) and (missing := sorted(map(str, OmegaConf.missing_keys(head)))):
            raise InputError(f"{missing[0]} is missing; give {missing[0]}=…")
    make = instantiate(config.objective, _partial_=True)  # Hydra would make configs of records that are arguments
    objective: Objective = make(
        encoder=encoder,
        data=data,
        optimization=instantiate(config.optimizer),
        weighting=instantiate(config.weighting),
        microbatch=instantiate(config.microbatch),
        frozen=FeatureCache(Path(config.paths.data) / "features", config.features.gigabytes, config.features.dtype),
    )
    return objective


class Objective(ElasticModule):
    """An encoder and its heads, their losses weighted and summed.

    A step prepares the effective batch (all that is random), sums what losses are means over across ranks, adds up the
    micro-batches, synchronises and updates: see `w2v_abx.training.microbatch.module.ElasticModule.training_step`.
    Heads that share a pass of the encoder get their layers out of one; SpecAugment masks that one.

    Logged are ``train/loss``, ``train/HEAD_loss`` and what else each head sums; after a validation ``valid/loss``,
    ``valid/HEAD_loss`` and the like, and the heads' metrics, ``valid/HEAD_METRIC``; after a test ``test/…`` likewise.

    Args:
        encoder: trains as it was loaded to.
        heads: makes each head, by name, from ``encoder``, ``data`` and ``name``.
        data: the prepared corpus; it learns which targets to make.
        optimization: optimiser, schedule and clipping.
        weighting: of the heads' losses; None: fixed.
        microbatch: how much runs at once; None: all.
        masking: frames and channels to hide in training; None: none.
        frozen: where the features of an encoder that does not train are stored; None: it runs in every step.

    Raises:
        InputError: no heads; clips of which no head asks anything.
    """

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, Callable[..., Head]],
        data: ShardDataModule,
        optimization: Optimization,
        weighting: Weighting | None = None,
        microbatch: MicroBatching | None = None,
        masking: SpecAugment | None = None,
        frozen: FeatureCache | None = None,
    ) -> None:
        super().__init__(microbatch, optimization.gradient_clip_norm)
        self.encoder, self.optimization, self.masking, self.frozen = encoder, optimization, masking, frozen
        if masking is not None:
            masking.check(encoder)
        made = {name: make(encoder=encoder, data=data, name=name) for name, make in heads.items() if make is not None}
        if not made:
            raise InputError(
                "objective.heads is empty: give at least one, such as +head@objective.heads.labels=multilabel"
            )
        for name in made:
            if hasattr(nn.ModuleDict, name) or not name.isidentifier() or name in RESERVED:
                raise InputError(
                    f"objective.heads.{name}: a head cannot have this name, which is reserved or one of "
                    f"torch.nn.ModuleDict's: choose another"
                )
        if masking is not None and not any(head.shares_pass for head in made.values()):
            raise InputError("objective.masking hides nothing here: all heads mask their own input; leave it out")
        self.heads = nn.ModuleDict(made)
        self.weighting = weighting or Fixed()
        self.weighting.begin(list(made), {name: head.weight for name, head in made.items()})
        for head in self._heads():
            if isinstance(head, CoupledHead):
                head.split = lambda batch: [batch.slice(*span) for span in self.microbatches.plan(batch)]
        data.ask({name: head for name, head in made.items() if head.label is not None}, encoder)
        unlabelled = [name for name, mixed in data.mix.items() if not mixed.targets]
        if unlabelled and all(head.label is not None for head in made.values()):
            raise InputError(
                f"the clips of data.mix.{unlabelled[0]} have no targets, and no head asks anything else: give "
                f"objective=multilabel_replay, or data.mix.{unlabelled[0]}.targets=true if they carry the label"
            )
        self.validates, self.tests = data.has("valid"), data.has("test")
        self.results: dict[str, dict[str, HeadResult]] = {}  # by split ("valid" and "test") and head
        self._sums: dict[str, dict[str, Tensor]] = {}  # of the validation or test under way, by head

    def readouts(self) -> dict[str, Readout]:
        """Give those of the heads that have one."""
        return {head.name: found for head in self._heads() if (found := head.readout()) is not None}

    def _heads(self) -> Iterator[Head]:
        yield from self.heads.values()  # type: ignore[misc]

    # A training step

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step, and give its losses to the weighting."""
        # Here, as callbacks that save the state run before later hooks.
        sums = super().training_step(batch, batch_idx)
        self.weighting.step_end({name: sums[f"{name}_loss"] for name in self.heads if f"{name}_loss" in sums})
        return sums

    def prepare(self, batch: Batch) -> Batch:
        """Draw masks, negatives and the like for the whole effective batch."""
        return self._drawn(self._masked(batch), self.global_step)

    def totals(self, batch: Batch) -> dict[str, float]:
        """Count what each head's loss is the mean over."""
        return {CLIPS: float(len(batch)), **{head.name: head.total(batch) for head in self._heads()}}

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        """Compute the micro-batch's share of the weighted loss and of what heads log."""
        asked = [head.name for head in self._heads() if totals[head.name]]
        if not asked and all(head.label is None for head in self._heads()):
            reasons = "; ".join(f"objective.heads.{head.name}: {head.empty}" for head in self._heads())
            raise InputError(f"nothing is asked of the clips of step {self.global_step} ({reasons})")
        shares = {
            f"{head.name}_{what}": value / totals[head.name]
            for head, part, states in self._passes(micro)
            if head.name in asked
            for what, value in self._sums_of(head, part, states).items()
        }
        losses = {name: shares[f"{name}_loss"] for name in asked if f"{name}_loss" in shares}
        loss = self.weighting.combine(losses, len(micro) / totals[CLIPS], asked)
        return shares if loss is None else {"loss": loss, **shares}

    def _masked(self, batch: Batch) -> Batch:
        if self.masking is None:
            return batch
        frames = self.encoder.frame_lengths(batch.lengths)
        masks = self.masking.draw(batch.keys, frames, self.encoder.dim, self.global_step)
        return batch.with_extra(**{name: mask.to(self.device, non_blocking=True) for name, mask in masks.items()})

    def _drawn(self, batch: Batch, step: int) -> Batch:
        for head in self._heads():
            batch = head.prepare(self.encoder, batch, step)
        return batch

    def _passes(self, micro: Batch) -> Iterator[tuple[Head, Batch, States | None]]:
        """Give each head the clips that it asks something of, and their states out of the pass that heads share."""
        rows = {head: found for head in self._heads() if (found := head.concerned(micro))}
        sharing = {head: found for head, found in rows.items() if head.shares_pass}
        if sharing:
            asked = sorted({row for found in sharing.values() for row in found})
            layers = sorted({layer for head in sharing for layer in head.layers})
            batch = micro.rows(asked)
            if STATES in batch.extra:
                states = stored_states(self.encoder, batch, layers)
            else:
                states = next(iter(sharing)).encode(self.encoder, batch, layers)
        for head, found in rows.items():
            if head.shares_pass:
                places = [asked.index(row) for row in found]
                yield head, batch.rows(places), states.rows(places)
            else:
                yield head, micro.rows(found), None

    def _sums_of(self, head: Head, batch: Batch, states: States | None) -> dict[str, Tensor]:
        return head.terms(self.encoder, batch) if states is None else head.loss_sum(states, batch)

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self._begin()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._rate(batch)

    def on_validation_epoch_end(self) -> None:
        self._conclude("valid")

    def on_test_epoch_start(self) -> None:
        self._begin()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._rate(batch)

    def on_test_epoch_end(self) -> None:
        self._conclude("test")

    def _begin(self) -> None:
        self._sums = {}
        for head in self._heads():
            head.reset()

    def _rate(self, batch: Batch) -> None:
        """Add a held-out batch to the heads' sums and predictions."""
        batch = self._drawn(batch, HELD_OUT)
        for found in self.in_micro_batches(batch, self._rated):
            for name, (sums, predicted, part) in found.items():
                summed = self._sums.setdefault(name, {})
                for what, value in sums.items():
                    summed[what] = summed[what] + value if what in summed else value
                if predicted is not None:
                    self.heads[name].update(predicted, part)  # type: ignore[operator]

    def _rated(self, micro: Batch) -> dict[str, tuple[dict[str, Tensor], Any, Batch]]:
        """Compute each head's sums and predictions, and the clips that they are of."""
        found: dict[str, Any] = {}
        for head, part, states in self._passes(micro):
            total = torch.full((), head.total(part), device=self.device)
            # Of one type, so that a rank without clips of the head's can join the sum.
            sums = {what: value.float() for what, value in self._sums_of(head, part, states).items()} | {CLIPS: total}
            predicted = None if states is None or head.label is None else head.predict(states, part)
            found[head.name] = sums, predicted, part
        return found

    def _conclude(self, split: str) -> None:
        """Log what the heads reach on the split, and keep their results."""
        shapes = {name: {what: list(sum_.shape) for what, sum_ in sums.items()} for name, sums in self._sums.items()}
        everyones = {name: found for ranks in gather(shapes) for name, found in ranks.items()}
        losses: dict[str, Tensor] = {}
        for head in self._heads():
            own = self._sums.get(head.name, {})
            sums = {  # a rank may have had no clip of the head's
                what: sum_over_ranks(own[what] if own else torch.zeros(shape, device=self.device))
                for what, shape in sorted(everyones.get(head.name, {}).items())
            }
            if total := float(sums.pop(CLIPS, 0.0)):
                for what, value in head.summary(sums, total).items():
                    self.log(f"{split}/{head.name}_{what}", value, sync_dist=True)
                    if what == "loss":
                        losses[head.name] = value
            result = self.results.setdefault(split, {})[head.name] = head.result()
            for metric in head.logged:
                if (number := result.metrics.get(metric)) is not None:
                    self.log(f"{split}/{head.name}_{metric}", float(number), prog_bar=True, sync_dist=True)
        if losses:  # with the configs' weights, which are the same in every epoch
            self.log(f"{split}/loss", self.weighting.weighted(losses), prog_bar=True, sync_dist=True)

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        if not self.validates:
            self.trainer.limit_val_batches = 0

    def on_fit_start(self) -> None:
        """Let heads find on training clips what they need; then these need no audio if the encoder is frozen."""
        for head in self._heads():
            head.begin(self.encoder, iter(self._training_batches()))
        if self.frozen is not None:
            store_features(self, self.frozen)

    def _training_batches(self) -> Iterator[Batch]:
        yield from self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.trainer.is_last_batch:  # else training ends inside the epoch, and may go on there
            self.weighting.epoch_end()
        self.log_dict({f"train/{name}_weight": value for name, value in self.weighting.current().items()})

    def on_fit_end(self) -> None:
        """Write what heads leave: after the callbacks, which may have put other weights in place; also where a resumed
        run had no step left, so that a run that was killed between its last checkpoint and here writes what it lacks.
        """
        if self.trainer.is_global_zero:
            for head in self._heads():
                head.finish(self.encoder)

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self)

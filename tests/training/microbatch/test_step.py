"""The effective batch is constant: splitting, shrinking and running out of memory never change the mathematics."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from elastic import CLIPS, STEPS, Objective, fit, make_batch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor

from w2v_abx.data.batch import Batch, Target
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch import ElasticModule, MicroBatcher, MicroBatching
from w2v_abx.training.microbatch.settings import check_trainer
from w2v_abx.training.optimization import Optimization

RUN: dict[str, Any] = {"gradient_clip_norm": 0.1}
TWO = MicroBatching(clips=2)
NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


def fused(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, fused=True)


def assert_same(module: ElasticModule, losses: list[float], whole: tuple[ElasticModule, list[float]]) -> None:
    torch.testing.assert_close(losses, whole[1], rtol=1e-5, atol=0)
    for left, right in zip(module.parameters(), whole[0].parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def whole() -> tuple[ElasticModule, list[float]]:
    module = Objective(**RUN)
    return module, fit(module)[1]


@pytest.mark.parametrize("size", [1, 2, 4, CLIPS, 100])
def test_micro_batch_size_changes_nothing(size: int, whole: tuple[ElasticModule, list[float]]) -> None:
    module = Objective(microbatch=MicroBatching(clips=size), **RUN)
    trainer, losses = fit(module)
    assert_same(module, losses, whole)
    assert max(module.seen) == min(size, CLIPS)
    assert trainer.global_step == STEPS
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.8**STEPS)


def test_no_memory_for_what_is_done_with_all_clips_says_so() -> None:
    class Greedy(Objective):
        def prepare(self, batch: Batch) -> Batch:
            raise torch.OutOfMemoryError(NO_MEMORY)

    with pytest.raises(InputError, match=r"with all its clips at once.*data\.batch_size"):
        fit(Greedy(microbatch=MicroBatching(clips=1)))


def test_neither_do_limits_of_audio(whole: tuple[ElasticModule, list[float]]) -> None:
    module = Objective(microbatch=MicroBatching(clips=3, seconds=80 / 16_000), **RUN)  # two clips of the longest
    assert_same(module, fit(module)[1], whole)
    assert max(module.seen) in (2, 3)


def test_a_fused_optimizer_takes_the_same_steps(whole: tuple[ElasticModule, list[float]]) -> None:
    module = Objective(optimizer=fused, microbatch=TWO, **RUN)
    assert_same(module, fit(module)[1], whole)


def test_the_steps_are_those_of_torch_alone(whole: tuple[ElasticModule, list[float]]) -> None:
    """Against autograd over the whole batch, torch's clipping, its AdamW, and nothing of Lightning."""
    plain = Objective()
    plain.trainer = None
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.05)
    losses = []
    for step in range(STEPS):
        batch = make_batch(step)
        prepared = Draw(step).prepare(batch)
        loss = plain.loss(prepared, plain.totals(prepared))["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        optimizer.param_groups[0]["lr"] = 0.05 * 0.8**step
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert_same(plain, losses, whole)


class Draw(Objective):
    """Draws what a trainer at this step would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    @property
    def global_step(self) -> int:
        return self.step


def test_shrinking_in_the_middle_of_a_step_changes_nothing(whole: tuple[ElasticModule, list[float]]) -> None:
    def shrink(module: Objective, micro: Batch) -> None:
        if len(module.seen) == 3:
            module.microbatches.limit("heat", 1)

    module = Objective(shrink, microbatch=MicroBatching(clips=3), **RUN)
    assert_same(module, fit(module)[1], whole)
    assert module.seen[:8] == [3, 3, 1, 3, 1, 1, 1, 1]


class Picky(Objective):
    """Asks nothing of clips whose key does not end in a digit of its ``asked``."""

    def __init__(self, asked: str, **options: Any) -> None:
        super().__init__(**options)
        self.asked = asked

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        rows = [row for row, key in enumerate(micro.keys) if key[-1] in self.asked]
        return super().loss(micro.rows(rows), totals) if rows else {}


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, fused])
def test_micro_batches_of_which_nothing_is_asked(optimizer: Any) -> None:
    whole, module = (Picky("35", optimizer=optimizer, microbatch=size, **RUN) for size in (None, TWO))
    losses = fit(whole)[1]
    assert_same(module, fit(module)[1], (whole, losses))
    assert module.seen == [1, 1] * STEPS
    idle, before = Picky("", optimizer=optimizer, microbatch=TWO, **RUN), Objective()
    assert fit(idle)[1] == [0.0] * STEPS
    assert_same(idle, [], (before, []))


@pytest.mark.parametrize("in_backward", [False, True])
def test_out_of_memory_halves_and_repeats_the_same_samples(
    in_backward: bool, whole: tuple[ElasticModule, list[float]]
) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError(NO_MEMORY)

    def exhaust(module: Objective, micro: Batch) -> None:
        # The second micro-batch of a step, so that gradients of the first one are already in place.
        if len(micro) > 2 and micro.keys[0].endswith("-4"):
            if not in_backward:
                fail()
            micro.waveforms.requires_grad_().register_hook(fail)

    module = Objective(exhaust, microbatch=MicroBatching(clips=4), **RUN)
    trainer, losses = fit(module)
    assert_same(module, losses, whole)
    assert module.microbatches.size == 2
    assert trainer.global_step == STEPS


def holds(clips: int) -> Any:
    """A device whose memory holds so many clips."""

    def watch(module: Objective, micro: Batch) -> None:
        if len(micro) > clips:
            raise torch.OutOfMemoryError(NO_MEMORY)

    return watch


def test_memory_grows_back_when_told_to(whole: tuple[ElasticModule, list[float]]) -> None:
    def watch(module: Objective, micro: Batch) -> None:
        if module.global_step == 0:
            holds(1)(module, micro)

    module = Objective(watch, microbatch=MicroBatching(grow_after=1), **RUN)
    assert_same(module, fit(module)[1], whole)
    assert module.seen == [*[1] * 7, *[1] * 7, 2, 2, 2, 1, 4, 3]


def test_what_memory_has_taught_survives_a_resume(tmp_path: Path) -> None:
    whole = Objective(**RUN)
    whole_losses = fit(whole, max_epochs=2)[1]
    saving = ModelCheckpoint(tmp_path, filename="first", save_on_train_epoch_end=True)
    losses = fit(Objective(holds(2), **RUN), enable_checkpointing=True, callbacks=[saving])[1]
    second = Objective(holds(2), **RUN)
    losses += fit(second, resume=tmp_path / "first.ckpt", max_epochs=2)[1]
    assert_same(second, losses, (whole, whole_losses))
    assert second.seen == [1] * CLIPS * STEPS  # 7 -> 3 -> 1 was learnt once


def test_out_of_memory_with_one_clip_says_what_to_do() -> None:
    with pytest.raises(InputError, match="single clip"):
        fit(Objective(holds(0)))


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def fail(module: Objective, micro: Batch) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        fit(Objective(fail))


def test_validation_runs_in_micro_batches_that_memory_holds() -> None:
    module, batch, seen = Objective(), make_batch(0), []

    def work(micro: Batch) -> Tensor:
        seen.append(len(micro))
        holds(2)(module, micro)
        return micro.waveforms.sum(1)

    for _ in range(2):
        torch.testing.assert_close(torch.cat(module.in_micro_batches(batch, work)), batch.waveforms.sum(1))
    assert seen == [7, 3, *[1] * 7, *[1] * 7]
    assert module.microbatches.size is None  # training has its own limits
    with pytest.raises(ValueError, match="another"):
        module.in_micro_batches(batch, lambda micro: int("another"))


class Pushed(lightning.Callback):
    """Adds to gradients, as L2-SP does, which unscales nothing and clips nothing."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for weight in pl_module.parameters():
            weight.grad.add_(weight.detach(), alpha=3.0)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, fused])
@pytest.mark.parametrize("scale", [1.0, 256.0])
def test_callbacks_change_gradients_before_they_are_clipped(optimizer: Any, scale: float) -> None:
    plain = Objective()
    reference = torch.optim.AdamW(plain.parameters(), lr=0.05)
    prepared = Draw(0).prepare(make_batch(0))
    plain.loss(prepared, plain.totals(prepared))["loss"].backward()
    for weight in plain.parameters():
        assert weight.grad is not None
        weight.grad.add_(weight.detach(), alpha=3.0)
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
    reference.step()
    module = Objective(optimizer=optimizer, microbatch=TWO, **RUN)
    fit(module, [make_batch(0)], callbacks=[Pushed()], plugins=[scaled(scale)])
    assert_same(module, [], (plain, []))


def test_schedules_of_epochs_and_of_every_so_many_steps() -> None:
    class Epochs(Objective):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    class Halves(Objective):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
            return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 2}]

    assert fit(Epochs(microbatch=TWO), max_epochs=3)[0].optimizers[0].param_groups[0]["lr"] == 0.125
    assert fit(Halves(microbatch=TWO))[0].optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_the_learning_rate_is_logged_as_ever(tmp_path: Path) -> None:
    fit(
        Objective(microbatch=TWO),
        logger=CSVLogger(tmp_path, "", ""),
        log_every_n_steps=1,
        callbacks=[LearningRateMonitor("step")],
    )
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("lr-AdamW")
    rates = [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
    assert rates == pytest.approx([0.05 * 0.8**step for step in range(STEPS)])


def test_bfloat16_in_micro_batches_is_bfloat16() -> None:
    runs = []
    for size in (None, 2):
        module = Objective(microbatch=MicroBatching(clips=size), **RUN)
        runs.append((module, fit(module, precision="bf16-mixed")[1]))
    torch.testing.assert_close(runs[0][1], runs[1][1], rtol=1e-2, atol=0)
    assert all(weight.dtype == torch.float32 for weight in runs[0][0].parameters())
    single = Objective(**RUN)
    assert fit(single)[1] != runs[0][1]


class Overflows(Objective):
    """Its gradient is infinite in the second step, its loss is not."""

    def on_after_backward(self) -> None:
        if self.global_step == 1:
            self.net[0].weight.grad.fill_(torch.inf)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, fused])
def test_a_loss_scaler_skips_the_step_whose_gradient_overflows(optimizer: Any) -> None:
    weights: list[list[Tensor]] = []

    class Watched(Overflows):
        def on_train_batch_end(self, *_: Any) -> None:
            weights.append([weight.detach().clone() for weight in self.parameters()])

    def run(size: int | None) -> tuple[Objective, list[float], Any]:
        weights.clear()
        module = Watched(optimizer=optimizer, microbatch=MicroBatching(clips=size), **RUN)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        _, losses = fit(module, plugins=[plugin])
        return module, losses, scaler

    _, losses, scaler = run(None)
    assert scaler.get_scale() == 128.0
    assert all(torch.equal(before, after) for before, after in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[1][0], weights[2][0])
    assert run(2)[1] == pytest.approx(losses, rel=1e-2)


def scaled(scale: float) -> MixedPrecision:
    """A loss scaler without half precision."""
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))
    plugin.autocast_context_manager = lambda: torch.autocast("cpu", enabled=False)  # type: ignore[method-assign]
    return plugin


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, fused])
def test_clipping_under_a_loss_scaler_is_that_of_unscaled_gradients(optimizer: Any) -> None:
    module = Objective(optimizer=optimizer, microbatch=TWO, **RUN)
    losses = fit(module, plugins=[scaled(256.0)])[1]
    reference = Objective(**RUN)
    assert_same(module, losses, (reference, fit(reference)[1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 0.5}, "set optimizer.gradient_clip_norm=0.5"),
        ({"accumulate_grad_batches": 4}, "leave out trainer.accumulate_grad_batches"),
        ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, "leave out trainer.accumulate_grad_batches"),
    ],
)
def test_what_lightning_would_do_elsewhere_names_its_place_here(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(Objective(), **settings)


def test_strategies_that_do_not_go_with_it_are_refused() -> None:
    other = SimpleNamespace(strategy=FSDPStrategy(), gradient_clip_val=None, accumulate_grad_batches=1, callbacks=[])
    with pytest.raises(InputError, match=r"trainer.strategy=FSDPStrategy does not go .* take ddp"):
        check_trainer(other, MicroBatcher())  # type: ignore[arg-type]


def test_more_optimizers_and_plateaus_are_refused_before_the_first_step() -> None:
    class Two(Objective):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=1.0), torch.optim.SGD(self.parameters(), lr=1.0)]

    class Plateau(Objective):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return [optimizer], [torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)]

    for module, message in ((Two(), "2 optimisers"), (Plateau(), "ReduceLROnPlateau")):
        with pytest.raises(InputError, match=message):
            fit(module)
        assert not module.seen


@pytest.mark.parametrize("clip", [0, -1.0, float("nan")])
def test_bad_clipping_is_refused(clip: float) -> None:
    with pytest.raises(InputError, match=r"optimizer\.gradient_clip_norm=.* must be a number above 0"):
        Optimization(torch.optim.SGD, gradient_clip_norm=clip)


def test_what_the_host_needs_stays_there() -> None:
    ragged = Target(torch.zeros(7, 2), torch.full((7,), 2), torch.ones(7, dtype=torch.bool))
    batch = replace(make_batch(0), targets={"labels": ragged}).with_extra(mask=torch.zeros(7, 3))
    moved = Objective().transfer_batch_to_device(batch, torch.device("meta"), 0)
    target = moved.targets["labels"]
    assert [moved.waveforms.device.type, target.values.device.type, moved.extra["mask"].device.type] == ["meta"] * 3
    assert target.lengths is not None
    assert [moved.lengths.device.type, target.lengths.device.type, target.present.device.type] == ["cpu"] * 3

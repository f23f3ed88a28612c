"""The effective batch is constant: splitting, shrinking and running out of memory never change the mathematics."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from w2v_abx.errors import InputError
from w2v_abx.microbatch import Batch, ElasticModule, MicroBatcher, NonFiniteLoss, batch_size

CLIPS, SAMPLES, STEPS = 7, 40, 4


def make_batch(index: int, clips: int = CLIPS) -> Batch:
    generator = torch.Generator().manual_seed(index)
    lengths = torch.randint(SAMPLES // 2, SAMPLES + 1, (clips,), generator=generator)
    waveforms = torch.randn(clips, SAMPLES, generator=generator)
    waveforms[torch.arange(SAMPLES) >= lengths[:, None]] = 0.0
    labels = torch.rand(clips, 3, generator=generator).round()
    keys = [f"{index}-{clip}" for clip in range(clips)]
    return {"keys": keys, "waveforms": waveforms, "lengths": lengths, "targets": {"labels": labels}}


class Objective(ElasticModule):
    """Masked sum of squares over frames and a multilabel loss: a frame-wise normaliser and a random mask."""

    def __init__(
        self, watch: Callable[["Objective", Batch], None] = lambda module, micro: None, **options: Any
    ) -> None:
        super().__init__(**options)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 3))
        self.watch = watch
        self.seen: list[int] = []

    def prepare(self, batch: Batch) -> Batch:
        generator = torch.Generator().manual_seed(self.global_step)
        return {**batch, "mask": torch.rand(batch["waveforms"].shape, generator=generator) < 0.5}

    def normaliser(self, batch: Batch) -> Tensor:
        return batch["mask"].sum()

    def loss_sum(self, micro: Batch) -> dict[str, Tensor]:
        self.watch(self, micro)
        self.seen.append(len(micro["keys"]))
        logits = self.net(micro["waveforms"][..., None])
        mask = micro["mask"][:, : logits.shape[1]] & (torch.arange(logits.shape[1]) < micro["lengths"][:, None])
        errors = nn.functional.binary_cross_entropy_with_logits(
            logits, micro["targets"]["labels"][:, None].expand_as(logits), reduction="none"
        )
        loss = (errors.mean(-1) * mask).sum()
        return {"loss": loss, "frames": mask.sum()}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.8**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Losses(lightning.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(trainer.callback_metrics["train/loss"]))


def fit(module: ElasticModule, batches: list[Batch] | None = None) -> tuple[lightning.Trainer, list[float]]:
    losses = Losses()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[losses],
    )
    batches = batches or [make_batch(index) for index in range(STEPS)]
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return trainer, losses.values


def assert_same(module: ElasticModule, losses: list[float], whole: tuple[ElasticModule, list[float]]) -> None:
    torch.testing.assert_close(losses, whole[1], rtol=1e-5, atol=0)
    for left, right in zip(module.parameters(), whole[0].parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def whole() -> tuple[ElasticModule, list[float]]:
    module = Objective(gradient_clip_norm=0.1)
    return module, fit(module)[1]


@pytest.mark.parametrize("size", [1, 2, 4, CLIPS, 100])
def test_micro_batch_size_changes_nothing(size: int, whole: tuple[ElasticModule, list[float]]) -> None:
    module = Objective(microbatch=size, gradient_clip_norm=0.1)
    trainer, losses = fit(module)
    assert_same(module, losses, whole)
    assert max(module.seen) == min(size, CLIPS)
    assert trainer.global_step == STEPS
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.8**STEPS)


def test_gradient_of_a_step_is_that_of_the_plain_mean() -> None:
    """Against torch alone: one SGD step from autograd over the whole batch."""

    class Sgd(Objective):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    plain, module, batch = Sgd(), Sgd(microbatch=2), make_batch(0)
    mask = torch.rand(batch["waveforms"].shape, generator=torch.Generator().manual_seed(0)) < 0.5
    (plain.loss_sum({**batch, "mask": mask})["loss"] / mask.sum()).backward()
    fit(module, [batch])
    for before, after in zip(plain.parameters(), module.parameters(), strict=True):
        assert before.grad is not None
        torch.testing.assert_close(after, before - before.grad, rtol=1e-5, atol=1e-7)


def test_shrinking_in_the_middle_of_a_step_changes_nothing(whole: tuple[ElasticModule, list[float]]) -> None:
    def shrink(module: Objective, micro: Batch) -> None:
        if len(module.seen) == 3:
            module.microbatches.limit("heat", 1)

    module = Objective(shrink, microbatch=3, gradient_clip_norm=0.1)
    assert_same(module, fit(module)[1], whole)
    assert module.seen[:8] == [3, 3, 1, 3, 1, 1, 1, 1]


@pytest.mark.parametrize("in_backward", [False, True])
def test_out_of_memory_halves_and_repeats_the_same_samples(
    in_backward: bool, whole: tuple[ElasticModule, list[float]]
) -> None:
    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def exhaust(module: Objective, micro: Batch) -> None:
        # The second micro-batch of a step, so that gradients of the first one are already in place.
        if len(micro["keys"]) > 2 and micro["keys"][0].endswith("-4"):
            if not in_backward:
                fail()
            micro["waveforms"] = micro["waveforms"].requires_grad_()
            micro["waveforms"].register_hook(fail)

    module = Objective(exhaust, microbatch=4, gradient_clip_norm=0.1)
    trainer, losses = fit(module)
    assert_same(module, losses, whole)
    assert module.microbatches.size == 2
    assert trainer.global_step == STEPS


def test_out_of_memory_with_one_clip_says_what_to_do() -> None:
    def exhaust(module: Objective, micro: Batch) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: out of memory")

    with pytest.raises(InputError, match="single clip"):
        fit(Objective(exhaust))


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def fail(module: Objective, micro: Batch) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        fit(Objective(fail))


def test_non_finite_loss_names_its_clips_and_leaves_the_weights() -> None:
    batch = make_batch(0)
    batch["waveforms"][3, 0] = torch.nan
    module = Objective(microbatch=2)
    with pytest.raises(NonFiniteLoss, match="0-2, 0-3") as error:
        fit(module, [batch])
    assert error.value.keys == ["0-2", "0-3"]
    for left, right in zip(module.parameters(), Objective().parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_epoch_schedulers_step_once_per_epoch() -> None:
    class Epochs(Objective):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    trainer, _ = fit(Epochs(microbatch=2))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5


@given(
    clips=st.integers(1, 9),
    start=st.none() | st.integers(1, 9),
    limits=st.lists(st.none() | st.integers(1, 9), max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_split_hands_out_each_clip_once_in_order(clips: int, start: int | None, limits: list[int | None]) -> None:
    batch = {**make_batch(1, clips), "count": torch.tensor(5), "rate": 50.0, "note": None}
    batcher = MicroBatcher(start)
    plan: Iterator[int | None] = iter(limits)
    allowed: list[int] = []

    def change() -> None:
        batcher.limit("heat", next(plan, None))
        allowed.append(batcher.size or clips)

    batcher.hooks.append(change)
    micros = list(batcher.split(batch))
    assert [key for micro in micros for key in micro["keys"]] == batch["keys"]
    torch.testing.assert_close(torch.cat([micro["targets"]["labels"] for micro in micros]), batch["targets"]["labels"])
    for micro, size in zip(micros, allowed, strict=True):
        assert batch_size(micro) <= size
        assert micro["waveforms"].shape[1] == micro["lengths"].max()
        assert (micro["count"], micro["rate"], micro["note"]) == (torch.tensor(5), 50.0, None)
        for clip, key in enumerate(micro["keys"]):
            length = micro["lengths"][clip]
            whole_clip = batch["waveforms"][batch["keys"].index(key)]
            assert torch.equal(micro["waveforms"][clip, :length], whole_clip[:length])


def test_a_lifted_limit_does_not_lift_another() -> None:
    batcher = MicroBatcher(16)
    batcher.limit("memory", 8)
    batcher.limit("heat", 2)
    assert batcher.size == 2
    batcher.limit("heat", None)
    assert batcher.size == 8


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "auto"])
def test_bad_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match="microbatch"):
        MicroBatcher(size)


def test_rows_that_do_not_match_are_named() -> None:
    batch = make_batch(0)
    batch["targets"]["labels"] = batch["targets"]["labels"][:-1]
    with pytest.raises(InputError, match=r"targets\.labels"):
        list(MicroBatcher().split(batch))


@pytest.mark.parametrize("clip", [0, -1.0, float("nan")])
def test_bad_clipping_is_refused(clip: float) -> None:
    with pytest.raises(InputError, match="gradient_clip_norm"):
        ElasticModule(gradient_clip_norm=clip)

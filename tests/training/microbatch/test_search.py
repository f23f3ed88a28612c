"""microbatch.clips=auto: as many as the memory of a device holds, and nothing else changes."""

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from elastic import SAMPLES, Objective, fit, make_batch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from w2v_abx.data.batch import Batch
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.microbatch.search import most_that_holds

AUTO = MicroBatching(clips="auto")


@given(most=st.integers(1, 300), memory=st.integers(0, 400))
def test_most_that_holds_is_within_an_eighth(most: int, memory: int) -> None:
    tried: list[int] = []

    def hold(clips: int) -> bool:
        tried.append(clips)
        return clips <= memory

    found = most_that_holds(hold, most)
    best = min(most, memory)
    assert best - max(0, found // 8) <= found <= best
    assert max(tried) <= most
    assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1


def states() -> list[Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), kind, keys.tolist(), *rest]


class Watched(Objective):
    """A device that holds so many clips and says so; draws at random, and is watched when its first step begins."""

    def __init__(self, memory: int, **options: Any) -> None:
        def watch(module: Objective, micro: Batch) -> None:
            if len(micro) > memory:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002

        super().__init__(watch, **options)
        self.register_buffer("count", torch.zeros(()))
        self.shapes: list[tuple[int, ...]] = []
        self.tried = 0

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> Any:
        self.count += 1
        self.shapes.append(tuple(micro.waveforms.shape))
        return super().loss(micro, totals)

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        before = [weight.detach().clone() for weight in (*self.parameters(), *self.buffers())], states()
        if batch_idx == 0:
            self.at_first = before
        return super().training_step(batch, batch_idx)

    def totals(self, batch: Batch) -> Any:
        if self.global_step == 0 and self.microbatches.found:  # the search is over, the step begins
            self.tried = len(self.shapes)
            after = [weight.detach().clone() for weight in (*self.parameters(), *self.buffers())], states()
            assert all(torch.equal(old, new) for old, new in zip(self.at_first[0], after[0], strict=True))
            assert self.at_first[1] == after[1]
            assert all(weight.grad is None for weight in self.parameters())
            assert not self.trainer.optimizers[0].state
            assert not self.trainer.callback_metrics
        return super().totals(batch)


@pytest.fixture
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("w2v_abx.training.microbatch.module.reports_full_memory", lambda device: True)


@pytest.mark.usefixtures("_gpu")
@pytest.mark.parametrize(("memory", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (5, [4, 3]), (99, [7])])
def test_a_device_is_filled(memory: int, sizes: list[int], caplog: pytest.LogCaptureFixture) -> None:
    batches = [make_batch(index) for index in range(3)]
    for batch in batches:  # clips of one length, so that their number tells a micro-batch's size
        batch.lengths.fill_(SAMPLES)
    whole, module = Objective(), Watched(memory, microbatch=AUTO)
    with caplog.at_level(logging.INFO, "w2v_abx"):
        losses = fit(module, batches)[1]
    torch.testing.assert_close(losses, fit(whole, batches)[1], rtol=1e-5, atol=0)
    assert [shape[0] for shape in module.shapes[module.tried :]] == sizes * 3
    assert module.microbatches.memory["samples"].size is None  # no step ran out
    assert f"microbatch.clips=auto: {sizes[0]} clips of {SAMPLES / 16_000:g} s at once (of 7" in caplog.text


@pytest.mark.usefixtures("_gpu")
def test_trials_are_of_the_longest_clip_and_micro_batches_by_its_length() -> None:
    module = Watched(3, microbatch=AUTO)
    fit(module)
    longest = int(make_batch(0).lengths.max())
    assert {shape[1] for shape in module.shapes[: module.tried]} == {longest}
    assert module.microbatches.samples == 3 * longest


@pytest.mark.usefixtures("_gpu")
def test_trials_skip_no_block() -> None:
    class Skipping(Watched):
        def __init__(self, **options: Any) -> None:
            super().__init__(99, **options)
            self.net.config, self.chances = SimpleNamespace(layerdrop=0.5), []

        def loss(self, micro: Batch, totals: Mapping[str, float]) -> Any:
            self.chances.append(self.net.config.layerdrop)
            return super().loss(micro, totals)

    module = Skipping(microbatch=AUTO)
    fit(module)
    assert set(module.chances[: module.tried]) == {0.0}
    assert set(module.chances[module.tried :]) == {0.5}


@pytest.mark.usefixtures("_gpu")
def test_a_limit_of_audio_also_holds_for_trials() -> None:
    module = Watched(99, microbatch=MicroBatching("auto", 2 * SAMPLES / 16_000))
    fit(module)
    assert max(shape[0] for shape in module.shapes[: module.tried]) == 2


@pytest.mark.usefixtures("_gpu")
def test_no_memory_for_one_clip_says_what_to_do() -> None:
    with pytest.raises(InputError, match="does not hold a single clip"):
        fit(Watched(0, microbatch=AUTO))


@pytest.mark.usefixtures("_gpu")
def test_a_resumed_run_does_not_search_again(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="first", save_on_train_epoch_end=True)
    fit(Watched(3, microbatch=AUTO), enable_checkpointing=True, callbacks=[saving])
    module = Watched(3, microbatch=AUTO)
    fit(module, resume=tmp_path / "first.ckpt", max_epochs=2)
    assert module.tried == 0
    assert max(shape[0] * shape[1] for shape in module.shapes) <= 3 * int(make_batch(0).lengths.max())
    module = Watched(3, microbatch=MicroBatching(clips=2))  # another setting is another wish
    fit(module, resume=tmp_path / "first.ckpt", max_epochs=2)
    assert module.microbatches.samples is None


def test_on_a_cpu_it_is_the_whole_batch() -> None:
    module = Watched(99, microbatch=AUTO)
    fit(module)
    assert [shape[0] for shape in module.shapes] == [len(make_batch(index)) for index in range(len(module.shapes))]

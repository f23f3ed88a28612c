import functools
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import ARCHITECTURE, quiet_trainer

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.masked_prediction import MaskedPrediction, change_speed
from w2v_abx.heads.masking import draw_mask
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=5),
    share=st.floats(0.05, 1.0),
    span=st.integers(1, 20),
    seed=st.integers(0, 100),
)
def test_masks_lie_inside_their_clips(lengths: list[int], share: float, span: int, seed: int) -> None:
    def draw() -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed + row) for row in range(len(lengths))]
        return draw_mask(torch.tensor(lengths), share, span, generators)

    mask, again = draw(), draw()
    assert mask.shape == (len(lengths), max(lengths))
    assert torch.equal(mask, again)
    for row, length in zip(mask, lengths, strict=True):
        assert not row[length:].any()
        masked = int(row.sum())
        assert min(span, length) <= masked <= max(span, round(share * length / span) * span)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_moves_pitch_and_length(factor: float) -> None:
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(16_000) / 16_000)
    waveforms, lengths = torch.zeros(2, 16_000), torch.tensor([16_000, 8_000])
    waveforms[0], waveforms[1, :8_000] = tone, tone[:8_000]
    played, fast = change_speed(waveforms, lengths, torch.tensor([factor, factor]))
    assert fast.tolist() == pytest.approx([16_000 / factor, 8_000 / factor], abs=1)
    assert not played[1, fast[1] :].any()
    for row, length in zip(played, fast.tolist(), strict=True):
        spectrum = torch.fft.rfft(row[:length])
        assert float(spectrum.abs().argmax() * 16_000 / length) == pytest.approx(500 * factor, abs=2)


class Sequences:
    """Clips of 0.5 to 1 s that change every fifth of a second between a low tone, a high tone and noise."""

    name = "sequences"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clips(self) -> list[Clip]:
        rng = np.random.default_rng(0)
        made = []
        for number in range(6):
            path = self.folder / f"{number}.wav"
            time = np.arange(3_200) / 16_000
            sounds = [np.sin(2 * np.pi * 200 * time), np.sin(2 * np.pi * 3_000 * time), rng.standard_normal(3_200)]
            samples = np.concatenate([sounds[rng.integers(3)] for _ in range(5)])
            audio.save(path, (0.1 * samples[: int(rng.integers(8_000, 16_000))]).astype(np.float32))
            made.append(Clip(path.stem, path))
        return made


def objective(
    data: ShardDataModule,
    optimizer: type = torch.optim.AdamW,
    lr: float = 5e-3,
    microbatch: int | None = None,
    **settings: object,
) -> Objective:
    optimization = Optimization(functools.partial(optimizer, lr=lr), warmup_share=0.0)
    torch.manual_seed(0)
    head = functools.partial(MaskedPrediction, **{"clusters": 8, "cluster_clips": 6, "mask_time_length": 2, **settings})
    encoder = Encoder.random(ARCHITECTURE)
    return Objective(encoder, {"clusters": head}, data, optimization, microbatch=MicroBatching(microbatch))


@pytest.fixture
def data(tmp_path: Path) -> ShardDataModule:
    shards.prepare(Sequences(tmp_path / "audio"), tmp_path / "shards")
    return ShardDataModule(tmp_path / "shards", batch_size=6)


def fit(module: Objective, data: ShardDataModule, folder: Path, steps: int) -> list[float]:
    class Losses(lightning.Callback):
        values: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
            self.values.append(float(trainer.callback_metrics["train/loss"]))

    losses = Losses()
    losses.values = []
    trainer = quiet_trainer(folder, max_steps=steps, max_epochs=-1, callbacks=[losses])
    trainer.fit(module, datamodule=data)
    return losses.values


@pytest.mark.parametrize("settings", [{}, {"unmasked_weight": 0.5, "speed": 1.2}], ids=["masked", "all_frames"])
def test_learns_and_does_not_depend_on_the_micro_batch(
    data: ShardDataModule, tmp_path: Path, settings: dict[str, float]
) -> None:
    losses = fit(objective(data, **settings), data, tmp_path, 60)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    # Plain gradient descent: Adam would blow the rounding of vanishing gradients up to whole steps.
    plain = {"optimizer": torch.optim.SGD, "lr": 0.1, **settings}
    whole = fit(objective(data, **plain), data, tmp_path, 6)
    split = fit(objective(data, **plain, microbatch=2), data, tmp_path, 6)
    assert len(set(whole)) == 6
    assert split == pytest.approx(whole, rel=1e-5)


def test_a_clip_has_the_same_draws_in_any_batch(data: ShardDataModule) -> None:
    module = objective(data, speed=1.2)
    head: Any = module.heads["clusters"]
    head.begin(module.encoder, data.train_dataloader())
    (batch,) = data.train_dataloader()
    whole, other = (head.prepare(module.encoder, batch, step).extra["clusters"] for step in (3, 4))
    masks = []
    for row in range(len(batch)):
        alone = head.prepare(module.encoder, batch.slice(row, row + 1), 3).extra["clusters"]
        frames, samples = alone["mask"].shape[1], int(alone["lengths"][0])
        assert samples == whole["lengths"][row] != other["lengths"][row]
        torch.testing.assert_close(alone["waveforms"][0, :samples], whole["waveforms"][row, :samples])
        for name in ("mask", "clusters"):
            assert torch.equal(alone[name][0], whole[name][row, :frames])
        masks.append(alone["mask"][0][:10].tolist())
    assert len(set(map(tuple, masks))) > 1


def test_targets_are_free_of_level_and_of_padding(data: ShardDataModule) -> None:
    head: Any = objective(data).heads["clusters"]
    clip = torch.randn(1, 8_000) * 0.1
    times = head.frame_times(torch.tensor([20]))
    targets = head.coefficients(clip, torch.tensor([8_000]), times)
    louder = head.coefficients(4 * clip, torch.tensor([8_000]), times)
    padded = head.coefficients(torch.nn.functional.pad(clip, (0, 4_000)), torch.tensor([8_000]), times)
    assert targets.shape == (1, 20, 39)
    assert torch.allclose(targets, louder, atol=1e-3)
    assert torch.allclose(targets, padded, atol=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"clusters": 0}, "clusters=0"),
        ({"mask_time_prob": 0.0}, "mask_time_prob=0.0"),
        ({"unmasked_weight": -1.0}, "unmasked_weight=-1.0"),
        ({"speed": 0.9}, "speed=0.9"),
    ],
)
def test_values_out_of_range_are_named(data: ShardDataModule, setting: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=rf"objective\.heads\.clusters\.{message}"):
        objective(data, **setting)


def test_more_clusters_than_frames(data: ShardDataModule, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"objective\.heads\.clusters\.clusters=5000 is more than"):
        fit(objective(data, clusters=5000), data, tmp_path, 1)

"""Noise in clips: at the ratio that is asked, the same for a seed, epoch and clip, and none where none is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from batches import contents, fit, same
from hypothesis import given
from hypothesis import strategies as st
from sounds import Fixed

from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.data.noise import NoiseSetting
from w2v_abx.errors import InputError
from w2v_abx.shards import prepare


@pytest.fixture(scope="session")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of four lengths, one of a few ms of sound in a pause, and a tone in the split valid."""
    root = tmp_path_factory.mktemp("noises")
    generator, clips = np.random.default_rng(7), []
    for number, samples in enumerate((500, 3_000, 9_000, 9_000, 4_000)):
        wave = 0.2 * generator.standard_normal(samples)
        if number == 3:
            wave[200:] = 0
        if number == 4:
            wave = 0.3 * np.sin(np.arange(samples))
        sf.write(root / f"{number}.wav", wave, 16_000)
        clips.append(Clip(f"{number}", root / f"{number}.wav", split="valid" if number == 4 else "train"))
    prepare(Fixed(clips, name="noises"), root / "shards")
    return root / "shards"


def module(root: Path, noises: Path | None, snr: Any = 10.0, splits: Any = ("train", "valid"), **more: Any) -> Any:
    noise = None if noises is None else NoiseSetting(str(noises), snr, list(splits))
    return ShardDataModule(root / "sounds", noise=noise, **{"batch_size": 4, "crop_seconds": 0.2, **more})


def waves(loader: Any) -> Iterator[tuple[str, np.ndarray]]:
    for batch in loader:
        for key, wave, length in zip(batch.keys, batch.waveforms, batch.lengths.tolist(), strict=True):
            assert not wave[length:].any()
            yield key, wave[:length].numpy().astype(np.float64)


def decibels(clean: np.ndarray, mixed: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(clean**2) / np.mean((mixed - clean) ** 2)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_ratio_is_the_one_that_is_asked(root: Path, noises: Path, split: str) -> None:
    clean = dict(waves(getattr(module(root, None), f"{split}_dataloader")()))
    for snr in (-5, 0, 5.5, 20.0):
        mixed = dict(waves(getattr(module(root, noises, snr), f"{split}_dataloader")()))
        assert mixed.keys() == clean.keys()
        assert all(abs(decibels(clean[key], mixed[key]) - snr) < 0.01 for key in clean)
    drawn = dict(waves(getattr(module(root, noises, [5, 10, 15]), f"{split}_dataloader")()))
    ratios = [round(decibels(clean[key], drawn[key]), 2) for key in clean]
    assert set(ratios) <= {5, 10, 15}
    assert split == "val" or len(set(ratios)) == 3


def test_a_split_gets_its_own_noise_and_training_other_noise_each_epoch(root: Path, noises: Path) -> None:
    clean, mixed = (dict(waves(module(root, folder).val_dataloader())) for folder in (None, noises))
    for key, wave in clean.items():
        spectrum = np.abs(np.fft.rfft((mixed[key] - wave) * np.hanning(len(wave))))
        assert abs(spectrum.argmax() / len(wave) * 2 * np.pi - 1) < 0.05  # the tone: one radian a sample
    data = module(root, noises)
    held_out = [contents(data.val_dataloader()) for _ in range(2)]
    assert all(map(same, *held_out))
    epochs = []
    for epoch in range(2):
        of_noise, of_clean = data.train_dataloader(), module(root, None).train_dataloader()
        of_noise.epoch = of_clean.epoch = epoch
        plain = dict(waves(of_clean))
        epochs.append({key: wave - plain[key] for key, wave in waves(of_noise)})
    key = next(key for key, wave in epochs[0].items() if len(wave) < 3_200)  # one that is not cropped
    assert not np.allclose(epochs[0][key], epochs[1][key], atol=1e-4)


def test_only_chosen_splits_get_noise(root: Path, noises: Path) -> None:
    data, clean = module(root, noises, splits=["valid"]), module(root, None)
    assert all(map(same, contents(data.train_dataloader()), contents(clean.train_dataloader())))
    assert not all(map(same, contents(data.val_dataloader()), contents(clean.val_dataloader())))
    assert data.train_dataloader().state_dict() == clean.train_dataloader().state_dict()


@given(seed=st.integers(0, 3), done=st.integers(0, 5), workers=st.sampled_from([0, 2]))
def test_noise_is_the_same_wherever_an_epoch_goes_on(
    root: Path, noises: Path, seed: int, done: int, workers: int
) -> None:
    settings: dict[str, Any] = {"snr": [0.0, 10.0], "seed": seed, "balance": "labels"}
    whole = contents(module(root, noises, **settings).train_dataloader())
    loader = module(root, noises, **settings, num_workers=workers).train_dataloader()
    loader.batches = done
    assert all(map(same, contents(loader), whole[done:]))


def test_a_clip_that_repeats_has_other_noise_each_time(root: Path, noises: Path) -> None:
    settings: dict[str, Any] = {"balance": "labels", "crop_seconds": None}
    loaders = (module(root, folder, **settings).train_dataloader() for folder in (noises, None))
    found: dict[str, list[np.ndarray]] = {}
    for (key, mixed), (_, wave) in zip(*map(waves, loaders), strict=True):
        found.setdefault(key, []).append(mixed - wave)
    twice = [noise for noise in found.values() if len(noise) > 1]
    assert twice
    assert all(not np.allclose(first, second, atol=1e-4) for first, second, *_ in twice)


def test_silence_stays_silent(noises: Path) -> None:
    data = ShardDataModule(noises, noise=NoiseSetting(str(noises), 0.0, ["train"]))
    noise = data.train_dataloader().dataset.noise
    assert noise is not None
    silent = np.zeros(100, np.float32)
    noise.mix(silent, "a clip")
    assert not silent.any()


def test_resuming_with_other_noise_is_refused(root: Path, noises: Path, tmp_path: Path) -> None:
    settings = {"folder": root / "sounds", "batch_size": 4, "crop_seconds": 0.2}
    whole = fit(tmp_path / "whole", **settings, noise=NoiseSetting(str(noises), [5.0, 10.0], ["train"]))
    middle = tmp_path / "whole" / "step=8.ckpt"
    moved = tmp_path / "moved"
    moved.symlink_to(noises)
    resumed = fit(tmp_path / "on", middle, **settings, noise=NoiseSetting(str(moved), [5.0, 10.0], ["train"]))
    assert resumed.seen == whole.seen[8:]
    assert torch.equal(resumed.weight, whole.weight)
    for other in (
        None,
        NoiseSetting(str(noises), 5.0, ["train"]),
        NoiseSetting(str(root / "speech"), [5.0, 10.0], ["train"]),
    ):
        with pytest.raises(InputError, match="inside an epoch read with noise="):
            fit(tmp_path / "other", middle, **settings, noise=other)


@pytest.mark.parametrize(
    ("snr", "splits", "words"),
    [
        ([], ["train"], r"noise.snr=\[\]"),
        ([5, "ten"], ["train"], "noise.snr='ten' must be a number of dB"),
        (float("nan"), ["train"], "noise.snr=nan"),
        (500, ["train"], "noise.snr=500 must be .* at most 100"),
        (5, [], r"noise.splits=\[\] must be a list of some of train, valid, test"),
        (5, ["dev"], "'dev' is none of them"),
    ],
)
def test_settings_that_cannot_be(snr: Any, splits: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        NoiseSetting("folder", snr, splits)


def test_a_folder_that_is_none(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        module(root, tmp_path).train_dataloader()


@pytest.mark.parametrize("noisy", [False, True])
def test_a_clip_is_heard_as_heads_are_given_it(root: Path, noises: Path, noisy: bool) -> None:
    data = module(root, noises if noisy else None, [5, 10, 15])
    given_ = dict(waves(data.val_dataloader()))
    wanted = [("sounds", key) for key in sorted(given_)[::2]]
    heard = dict(data.waveforms("valid", [*wanted, ("speech", "sp00")], 1.0))
    assert sorted(heard) == wanted
    assert all(np.array_equal(wave, given_[key]) for (_, key), wave in heard.items())
    shortest = min(len(wave) for wave in heard.values())
    assert {len(wave) for _, wave in data.waveforms("valid", wanted, shortest / 16_000)} == {shortest}

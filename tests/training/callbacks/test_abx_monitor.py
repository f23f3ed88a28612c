"""ABX during training: when it is measured, that it disturbs nothing, and that it resumes."""

import csv
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from noises import noises
from small import ARCHITECTURE, quiet_trainer
from torch import Tensor
from torch.utils.data import DataLoader

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.thermal import Simulated, ThermalCallback
from w2v_abx.training.callbacks.abx_monitor import AbxMonitor, next_point

SETTING = AbxSetting(batch_seconds=3.0)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    return noises(tmp_path_factory.mktemp("noises"))


class Training(lightning.LightningModule):
    """An encoder that learns nothing in particular, with dropout and random targets of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder.random(ARCHITECTURE | {"hidden_dropout": 0.3})
        self.drawn: list[float] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        hidden, _ = self.encoder(batch, torch.full((len(batch),), batch.shape[1]), [1])
        self.drawn += [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: NPY002
        return (hidden[0] - torch.randn_like(hidden[0])).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def clips() -> DataLoader[Any]:
    return DataLoader(torch.randn(12, 4_000, generator=torch.Generator().manual_seed(0)), batch_size=2)


def fit(
    folder: Path, monitor: AbxMonitor | None, steps: int, ckpt: Path | None = None, keep: ModelCheckpoint | None = None
) -> tuple[Training, lightning.Trainer]:
    lightning.seed_everything(1, verbose=False)
    module = Training().train()
    callbacks = [callback for callback in (monitor, keep) if callback is not None]
    trainer = quiet_trainer(
        folder, max_steps=steps, max_epochs=-1, callbacks=callbacks, enable_checkpointing=keep is not None
    )
    trainer.fit(module, clips(), ckpt_path=ckpt)
    return module, trainer


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "monitor.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def steps_in(folder: Path) -> list[int]:
    return sorted({int(row["step"]) for row in rows(folder)})


@given(st.integers(0, 3_000), st.integers(1, 10) | st.none(), st.integers(1, 500) | st.none())
def test_points_are_the_rounded_powers_and_the_multiples(step: int, per_decade: int | None, every: int | None) -> None:
    points = {round(10 ** (k / per_decade)) for k in range(5 * per_decade)} if per_decade else set()
    points |= {every * k for k in range(1, 3_002)} if every else set()
    assert next_point(step, per_decade, every) == min((point for point in points if point > step), default=float("inf"))


def test_measures_what_the_evaluation_measures(speech: Speech, tmp_path: Path) -> None:
    monitor = AbxMonitor(speech, SETTING, points_per_decade=2, every=5, folder=tmp_path / "run")
    module, _ = fit(tmp_path, monitor, 6)
    assert steps_in(tmp_path / "run") == [0, 1, 3, 5]
    found = rows(tmp_path / "run")
    assert [(row["layer"], row["condition"]) for row in found[:4]] == [
        ("0", "within"), ("0", "across"), ("1", "within"), ("1", "across")
    ]  # fmt: skip
    lightning.seed_everything(1, verbose=False)
    start = evaluate("start", Training().encoder, speech, SETTING, quiet_trainer(tmp_path))
    for row in found[:4]:
        scores = start.scores[int(row["layer"]), row["condition"]]
        assert float(row["abx_error"]) == scores.error()
        assert float(row["delta_std"]) == scores.delta.std
        assert float(row["delta_scale_free_std"]) == scores.delta.scale_free_std
        assert 0 <= float(row["isotropy"]) <= 1
        assert 0 <= float(row["iso_score"]) <= 1
    assert module.training


class Counting(ThermalCallback):
    """Counts what it is asked to pace."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Simulated(), folder=folder)
        self.clips, self.finished = 0, 0

    @contextmanager
    def governed(self) -> Iterator[Callable[[int], None]]:
        with super().governed() as pause:

            def counted(clips: int) -> None:
                self.clips += clips
                pause(clips)

            yield counted
        self.finished += 1


def test_it_keeps_the_device_cool(speech: Speech, tmp_path: Path) -> None:
    thermal = Counting(tmp_path)
    monitor = AbxMonitor(speech, SETTING, points_per_decade=1, max_files=None)
    trainer = quiet_trainer(tmp_path, max_steps=1, max_epochs=-1, callbacks=[thermal, monitor])
    trainer.fit(Training(), clips())
    assert (thermal.clips, thermal.finished) == (2 * len(speech.files), 2)  # before training, and at step 1


def test_training_is_the_same_without_it(speech: Speech, tmp_path: Path) -> None:
    with_it, _ = fit(tmp_path, AbxMonitor(speech, SETTING, every=1), 4)
    without, _ = fit(tmp_path, None, 4)
    assert with_it.drawn == without.drawn
    for name, value in without.state_dict().items():
        assert torch.equal(value, with_it.state_dict()[name]), name
    assert [part.training for part in with_it.modules()] == [part.training for part in without.modules()]


def test_a_resumed_run_neither_repeats_nor_skips_a_point(speech: Speech, tmp_path: Path) -> None:
    def monitor(folder: str) -> AbxMonitor:
        return AbxMonitor(speech, SETTING, points_per_decade=4, folder=tmp_path / folder)

    fit(tmp_path, monitor("whole"), 7)
    keep = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=4, save_top_k=-1, filename="{step}")
    fit(tmp_path, monitor("parts"), 7, keep=keep)  # what came after step 4 is measured, and lost
    torch.load(tmp_path / "ckpt" / "step=4.ckpt", weights_only=True)  # the points so far are plain values
    fit(tmp_path, monitor("parts"), 7, ckpt=tmp_path / "ckpt" / "step=4.ckpt")
    assert steps_in(tmp_path / "parts") == steps_in(tmp_path / "whole") == [0, 1, 2, 3, 6]
    assert rows(tmp_path / "parts")[:-4] == rows(tmp_path / "whole")[:-4]


def test_a_second_fit_starts_anew(speech: Speech, tmp_path: Path) -> None:
    monitor = AbxMonitor(speech, SETTING, folder=tmp_path)
    fit(tmp_path, monitor, 2)
    fit(tmp_path, monitor, 1)
    assert steps_in(tmp_path) == [0, 1]


def test_stops_when_the_watched_layer_forgets(
    speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import w2v_abx.training.callbacks.abx_monitor as module

    real, points = module.score_layers, []

    def forgetful(*arguments: Any, **options: Any) -> Any:
        points.append(1)
        scores = real(*arguments, **options)
        for (layer, condition), found in scores.items():
            error = 0.1 * layer + (0.03 if layer == 1 and len(points) > 2 else 0.01) * (len(points) > 1)
            error += 0.5 * (len(points) - 1) * (condition == "speaker")
            object.__setattr__(found, "error", lambda levels, weighted, error=error: error)
        return scores

    monkeypatch.setattr(module, "score_layers", forgetful)
    with caplog.at_level(logging.WARNING):
        _, trainer = fit(tmp_path, AbxMonitor(speech, SETTING, every=1, stop_above=0.02, watch_layer=1), 5)
    assert trainer.global_step == 2
    assert "layer 1 within speakers has risen from 10.00 % to 13.00 %" in caplog.text
    points.clear()
    # Layer 0 is the best before training, and rises by less; that it forgets who speaks stops nothing.
    tasks = {"speaker": {"on": "speaker", "by": ["#phone"]}}
    beside = replace(SETTING, also=["speaker"], tasks=tasks)
    monitor = AbxMonitor(speech, beside, every=1, stop_above=0.02)
    _, trainer = fit(tmp_path, monitor, 5)
    assert trainer.global_step == 5
    assert {row["condition"] for row in monitor.rows} == {"within", "across", "speaker"}


def test_logs_to_the_loggers_of_the_module(speech: Speech, tmp_path: Path) -> None:
    lightning.seed_everything(1, verbose=False)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = lightning.Trainer(
        accelerator="cpu", logger=logger, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, max_steps=1, callbacks=[AbxMonitor(speech, SETTING)],
    )  # fmt: skip
    trainer.fit(Training().train(), clips())
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    for name in ("abx_error/within/layer0", "delta_scale_free_std/across/layer1", "isotropy/layer1"):
        assert f"monitor/{name}" in header


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_decade": 0}, "callbacks.monitor.points_per_decade=0"),
        ({"every": 1.5}, "callbacks.monitor.every=1.5"),
        ({"stop_above": 2}, "callbacks.monitor.stop_above=2"),
        ({"points_per_decade": None}, "nothing to measure"),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AbxMonitor(**settings)


def test_what_cannot_be_measured_shows_before_training(speech: Speech, tmp_path: Path) -> None:
    for monitor, message in (
        (AbxMonitor(), "has no speech and setting"),
        (AbxMonitor(speech, SETTING, watch_layer=7), "callbacks.monitor.watch_layer=7"),
        (AbxMonitor(speech, SETTING, layers=[2]), "abx.layers=2"),
        (AbxMonitor(speech, SETTING, max_files=1), "max_files=1 is too few"),
    ):
        with pytest.raises(InputError, match=message):
            fit(tmp_path, monitor, 1)
    broken = Speech(speech.items, {**speech.files, "ann0": tmp_path / "gone.wav"})
    with pytest.raises(InputError, match="gone.wav"):
        fit(tmp_path, AbxMonitor(broken, SETTING), 1)

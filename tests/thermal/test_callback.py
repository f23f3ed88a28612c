"""The callback in real Lightning runs of a tiny module, on simulated and fake sensors."""

import csv
import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from w2v_abx.data.batch import Batch
from w2v_abx.errors import InputError
from w2v_abx.system.signals import EXIT_STATUS, Stopped, Watch
from w2v_abx.thermal import GovernorSettings, Reading, Recorded, SensorError, Simulated, ThermalCallback, ThermalStop
from w2v_abx.thermal.log import COLUMNS, ThermalLog
from w2v_abx.training.microbatch import ElasticModule
from w2v_abx.training.saving import Checkpoints, ExactResume

CLIPS = 8
CONF = Path(__file__).resolve().parents[2] / "conf"
HOT: dict[str, Any] = {"ambient": 30.0, "cooling": 3.0, "capacity": 150.0, "clip_seconds": 0.8}


class Tiny(ElasticModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 1)
        self.seen: list[int] = []

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        self.seen.append(len(micro))
        return {"loss": self.net(micro.waveforms).square().sum() / totals["clips"]}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.net(batch.waveforms)

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Plain(lightning.LightningModule):
    """Someone's own module, with Lightning's automatic optimisation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.net(batch.waveforms).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def batches(steps: int, clips: int = CLIPS) -> Any:
    """The same batch again and again, so that a run resumed by a plain loader sees what the whole one saw."""
    waveforms = torch.randn(clips, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch([*"abcdefgh"[:clips]], ["noises"] * clips, waveforms, torch.full((clips,), 4))
    return DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]


class Bar(lightning.pytorch.callbacks.ProgressBar):
    """Shows nothing of its metrics."""

    def disable(self) -> None: ...

    def enable(self) -> None: ...


def trainer(folder: Path, callback: lightning.Callback, **options: Any) -> lightning.Trainer:
    callbacks = options.pop("callbacks", [])
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=options.pop("logger", False),
        callbacks=[callback, *callbacks],
        enable_checkpointing=any(isinstance(entry, Checkpoints) for entry in callbacks),
        enable_progress_bar=any(isinstance(entry, Bar) for entry in callbacks),
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "thermal.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sampling() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "thermal-sampler"]


def test_shrinks_and_rests_and_holds_the_limit_without_changing_the_weights(tmp_path: Path) -> None:
    cool, hot, plant = Tiny(), Tiny(), Simulated(**HOT)
    trainer(tmp_path / "off", lightning.Callback()).fit(cool, batches(100))
    trainer(tmp_path / "hot", ThermalCallback(plant)).fit(hot, batches(100))
    torch.testing.assert_close(hot.state_dict(), cool.state_dict(), rtol=1e-5, atol=1e-7)
    assert set(cool.seen) == {CLIPS}
    assert min(hot.seen) < CLIPS
    table = rows(tmp_path / "hot")
    assert tuple(table[0]) == COLUMNS
    assert {row["action"] for row in table} >= {"run", "rest", "shrink"}
    assert all(row["reason"] for row in table)
    assert max(float(row["temperature"]) for row in table if row["temperature"]) <= 86
    assert float(table[-1]["rest_share"]) > 0.2
    assert int(table[-1]["step"]) == 99
    times = [float(row["time"]) for row in table]
    assert times == sorted(times)
    assert times[-1] > 60  # the plant's seconds, none of which was slept


def test_decisions_reach_the_loggers(tmp_path: Path) -> None:
    logger = lightning.pytorch.loggers.CSVLogger(tmp_path, name=None, version="")
    trainer(tmp_path, ThermalCallback(Simulated(**HOT)), logger=logger, log_every_n_steps=1).fit(Tiny(), batches(60))
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        last = [row for row in csv.DictReader(file) if row["thermal/temperature"]][-1]
    assert float(last["thermal/temperature"]) > 60
    assert float(last["thermal/power"]) > 0
    assert 1 <= float(last["thermal/microbatch"]) < CLIPS
    assert 0 < float(last["thermal/rest_share"]) < 1
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        decisions = [row["thermal/decision"] for row in csv.DictReader(file) if row["thermal/decision"]]
    assert {decision.split(":")[0] for decision in decisions} >= {"shrink", "rest"}
    assert all("°C" in decision for decision in decisions[1:])


def test_the_progress_bar_shows_it(tmp_path: Path) -> None:
    bar = Bar()
    fit = trainer(tmp_path, ThermalCallback(Simulated(**HOT)), callbacks=[bar])
    fit.fit(Tiny(), batches(20))
    assert bar.get_metrics(fit, fit.lightning_module)["thermal/temperature"] > 50
    assert bar.get_metrics(fit, fit.lightning_module)["thermal/rest_share"] > 0


class SaveAt(lightning.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_goes_on_with_its_heat_and_its_micro_batches(tmp_path: Path) -> None:
    """And thermal.csv is that of the run that was left alone, row for row."""
    whole, rest, ckpt = Tiny(), Tiny(), tmp_path / "at60.ckpt"
    save = SaveAt(60, ckpt)
    trainer(tmp_path / "whole", ThermalCallback(Simulated(**HOT)), callbacks=[save]).fit(whole, batches(100))
    (tmp_path / "rest").mkdir()
    (tmp_path / "rest" / "thermal.csv").write_text((tmp_path / "whole" / "thermal.csv").read_text(), encoding="utf-8")
    callback = ThermalCallback(Simulated(**HOT))
    trainer(tmp_path / "rest", callback).fit(rest, batches(100), ckpt_path=ckpt)
    assert all(torch.equal(rest.state_dict()[name], weight) for name, weight in whole.state_dict().items())
    assert rest.seen[0] < CLIPS
    theirs, ours = rows(tmp_path / "whole"), rows(tmp_path / "rest")
    assert ours == theirs
    assert max(float(row["temperature"]) for row in ours if row["temperature"]) <= 86


def test_stops_with_a_checkpoint_that_resumes_where_resting_does_not_help(tmp_path: Path) -> None:
    plant = Simulated(ambient=60, cooling=3, idle_watts=75, slowdown=89, shutdown=110)  # idles at 85 °C
    module = Tiny()
    with pytest.raises(ThermalStop, match="resting does not help") as stop:
        trainer(tmp_path, ThermalCallback(plant)).fit(module, batches(400))
    assert stop.value.checkpoint == tmp_path / "checkpoints" / "thermal-stop.ckpt"
    assert stop.value.checkpoint.is_file()
    assert rows(tmp_path)[-1]["action"] == "stop"
    done = torch.load(stop.value.checkpoint, weights_only=True)["global_step"]
    again = Tiny()
    cool = ThermalCallback(Simulated())
    resumed = trainer(tmp_path, cool)
    cool.sensor = None  # another machine
    resumed.fit(again, batches(done + 5), ckpt_path=stop.value.checkpoint)
    assert resumed.global_step == done + 5


def test_a_plain_module_rests(tmp_path: Path) -> None:
    """Though its batches of 6.8 s cannot shrink."""
    trainer(tmp_path, ThermalCallback(Simulated(**HOT))).fit(Plain(), batches(80))
    table = rows(tmp_path)
    assert {row["action"] for row in table} == {"run", "rest"}
    assert 75 < max(float(row["temperature"]) for row in table if row["temperature"]) <= 86


def test_validation_heats_and_teaches_training_nothing(tmp_path: Path) -> None:
    callback = ThermalCallback(Simulated(**HOT))
    trainer(tmp_path, callback, num_sanity_val_steps=0).fit(Tiny(), batches(1), batches(150, clips=6))
    table = rows(tmp_path)
    assert {row["action"] for row in table} == {"run", "rest"}
    assert 75 < max(float(row["temperature"]) for row in table if row["temperature"]) <= 86
    assert callback.governor.microbatch is None


def test_the_phases_of_a_run_are_one_account(tmp_path: Path) -> None:
    """Tested, trained, used to predict; then validated by another process."""
    short = {**HOT, "clip_seconds": 0.2}  # what heats first, after a pause, is not known beforehand
    callback, module = ThermalCallback(Simulated(**short)), Tiny()
    begins, duties = [], []
    for phase in ("test", "fit", "predict"):
        begins.append(float(rows(tmp_path)[-1]["time"]) if begins else 0.0)
        getattr(trainer(tmp_path, callback), phase)(module, batches(100))
        duties.append(callback.governor.duty)
    begins.append(float(rows(tmp_path)[-1]["time"]))
    trainer(tmp_path, ThermalCallback(Simulated(**short))).validate(module, batches(100), verbose=False)
    table = rows(tmp_path)
    times = [float(row["time"]) for row in table]
    assert times == sorted(times)
    assert begins == sorted({*begins})
    assert max(duties) < 0.9
    for begin, end, trains in zip(begins, [*begins[1:], times[-1]], (False, True, False, False), strict=True):
        phase_rows = [row for row in table if begin < float(row["time"]) <= end]
        assert "rest" in {row["action"] for row in phase_rows}
        assert {bool(row["step"]) for row in phase_rows} == {trains}
    assert max(float(row["temperature"]) for row in table if row["temperature"]) <= 86


class Work(lightning.Callback):
    """Uses the device outside of Lightning's loops."""

    def __init__(self, thermal: ThermalCallback) -> None:
        self.thermal = thermal

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        with self.thermal.governed() as pause:
            for _ in range(60):
                pause(6)


def test_other_callbacks_work_is_governed(tmp_path: Path) -> None:
    plant = Simulated(**HOT)
    thermal = ThermalCallback(plant)
    trainer(tmp_path, thermal, callbacks=[Work(thermal)]).fit(Tiny(), batches(1))
    assert plant.now() > 1.3 * 60 * 6 * 0.8
    assert 75 < max(float(row["temperature"]) for row in rows(tmp_path) if row["temperature"]) <= 86


class Flaky:
    """Answers, fails for a while, and answers again."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self, time: float) -> Reading:
        self.calls += 1
        if self.calls in (3, 4, 5, 8, 9):
            raise SensorError("the bus is gone")
        return Reading(time, 40.0)


class UntilRead(lightning.Callback):
    """Ends training when the sensor was read so often."""

    def __init__(self, sensor: Flaky, calls: int) -> None:
        self.sensor, self.calls = sensor, calls

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        threading.Event().wait(0.002)
        trainer.should_stop = self.sensor.calls >= self.calls


def test_a_failing_sensor_is_reported_whenever_it_begins_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sensor = Flaky()
    trainer(tmp_path, ThermalCallback(sensor, period=0.02), callbacks=[UntilRead(sensor, 12)], max_epochs=-1).fit(
        Tiny(), batches(50)
    )
    assert [record.message for record in caplog.records if record.name.startswith("w2v_abx")] == 2 * [
        "Thermal: the temperature sensor fails: the bus is gone.",
        "Thermal: the temperature sensor answers again.",
    ]
    assert not sampling()
    assert len([row for row in rows(tmp_path) if row["temperature"]]) >= 4


class Fixed:
    """Says the same so often, and then nothing."""

    def __init__(self, reading: Reading, times: float = math.inf) -> None:
        self.reading, self.left = reading, times

    def read(self, time: float) -> Reading:
        self.left -= 1
        if self.left < 0:
            raise SensorError("the bus is gone")
        return replace(self.reading, time=time)


def test_silence_is_logged_as_it_begins_and_as_it_stops_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    governor = GovernorSettings(silent_after=0.2, hold=0.2, patience=0.3, longest_rest=0.1)
    callback = ThermalCallback(Fixed(Reading(0.0, 40.0), times=10), governor, period=0.02)
    with pytest.raises(ThermalStop, match="no reading"):
        trainer(tmp_path, callback, max_epochs=-1).fit(Tiny(), batches(50))
    for begin in ("Thermal: rest (no reading", "Thermal: stop (no reading"):
        assert any(begin in text for text in caplog.messages)


def test_of_several_devices_each_is_watched(tmp_path: Path) -> None:
    sensors = [Fixed(Reading(0.0, 40.0)), Fixed(Reading(0.0, 94.0, slowdown=90.0, shutdown=95.0))]
    with pytest.raises(ThermalStop, match="device 1: 94"):
        trainer(tmp_path, ThermalCallback(sensors, period=0.01), max_epochs=-1).fit(Tiny(), batches(50))


class Heats:
    """Is cool at first, then too hot; and then someone loses patience."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self, time: float) -> Reading:
        self.calls += 1
        if self.calls == 50:
            os.kill(os.getpid(), signal.SIGTERM)
        return Reading(time, 40.0 if self.calls < 20 else 90.0)


def test_a_signal_ends_a_rest_and_loses_nothing(tmp_path: Path) -> None:
    """It would rest for five minutes, hot as it is."""
    module, began = Tiny(), time.monotonic()
    callbacks = [ExactResume(), Checkpoints(tmp_path / "checkpoints")]
    thermal = ThermalCallback(Heats(), GovernorSettings(limit=80), period=0.02)
    with pytest.raises(Stopped) as stopped, Watch(["SIGTERM"]):
        trainer(tmp_path, thermal, callbacks=callbacks, max_epochs=-1).fit(module, batches(50))
    assert stopped.value.code == EXIT_STATUS
    assert "while the device rested" in stopped.value.message
    assert time.monotonic() - began < 240
    assert rows(tmp_path)[-1]["action"] == "rest"
    steps = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < steps == len(module.seen)  # each one micro-batch; that of the step under way never ran


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    table = ThermalLog(trainer(tmp_path, lightning.Callback()), tmp_path / "thermal.csv", period=1.0)
    table._file.close()
    table._file = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(InputError, match=r"thermal\.csv cannot be written \(No space left"):
        table.write(1.0)
    table.close()


def test_an_exception_leaves_no_thread_and_no_hook(tmp_path: Path) -> None:
    class Broken(Tiny):
        def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
            assert sampling()
            raise ValueError("broken")

    module = Broken()
    with pytest.raises(ValueError, match="broken"):
        trainer(tmp_path, ThermalCallback(Flaky())).fit(module, batches(2))
    assert not sampling()
    assert not module.microbatches.hooks


def test_a_recorded_run_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "hot.csv"
    path.write_text("time,temperature,slowdown,shutdown\n0,94,90,95\n9999,94,90,95\n", encoding="utf-8")
    with pytest.raises(ThermalStop, match="shuts down at 95"):
        trainer(tmp_path, ThermalCallback(Recorded(path), period=0.01), max_epochs=-1).fit(Tiny(), batches(50))


def test_a_machine_without_sensors_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(device: torch.device) -> Any:
        raise SensorError("the driver is broken")

    monkeypatch.setattr("w2v_abx.thermal.callback.auto_sensor", none)
    module, callback = Tiny(), ThermalCallback()
    with caplog.at_level(logging.DEBUG, "w2v_abx.thermal.callback"), warnings.catch_warnings():
        warnings.filterwarnings("error", ".*temperature.*")  # of a CPU that shows none, most runs would warn
        trainer(tmp_path, callback, max_epochs=3).fit(module, batches(4))
        trainer(tmp_path, callback).test(module, batches(4))
    own = [record.getMessage() for record in caplog.records if record.name == "w2v_abx.thermal.callback"]
    assert own == ["No temperature sensor for cpu (the driver is broken): it is not protected."]
    assert len(module.seen) == 12
    assert not (tmp_path / "thermal.csv").exists()
    with pytest.warns(
        UserWarning, match="No temperature sensor for cuda:0 .the driver is broken.: it is not protected"
    ):
        ThermalCallback()._sensors(torch.device("cuda:0"), warn=True)


@pytest.mark.parametrize(
    "bad", [{"period": 0}, {"period": float("nan")}, {"period": "fast"}, {"period": 5.0}, {"sensor": "nvml"}]
)
def test_bad_values_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        ThermalCallback(**bad)


@pytest.mark.parametrize("preset", ["off", "default", "laptop", "quiet", "simulated"])
def test_presets_build(preset: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+thermal={preset}"]).thermal
    if preset == "off":
        assert config is None
        return
    config.folder = str(tmp_path)
    callback = instantiate(config)
    assert isinstance(callback, ThermalCallback)
    assert callback.folder == tmp_path
    assert isinstance(callback.sensor, Simulated) == (preset == "simulated")
    if preset == "default":
        assert callback.governor.settings == GovernorSettings()

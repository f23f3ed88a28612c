"""What tests of thermal control run on two ranks, which import this module: it holds no test."""

import json
import logging
import os
from pathlib import Path
from typing import Any
from unittest import mock

import lightning
import torch
from elastic import Objective, fit, make_batch
from small import quiet_trainer
from torch.utils.data import DataLoader

from w2v_abx.data.batch import Batch
from w2v_abx.thermal import (
    GovernorSettings,
    Reading,
    Sensor,
    SensorError,
    Simulated,
    ThermalCallback,
    ThermalStop,
    controller,
)

CLIPS, STEPS = 8, 40
PLANT: dict[str, Any] = {"cooling": 3.0, "capacity": 150.0, "clip_seconds": 0.8, "overhead_clips": 0.5}


class Watched(Simulated):
    """Remembers how hot it was."""

    peak = 0.0

    def _pass(self, seconds: float, power: float) -> None:
        super()._pass(seconds, power)
        self.peak = max(self.peak, self.temperature)


class Fails:
    """A sensor whose driver is gone."""

    def read(self, time: float) -> Reading:
        raise SensorError("the driver is gone")


class Evaluation(lightning.LightningModule):
    """Uses the device, and nothing else."""

    def test_step(self, batch: Batch, index: int) -> None:
        """Nothing."""


class Logged(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class Answers:
    """A cool device."""

    def read(self, time: float) -> Reading:
        return Reading(time, 40.0)


def scenes(folder: Path) -> None:
    """One rank gets hot, in training and in an evaluation; one cannot be cooled; the sensor of one fails."""
    rank = int(os.environ["LOCAL_RANK"])
    results: dict[str, Any] = {}

    def train(name: str, sensor: Sensor, governor: GovernorSettings, steps: int, period: float = 1.0) -> Objective:
        half = CLIPS // 2
        batches = [make_batch(index, CLIPS).slice(half * rank, half * (rank + 1)) for index in range(steps)]
        module = Objective()
        callback = ThermalCallback(sensor, governor, period=period, folder=folder / name)
        trouble = None
        try:
            fit(module, batches, folder, callbacks=[callback])
        except ThermalStop as stop:
            trouble = [str(stop), str(stop.checkpoint)]
        results[name] = {"seen": module.seen, "trouble": trouble}
        return module

    plant = Watched(**PLANT, ambient=(35.0, 5.0)[rank])
    module = train("hot", plant, GovernorSettings(), STEPS)
    results["hot"] |= {"peak": plant.peak, "clock": plant.now()}
    torch.save([weight.detach() for weight in module.parameters()], folder / f"weights-{rank}.pt")
    plant, batch = Watched(**PLANT, ambient=(35.0, 5.0)[rank]), make_batch(0, 6)
    logging.getLogger("w2v_abx").addHandler(logged := Logged())
    with mock.patch.object(controller, "MAX_RESTS_ALONE_SECONDS", 20.0):
        quiet_trainer(
            folder,
            callbacks=[ThermalCallback(plant, folder=folder / "evaluated")],
            devices=2,
            strategy="ddp",
            use_distributed_sampler=False,
        ).test(Evaluation(), DataLoader([batch] * (60 - rank), batch_size=None), verbose=False)  # type: ignore[arg-type]
    results["evaluated"] = {"peak": plant.peak, "clock": plant.now(), "logged": list(logged.messages)}
    hopeless = Simulated(ambient=60, cooling=3, idle_watts=75, slowdown=89, shutdown=110)  # idles at 85 °C
    hopeless.temperature = 78.0
    train("stop", (Simulated(), hopeless)[rank], GovernorSettings(patience=15), 400)
    strict = GovernorSettings(silent_after=0.1, hold=0.1, longest_rest=0.1, when_silent="stop")
    train("silent", (Answers(), Fails())[rank], strict, 10_000, period=0.02)
    results["silent"]["logged"] = logged.messages
    (folder / f"results-{rank}.json").write_text(json.dumps(results), encoding="utf-8")

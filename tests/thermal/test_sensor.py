"""Readings are never guessed, and recordings play as they were."""

import math
from pathlib import Path

import lightning
import pytest

from w2v_abx.errors import InputError
from w2v_abx.thermal import Reading, Recorded, SensorError
from w2v_abx.thermal.log import ThermalLog


@pytest.mark.parametrize("temperature", [math.nan, math.inf, -60.0, 1000.0])
def test_impossible_temperatures_are_errors(temperature: float) -> None:
    with pytest.raises(SensorError, match="cannot be"):
        Reading(0.0, temperature)


def write(folder: Path, text: str) -> Path:
    path = folder / "thermal.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recording_plays_back(tmp_path: Path) -> None:
    sensor = Recorded(write(tmp_path, "time,temperature,power,reason\n0,40,100,x\n1,41.5,,\n3,,,\n4,50,300,\n"))
    assert sensor.read(0.0) == Reading(0.0, 40.0, power=100.0)
    assert sensor.read(2.5) == Reading(2.5, 41.5)
    assert sensor.read(4.0).power == 300
    for silent in (3.5, 4.1, -1.0):
        with pytest.raises(SensorError, match=r"thermal\.csv"):
            sensor.read(silent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,power\n0,1\n", "no column temperature"),
        ("time,temperature\n0,40\n1,warm\n", "Line 3"),
        ("time,temperature\n1,40\n0,40\n", "must rise"),
        ("time,temperature\n,40\n", "Line 2"),
        ("time,temperature\n", "must rise"),
    ],
)
def test_bad_recordings_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recorded(write(tmp_path, text))


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        Recorded(tmp_path / "none.csv")


def test_a_runs_own_account_plays(tmp_path: Path) -> None:
    """With a sensor that was slow to answer, decisions between its readings, silence, and the limits that it named."""
    log = ThermalLog(lightning.Trainer(logger=False, barebones=True), tmp_path / "thermal.csv", period=1.0)
    known = {"slowdown": 90.0, "shutdown": 95.0, "memory": 80.0, "memory_slowdown": 105.0, "throttle": "a + b"}
    log.write(1.0, temperature=50.0, action="run", reason="x", **known)
    log.write(2.5, temperature=50.0, action="rest", reason="x", **known)
    log.write(2.4, temperature=51.0, action="run", reason="x", **known)
    log.write(14.0, action="rest", reason="no reading for 11 s")
    log.close()
    sensor = Recorded(tmp_path / "thermal.csv")
    expected = Reading(
        2.0, 50.0, slowdown=90.0, shutdown=95.0, memory=80.0, memory_slowdown=105.0, throttle=("a", "b")
    )  # fmt: skip
    assert sensor.read(2.0) == expected
    assert sensor.read(2.5).temperature == 51
    with pytest.raises(SensorError, match="no temperature"):
        sensor.read(14.0)

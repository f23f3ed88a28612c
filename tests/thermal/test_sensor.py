"""Readings are never guessed, and recordings play as they were."""

import math
from pathlib import Path

import pytest

from w2v_abx.errors import InputError
from w2v_abx.thermal import Reading, Recorded, SensorError


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

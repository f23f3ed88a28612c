"""What a thermal.csv says of a run."""

from pathlib import Path

import pytest

from w2v_abx.thermal.callback import ThermalCallback
from w2v_abx.thermal.log import COLUMNS, energy
from w2v_abx.thermal.sensors.simulated import Simulated


def write(path: Path, *rows: dict[str, object]) -> Path:
    lines = [COLUMNS, *([str(row.get(name, "")) for name in COLUMNS] for row in rows)]
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    return path


def test_energy_is_the_integral_of_power(tmp_path: Path) -> None:
    powers = [(0.0, 100.0), (10.0, 200.0), (10.0, 200.0), (30.0, 50.0)]
    rows = [{"time": time, "power": power, "reason": "free"} for time, power in powers]
    path = write(tmp_path / "thermal.csv", *rows, {"time": 40.0, "reason": "blind"})
    assert energy(path) == pytest.approx((150 * 10 + 125 * 20) / 3600)


def test_energy_that_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "thermal.csv"
    assert energy(path) is None
    assert energy(write(path, {"time": 1.0, "temperature": 50.0, "reason": "free"})) is None
    row = {"time": 1.0, "power": 100.0, "reason": "free", "device": "rank 0"}
    assert energy(write(path, row, {**row, "time": 2.0})) is None


def test_a_run_reports_energy_that_was_measured(tmp_path: Path) -> None:
    write(tmp_path / "thermal.csv", *({"time": time, "power": 360.0, "reason": "free"} for time in (0.0, 10.0)))
    assert ThermalCallback(None, folder=tmp_path).energy() == pytest.approx(1.0)
    assert ThermalCallback(Simulated(), folder=tmp_path).energy() is None

"""The verdict is seldom wrong without a change, and mostly right with the smallest that it calls detectable.

``benchmarks/verdict.py`` runs more of the same, over more designs.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "verdict.py"


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated_verdicts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_few_null_experiments_are_called_a_change(simulated: ModuleType) -> None:
    designs = [
        simulated.Design(6, 3, of_speakers=2.0),  # Student's t with Satterthwaite's degrees is wrong in 8 of 100
        simulated.Design(6, 4, across=True, contexts=1),
        simulated.Design(7, 4, of_labels=1.0, contexts=1),  # tests that take pairs as independent, in 30
        simulated.Design(7, 10, of_speakers=0.0, zeros=0.8, steps=1.0, contexts=1),
    ]
    wrong = [simulated.experiment(design, 0.0, seed).shown != 0 for design in designs for seed in range(40)]
    assert np.mean(wrong) <= 0.06


def test_the_smallest_change_is_mostly_found(simulated: ModuleType) -> None:
    for design in (simulated.Design(10, 6, contexts=1), simulated.Design(8, 4, of_labels=0.7, contexts=1)):
        size = np.median([simulated.experiment(design, 0.0, seed).smallest_change() for seed in range(7)])
        found = [simulated.experiment(design, size, 1000 + seed).shown == 1 for seed in range(40)]
        assert 0.65 <= np.mean(found) <= 0.97


def test_three_pairs_can_show_nothing(simulated: ModuleType) -> None:
    tones = simulated.Design(3, 5)
    assert all(simulated.experiment(tones, change, 1).shown == 0 for change in (0.0, 0.5))
    assert simulated.experiment(tones, 0.0, 1).smallest_change() is None

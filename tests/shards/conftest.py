from pathlib import Path

import pytest
from sounds import Sounds


@pytest.fixture
def sounds(tmp_path: Path) -> Sounds:
    """Fourteen clips: eleven to train on, three to validate with."""
    (tmp_path / "raw").mkdir()
    sounds = Sounds(tmp_path / "raw")
    for i in range(11):
        sounds.add(f"a/{i}.x", labels=["rain", f"kind {i % 2}"], speaker=f"s{i % 3}")
    for i in range(3):
        sounds.add(f"v{i}", split="valid", labels=["rain"], phones=[[0.0, 0.05, "a"], [0.05, 0.1, "b"]], text="ab")
    return sounds

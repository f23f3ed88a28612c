"""Commands as a user types them, in this process and in an empty folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from w2v_abx import audio
from w2v_abx.__main__ import main
from w2v_abx.abx import Items

STRANGER = """
defaults: [folder]
name: pond
root: {root}
table: sounds.csv
file_column: recording
label_column: heard
valid: {{fraction: 0.25, seed: 0}}
"""


@pytest.fixture
def pond(tmp_path: Path) -> Path:
    """A stranger's corpus: eight wavs, a CSV, one YAML file; returns the folder of the latter."""
    rng = np.random.default_rng(0)
    rows = ["recording,heard"]
    for number in range(8):
        tone = np.sin(2 * np.pi * (300 + 200 * (number % 3)) * np.arange(24_000) / 16_000)
        path = tmp_path / "sounds" / f"{number}.wav"
        audio.save(path, (0.1 * tone + 0.01 * rng.standard_normal(24_000)).astype(np.float32))
        rows.append(f"{number}.wav,{['frog', 'frog|rain', 'rain'][number % 3]}")
    (tmp_path / "sounds" / "sounds.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine" / "corpus").mkdir(parents=True)
    (tmp_path / "mine" / "corpus" / "pond.yaml").write_text(STRANGER.format(root=tmp_path / "sounds"))
    return tmp_path / "mine"


@pytest.fixture
def spoken(tmp_path: Path) -> tuple[Path, Path]:
    """An item file and its audio: two speakers, two phones three times each."""
    rng = np.random.default_rng(1)
    rows = []
    for speaker in ("ann", "bob"):
        for take in range(6):
            name = f"{speaker}{take}"
            audio.save(tmp_path / "speech" / f"{name}.wav", (0.1 * rng.standard_normal(8_000)).astype(np.float32))
            rows.append([name, "0.1", "0.3", "a" if take % 2 else "i", "t", "k", speaker])
    columns = ["#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker"]
    Items(pl.DataFrame(rows, schema=columns, orient="row")).write(tmp_path / "test.item")
    return tmp_path / "test.item", tmp_path / "speech"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command; its standard output. A command that fails raises SystemExit."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["w2v-abx", *arguments])
        main()
        return capfd.readouterr().out

    return run

"""`w2v-abx train`, killed with SIGKILL in any of its phases and gone on with, leaves what an undisturbed run leaves.

A simulated device gets hot in each phase. Each trial kills one run up to three times: at random moments, or as soon as
a file shows that a phase has come so far. ``W2V_ABX_KILLS=30`` makes so many trials.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from noises import noises
from small import ARCHITECTURE

from w2v_abx import audio
from w2v_abx.models.encoder import Encoder

TRIALS = int(os.environ.get("W2V_ABX_KILLS", "2"))
ARGUMENTS = (
    "train",
    "corpus=folder",
    "corpus.name=sounds",
    "corpus.root=sounds",
    "abx=item_file",
    "abx.items=speech/test.item",
    "abx.root=speech/audio",
    "abx.batch_seconds=2",
    "model=local",
    "model.source=model",
    "model.dropout=0.1",
    "model.layer_drop=0.2",
    "thermal=simulated",
    "thermal.sensor.clip_seconds=2",
    "thermal.sensor.capacity=60",
    "logger=csv",
    "logger.csv.every_rows=1",
    "callbacks=[monitor]",
    "callbacks.checkpoints.every_steps=4",
    "data.batch_size=4",
    "data.crop_seconds=0.2",
    "trainer.max_epochs=3",
    "resume=auto",
)

PHASES = ('"before"', '"mfcc"', '"random"', '"training"', '"after"')
FILES = ("checkpoints/.*ckpt", "checkpoints/step*", "encoder", ".w2v-abx-encoder*", "abx/*", "report.html")

When = Callable[[Path], bool]
Train = Callable[..., int]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """Run the command in ``folder``, and kill it once ``when(folder)``; its exit status."""
    place = tmp_path_factory.mktemp("kills")
    noises(place / "speech").items.write(place / "speech" / "test.item")
    rng = np.random.default_rng(0)
    for number in range(24):
        path = place / "sounds" / ("frog", "rain")[number % 2] / f"{number}.wav"
        audio.save(path, (0.1 * rng.standard_normal(4_000)).astype(np.float32))
    Encoder.random(ARCHITECTURE).save(place / "model")
    script = Path(__file__).parents[1] / "support" / "killed_command.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def order(name: str, when: When | None = None, more: Sequence[str] = ()) -> int:
            folder = place / name
            arguments = [*ARGUMENTS, *more, f"hydra.run.dir={folder}", f"paths.data={folder}-data"]
            given = {"folder": str(place), "log": f"{folder}.log", "arguments": arguments}
            stdin.write(json.dumps(given) + "\n")
            stdin.flush()
            child = int(stdout.readline())
            while when is not None and runs(child):
                if when(folder):
                    os.kill(child, signal.SIGKILL)
                    break
                time.sleep(0.002)
            return int(stdout.readline())

        order.place = place  # type: ignore[attr-defined]
        yield order
        stdin.close()


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def lines(path: Path, count: int) -> When:
    return lambda folder: (folder / path).is_file() and (folder / path).read_bytes().count(b"\n") > count


def there(pattern: str) -> When:
    return lambda folder: any(folder.glob(pattern))


def said(word: str) -> When:
    return lambda folder: (folder / "phases.json").is_file() and word in (folder / "phases.json").read_text()


def after(seconds: float) -> When:
    end = time.monotonic() + seconds
    return lambda folder: time.monotonic() >= end


def moment(rng: random.Random, rows: int, seconds: float) -> When:
    """Choose when a run is killed: half of the times by how far ``thermal.csv`` is, which all phases write."""
    return rng.choice(
        [
            lines(Path("thermal.csv"), rng.randrange(rows)),
            lines(Path("thermal.csv"), rng.randrange(rows)),
            lines(Path("metrics.csv"), rng.randrange(40)),
            after(rng.uniform(0, seconds)),
            said(rng.choice(PHASES)),
            there(rng.choice(FILES)),
        ]
    )


def contents(folder: Path) -> dict[str, bytes]:
    """What a run has found and written down, but for the model card, which names its folder."""
    names = ["metrics.csv", "thermal.csv", "monitor.csv", "head.json", "comparisons.json"]
    paths = [*map(folder.joinpath, names), *folder.glob("abx/*/*.*"), *folder.glob("encoder/*[!d]")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def differing(place: Path, name: str, whole: str) -> set[str]:
    """The files of a run that are not as the ``whole`` one has them, and the weights of their last checkpoints."""
    found, expected = contents(place / name), contents(place / whole)
    ends = [torch.load(place / run / "checkpoints" / "last.ckpt", weights_only=True) for run in (name, whole)]
    assert ends[0]["global_step"] == ends[1]["global_step"]
    weights = [end["state_dict"] for end in ends]
    return {file for file in expected if found.get(file) != expected[file]} | {
        key for key, weight in weights[1].items() if not torch.equal(weights[0][key], weight)
    }


def test_a_run_killed_in_any_phase(train: Train) -> None:
    place: Path = train.place  # type: ignore[attr-defined]
    began = time.monotonic()
    assert train("whole") == 0, (place / "whole.log").read_text()
    seconds = time.monotonic() - began
    expected = contents(place / "whole")
    rows = expected["thermal.csv"].count(b"\n")
    assert b",rest," in expected["thermal.csv"]
    kills = 0
    for trial in range(TRIALS):
        rng, name = random.Random(trial), f"killed-{trial}"
        for _ in range(rng.randint(1, 3)):
            kills += train(name, moment(rng, rows, seconds)) == -signal.SIGKILL
        assert train(name) == 0, (place / f"{name}.log").read_text()
        assert differing(place, name, "whole") == set(), f"seed {trial}"
    assert kills
    print(f"{kills} kills in {TRIALS} runs of {rows} rows, {seconds:.0f} s")


@pytest.mark.parametrize(("head", "settings"), [("framewise", ["spread=all"]), ("ctc", ["units=characters"])])
def test_a_training_of_frames_or_transcripts_killed(train: Train, head: str, settings: list[str]) -> None:
    place: Path = train.place  # type: ignore[attr-defined]
    more = ["baselines=[]", "data.crop_seconds=null", "objective=default"]
    more += [f"+head@objective.heads.sounds={head}", "objective.heads.sounds.label=labels"]
    more += [f"objective.heads.sounds.{setting}" for setting in settings]
    assert train(f"{head}-whole", more=more) == 0, (place / f"{head}-whole.log").read_text()
    assert train(f"{head}-killed", lines(Path("metrics.csv"), 7), more) == -signal.SIGKILL
    assert train(f"{head}-killed", more=more) == 0, (place / f"{head}-killed.log").read_text()
    assert differing(place, f"{head}-killed", f"{head}-whole") == set()

"""A training killed with SIGKILL at twenty random moments ends as the one that was left alone."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

NEVER = 1 << 30

Train = Callable[..., int]


@pytest.fixture(scope="module")
def train(shards: Path) -> Iterator[Train]:
    """Run the training in a process of its own; its exit status."""
    script = Path(__file__).parents[2] / "support" / "killable.py"
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def order(folder: Path, **settings: Any) -> int:
            given = {"kill_after_steps": NEVER, "kill_after_seconds": 0, "every_steps": 2, "epochs": 12, "workers": 0}
            folder.mkdir(exist_ok=True)
            process.stdin.write(json.dumps(given | settings | {"folder": str(folder), "shards": str(shards)}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith("status "):
                    return int(line.split()[1])
            raise AssertionError("the process that forks has ended")

        yield order
        process.stdin.close()


def seen(folder: Path) -> list[Any]:
    """What each step was made of: whatever was done twice was the same."""
    steps: dict[int, Any] = {}
    for line in (folder / "seen.txt").read_text().splitlines():
        step, *rest = json.loads(line)
        assert steps.setdefault(step, rest) == rest
    return [steps[step] for step in range(len(steps))]


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    return torch.equal(found, expected)


@pytest.mark.parametrize(("workers", "kills"), [(0, 20), (2, 8)])
def test_twenty_kills(train: Train, tmp_path: Path, workers: int, kills: int) -> None:
    assert train(tmp_path / "whole", workers=workers) == 0
    moments = random.Random(workers)
    killed, ended = 0, False
    while killed < kills and not ended:
        # 72 steps; a kill between two of them, in one, in a validation, while a checkpoint is written or removed.
        steps, seconds = moments.randrange(4), moments.uniform(0, 0.05)
        settings = {"kill_after_steps": steps, "kill_after_seconds": seconds + (0.4 if steps == 0 else 0)}
        status = train(tmp_path / "killed", workers=workers, **settings)
        assert status in (-9, 0)
        ended = status == 0
        killed += not ended
    assert killed >= kills // 2  # a quick machine may come to the end before it was killed so often
    assert ended or train(tmp_path / "killed", workers=workers) == 0
    whole, found = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("whole", "killed"))
    assert same(found, whole)
    assert len(seen(tmp_path / "whole")) == 72
    assert seen(tmp_path / "killed") == seen(tmp_path / "whole")
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "killed")]
    assert rows[0] == rows[1]
    kept = [sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir()) for name in ("whole", "killed")]
    assert kept[0] == kept[1]

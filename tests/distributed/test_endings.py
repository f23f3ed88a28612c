"""Ranks end as their work did, however their threads stand (``W2V_ABX_ENDINGS=300`` tries it so many times)."""

import json
import os
import subprocess
import sys
from pathlib import Path

TIMES = int(os.environ.get("W2V_ABX_ENDINGS", "4"))
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "ending_ranks.py"


def test_two_ranks_end_time_and_again() -> None:
    command = [sys.executable, SCRIPT, str(TIMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {"0": 2 * TIMES}, done.stderr

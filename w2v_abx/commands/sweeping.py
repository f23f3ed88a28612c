"""What follows the jobs of a sweep."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from w2v_abx.errors import InputError

__all__ = ["AnalyzeSweep"]


class AnalyzeSweep(Callback):
    """Look inside the models of a sweep, once all jobs have ended, in the folder ``inside`` of the sweep's.

    Args:
        analysis: names of analyses.
        overrides: further settings of `w2v-abx analyze`.
    """

    def __init__(self, analysis: Sequence[str], overrides: Sequence[str] = ()) -> None:
        self.analysis, self.overrides = analysis, overrides

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Run `w2v-abx analyze` in a process of its own: Hydra runs one application in each."""
        folder = config.hydra.sweep.dir
        asked = [f"analysis=[{','.join(self.analysis)}]", f"runs=[{folder}]", f"hydra.run.dir={folder}/inside"]
        asked += [f"paths.data={config.paths.data}", f"seed={config.seed}", *self.overrides]
        done = subprocess.run([sys.executable, "-m", "w2v_abx", "analyze", *asked], check=False)
        if done.returncode:
            raise InputError(
                f"{folder}/inside was not made (exit status {done.returncode}): w2v-abx analyze {' '.join(asked)}"
            )

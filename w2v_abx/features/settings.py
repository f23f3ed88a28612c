"""The ``features`` config group."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.features.store import DTYPES
from w2v_abx.system.checks import boolean, choice

__all__ = ["FeatureSettings"]


@dataclass(frozen=True)
class FeatureSettings:
    """What becomes of extracted features: see ``conf/features/default.yaml``.

    Raises:
        InputError: a value out of range, or ``keep`` in a job of several processes.
    """

    keep: bool = False
    dtype: str = "float32"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "FeatureSettings":
        """The settings in a ``features`` config."""
        return cls(keep=config["keep"], dtype=config["dtype"])

    def __post_init__(self) -> None:
        boolean("features.keep", self.keep)
        choice("features.dtype", self.dtype, DTYPES)
        if self.keep and current_process().size > 1:
            raise InputError("features.keep=true needs a job of one process; set trainer.devices=1")

    def folder(self, run: Path, tag: str) -> Path | None:
        """Where the features of one measurement of a run are stored; None: in memory."""
        return run / "features" / tag if self.keep else None

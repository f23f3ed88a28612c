"""What an ABX evaluation found: scores by layer and condition, and the files that keep them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from w2v_abx import atomic
from w2v_abx.abx.scoring import Scores
from w2v_abx.abx.setting import AbxSetting

__all__ = ["AbxResult"]


@dataclass(frozen=True)
class AbxResult:
    """Scores of one model by layer and condition."""

    model: str
    setting: AbxSetting
    frequency: float
    scores: Mapping[tuple[int, str], Scores]

    @property
    def cells(self) -> pl.DataFrame:
        """All cells, with the columns ``layer`` and ``condition`` in front."""
        return pl.concat(
            [
                scores.cells.select(pl.lit(layer).alias("layer"), pl.lit(condition).alias("condition"), pl.all())
                for (layer, condition), scores in self.scores.items()
            ],
            how="diagonal",
        )

    def summary(self, tag: str) -> dict[str, Any]:
        """What `summary.json` holds: one row per layer and condition."""
        return {
            "tag": tag,
            "model": self.model,
            "frequency": self.frequency,
            "distance": self.setting.distance,
            "on": self.setting.on,
            "context": self.setting.context,
            "scores": [
                {
                    "layer": layer,
                    "condition": condition,
                    "error": scores.error(),
                    "cells": scores.cells.height,
                    "triplets": scores.triplets,
                    "skipped_items": scores.skipped.height,
                    "clipped_items": scores.clipped,
                    "delta": asdict(scores.delta),
                }
                for (layer, condition), scores in self.scores.items()
            ],
        }

    def save(self, folder: Path, tag: str) -> None:
        """Write ``cells.parquet``, ``summary.json`` and, if items had no frame, ``skipped.csv`` to ``folder/tag``."""
        atomic.write(folder / tag / "cells.parquet", self.cells.write_parquet)
        atomic.write_json(folder / tag / "summary.json", self.summary(tag))
        skipped = pl.concat([scores.skipped for scores in self.scores.values()]).unique(maintain_order=True)
        if skipped.height:
            atomic.write(folder / tag / "skipped.csv", skipped.write_csv)

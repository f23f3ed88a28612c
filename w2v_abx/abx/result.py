"""What an ABX evaluation found: scores by layer and condition, and the files that keep them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from w2v_abx.abx.scoring import Scores
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.system import atomic
from w2v_abx.system.spreadsheets import write_csv

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
        return self._each(lambda scores: scores.cells)

    def error(self, layer: int, condition: str) -> float:
        """The error, averaged as the setting says."""
        return self.scores[layer, condition].error(self.setting.levels_of(condition), self.setting.weighted)

    def per(self, *columns: str) -> pl.DataFrame:
        """Errors per phone pair, speaker …, as :meth:`Scores.per`, with ``layer`` and ``condition`` in front, of the
        conditions whose cells have these columns (of all, where none has)."""

        def fits(scores: Scores) -> bool:
            return {*columns} <= {*scores.task.columns, f"{scores.task.on}_b"}

        fitting = {where: scores for where, scores in self.scores.items() if fits(scores)} or self.scores
        return _stacked(
            {where: s.per(*columns, levels=self.setting.levels_of(where[1])) for where, s in fitting.items()}
        )

    def _each(self, table: Callable[[Scores], pl.DataFrame]) -> pl.DataFrame:
        return _stacked({where: table(scores) for where, scores in self.scores.items()})

    @property
    def _on(self) -> str:
        """The label that the main task tells apart."""
        return next(iter(self.setting.main.values())).on

    def summary(self, tag: str) -> dict[str, Any]:
        """What `summary.json` holds: one row per layer and condition."""
        return {
            "tag": tag,
            "model": self.model,
            "frequency": self.frequency,
            "distance": self.setting.distance,
            "pooling": self.setting.pooling,
            "slicing": self.setting.slicing,
            "on": self._on,
            "context": self.setting.context[0] if len(self.setting.context) == 1 else list(self.setting.context),
            "constraints": list(self.setting.constraints),
            "task": self.setting.task,
            "also": list(self.setting.also),
            "levels": self.setting.levels,
            "weighted": self.setting.weighted,
            "scores": [
                {
                    "layer": layer,
                    "condition": condition,
                    "on": scores.task.on,
                    "main": condition in self.setting.main,
                    "error": self.error(layer, condition),
                    "cells": scores.cells.height,
                    "triplets": scores.triplets,
                    "items": scores.items,
                    "skipped_items": scores.skipped.height,
                    "clipped_items": scores.clipped,
                    "delta": asdict(scores.delta),
                }
                for (layer, condition), scores in self.scores.items()
            ],
        }

    def save(self, folder: Path, tag: str) -> None:
        """Write the files of this result to ``folder/tag``.

        ``cells.parquet``, ``pairs.csv`` (per phone pair, or whatever is told apart; ``pairs_LABEL.csv`` of what other
        tasks beside it tell apart), ``speakers.csv`` where the task has speakers, ``summary.json``; ``deltas.parquet``
        if the setting says so; ``skipped.csv`` of items left out.
        """
        atomic.write_parquet(folder / tag / "cells.parquet", self.cells)
        for on in dict.fromkeys(scores.task.on for scores in self.scores.values()):
            name = "pairs" if on == self._on else f"pairs_{''.join(filter(str.isalnum, on))}"
            write_csv(folder / tag / f"{name}.csv", self.per(on, f"{on}_b"))
        if "speaker" in self.cells.columns:
            write_csv(folder / tag / "speakers.csv", self.per("speaker"))
        if self.setting.save_deltas:
            atomic.write_parquet(folder / tag / "deltas.parquet", self._each(lambda scores: scores.deltas))
        atomic.write_json(folder / tag / "summary.json", self.summary(tag))
        skipped = pl.concat([scores.skipped for scores in self.scores.values()]).unique(maintain_order=True)
        if skipped.height:
            write_csv(folder / tag / "skipped.csv", skipped)


def _stacked(tables: Mapping[tuple[int, str], pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(
        [
            table.select(pl.lit(layer).alias("layer"), pl.lit(condition).alias("condition"), pl.all())
            for (layer, condition), table in tables.items()
        ],
        how="diagonal",
    )

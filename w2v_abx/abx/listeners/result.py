"""The scores of listener triplets by layer, and the files that hold them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from w2v_abx.abx.listeners.agreement import Agreement
from w2v_abx.abx.listeners.scoring import TripletScores
from w2v_abx.system import atomic
from w2v_abx.system.spreadsheets import write_csv

__all__ = ["TripletResult"]


@dataclass(frozen=True)
class TripletResult:
    """The scores of one model on listener triplets, by layer."""

    model: str
    frequency: float
    distance: str
    pooling: str | None
    scores: Mapping[int, TripletScores]

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as published with their delta values, once for each layer, and ``layer`` in front."""
        frames = (
            scores.frame.with_columns(pl.lit(layer).alias("layer")).select("layer", pl.exclude("layer"))
            for layer, scores in self.scores.items()
        )
        return pl.concat(list(frames))

    def summary(self, tag: str) -> dict[str, Any]:
        """What `summary.json` holds: one row per layer."""
        return {
            "tag": tag,
            "model": self.model,
            "frequency": self.frequency,
            "distance": self.distance,
            "pooling": self.pooling,
            "scores": [
                {
                    "layer": layer,
                    **scores.summary(),
                    "skipped_stimuli": scores.skipped.height,
                    "clipped_stimuli": scores.clipped,
                    "human": _human(scores.agreement),
                }
                for layer, scores in self.scores.items()
            ],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per layer: the scores, and how they go with the listeners."""
        found = []
        for layer, scores in self.scores.items():
            row: dict[str, Any] = {"layer": layer, **scores.summary()}
            if (human := scores.agreement) is not None:
                row |= {"human_accuracy": human.accuracy, "spearman": human.spearman, "spearman_p": human.p}
                row |= {"human_triplets": human.triplets}
                for model in human.probit[-1:]:
                    row |= {
                        "log_likelihood": model.log_likelihood,
                        "log_likelihood_without": model.log_likelihood_without,
                        "log_likelihood_gain": model.gain,
                        "probit_effects": list(model.effects),
                    }
                if reasons := [reason for reason in (human.reason, *(m.reason for m in human.probit)) if reason]:
                    row["reasons"] = reasons
            found.append(row)
        return found

    def save(self, folder: Path, tag: str) -> None:
        """Write ``triplets.csv``, ``summary.json`` and, if stimuli had no frame, ``skipped.csv`` to ``folder/tag``."""
        write_csv(folder / tag / "triplets.csv", self.frame)
        atomic.write_json(folder / tag / "summary.json", self.summary(tag))
        skipped = pl.concat([scores.skipped for scores in self.scores.values()]).unique(maintain_order=True)
        if skipped.height:
            write_csv(folder / tag / "skipped.csv", skipped)


def _human(human: Agreement | None) -> dict[str, Any] | None:
    if human is None:
        return None
    return {**asdict(human), "probit": [{**asdict(model), "gain": model.gain} for model in human.probit]}

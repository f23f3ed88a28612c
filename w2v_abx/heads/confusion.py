"""Count what was taken for what, and by whom it was said, and rate that."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from w2v_abx.data.batch import Batch
from w2v_abx.distributed.collectives import gather, sum_over_ranks
from w2v_abx.statistics.ratios import jackknife_interval, ratio_interval

__all__ = ["Confusion", "speaker_of"]

Counts = npt.NDArray[np.int64]


def speaker_of(batch: Batch, row: int, known: bool = True) -> str:
    """Name the speaker of a clip and its corpus; or the clip, where nothing tells who speaks, or is not ``known``."""
    corpus, speaker = batch.corpora[row], batch.speakers[row]
    return f"speaker {corpus}/{speaker}" if speaker and known else f"clip {corpus}/{batch.keys[row]}"


class Confusion:
    """A confusion matrix, and for each speaker how many of each class there were and how many were found.

    Args:
        classes: C, of which each is a row and a column.
    """

    def __init__(self, classes: int) -> None:
        self.matrix: Counts = np.zeros((classes, classes), dtype=np.int64)
        self._found: dict[str, Counts] = {}  # (2, C) of each speaker: those found, and all

    def add(self, speaker: str, truth: Counts, taken: Counts) -> None:
        """Take in classes (N,) of one speaker, and what they were taken for (N,)."""
        np.add.at(self.matrix, (truth, taken), 1)
        found = self._found.setdefault(speaker, np.zeros((2, len(self.matrix)), dtype=np.int64))
        np.add.at(found[0], truth[truth == taken], 1)
        np.add.at(found[1], truth, 1)

    def gathered(self) -> "Confusion":
        """Add up the counts of all ranks; all call it."""
        everyones = Confusion(len(self.matrix))
        everyones.matrix = sum_over_ranks(torch.from_numpy(self.matrix)).numpy()
        for ranks in gather({speaker: found.tolist() for speaker, found in self._found.items()}):
            for speaker, found in ranks.items():
                everyones._found[speaker] = everyones._found.get(speaker, 0) + np.array(found)
        return everyones

    @property
    def total(self) -> int:
        """How many were taken for something."""
        return int(self.matrix.sum())

    def metrics(self) -> dict[str, float]:
        """Compute the accuracy, the mean recall of the classes that occur, and what a constant guess would reach."""
        found, all_ = self.matrix.diagonal(), self.matrix.sum(1)
        return {
            "accuracy": float(found.sum() / all_.sum()),
            "unweighted_accuracy": float(_mean_recall(found, all_)),
            "chance": float(all_.max() / all_.sum()),
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Find 95 % intervals of accuracy and mean recall over speakers; none where there is one speaker alone."""
        # (speakers, 2, C), in an order that does not depend on the ranks
        found = np.array([self._found[speaker] for speaker in sorted(self._found)])
        without = found.sum(0) - found
        mean_recall = self.metrics()["unweighted_accuracy"]
        intervals = {
            "accuracy": ratio_interval(*found.sum(2).T),
            "unweighted_accuracy": jackknife_interval(mean_recall, _mean_recall(without[:, 0], without[:, 1])),
        }
        return {metric: interval for metric, interval in intervals.items() if interval is not None}

    @property
    def over(self) -> str:
        """Say what the intervals are over."""
        speakers = sum(name.startswith("speaker ") for name in self._found)
        clips = len(self._found) - speakers
        parts = [f"{speakers} speakers"] * bool(speakers) + [f"{clips} clips"] * bool(clips)
        return " and ".join(parts)

    def rows(self, categories: Sequence[str], what: str) -> list[dict[str, Any]]:
        """List recall, precision and number (``what``) of each class."""
        found, all_, taken = self.matrix.diagonal(), self.matrix.sum(1), self.matrix.sum(0)
        return [
            {
                "category": category,
                "recall": found[n] / all_[n] if all_[n] else None,
                "precision": found[n] / taken[n] if taken[n] else None,
                what: int(all_[n]),
            }
            for n, category in enumerate(categories)
        ]

    def compared_with_chance(self, what: str) -> str:
        """Say whether the accuracy is above that of a constant guess, so far as its interval tells."""
        metrics: Mapping[str, float] = self.metrics()
        accuracy, chance = metrics["accuracy"], metrics["chance"]
        guess = f"{chance:.3f}, that of always the most frequent class"
        interval = self.intervals().get("accuracy")
        if interval is None:
            return (
                f"The accuracy of {what} is {accuracy:.3f}, beside {guess}; one speaker, or several alike, give no "
                "interval."
            )
        low, high = interval
        told = "is above" if low > chance else "is below" if high < chance else "cannot be told from"
        return f"The accuracy of {what}, {accuracy:.3f} [{low:.3f}, {high:.3f}] over {self.over}, {told} {guess}."


def _mean_recall(found: Counts, all_: Counts) -> Any:
    """Average found / all over the classes (…, C) that occur."""
    occurs = all_ > 0
    recall = np.divide(found, all_, out=np.zeros(all_.shape), where=occurs)
    return recall.sum(-1) / np.maximum(1, occurs.sum(-1))

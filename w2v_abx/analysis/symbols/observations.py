"""Symbols in runs as observations: how recall, counts in training and concentration in clusters hang together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from w2v_abx.analysis.symbols.resampling import Replicates
from w2v_abx.analysis.symbols.symbols import Recalls
from w2v_abx.errors import InputError
from w2v_abx.statistics.two_factors import TwoFactors, slope_within, two_factors

__all__ = ["Observations", "equivalence", "statistics"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST = 4  # symbols: a constant, two weights, and one that may differ
INTERVAL, ONE_SIDED = (2.5, 97.5), (5, 95)  # percentiles of the bootstrap


@dataclass(frozen=True)
class Observations:
    """Each symbol in each run.

    Attributes:
        recalls: of the symbols that are looked at.
        there: (R, U) whether a symbol in a run has enough occurrences and frames, and was trained on.
        left_out: symbols that are there in no run, by reason.
        crossed, speakers: replicates in which runs, symbols and speakers are drawn, and in which speakers alone are.
    """

    recalls: Recalls
    there: npt.NDArray[np.bool_]
    left_out: Mapping[str, Sequence[str]]
    crossed: Replicates
    speakers: Replicates

    @classmethod
    def of(
        cls, recalls: Recalls, frames: Integers, speakers: Sequence[str], least: int, draws: int, seed: int
    ) -> "Observations":
        """Choose the symbols.

        Args:
            frames: (R or 1, U) how many there are of each symbol.
            speakers: those whose frames are clustered, sorted.
            least: occurrences, and frames, that a symbol needs.

        Raises:
            InputError: too few symbols are left, or all are trained on equally often.
        """
        reasons = {
            "never in training": recalls.trained > 0,
            f"fewer than {least} times in held-out clips": recalls.asked.sum(1) >= least,
            f"fewer than {least} frames in the speech that is clustered": np.broadcast_to(
                frames >= least, recalls.trained.shape
            ),
        }
        there = np.logical_and.reduce(list(reasons.values()))
        kept = there.any(0)
        left_out = {
            why: [
                symbol
                for symbol, fine, stays in zip(recalls.symbols, fits.any(0), kept, strict=True)
                if not (fine or stays)
            ]
            for why, fits in reasons.items()
        }
        left_out = {why: symbols for why, symbols in left_out.items() if symbols}
        if kept.sum() < FEWEST:
            why = "; ".join(f"{reason}: {' '.join(symbols)}" for reason, symbols in left_out.items())
            raise InputError(
                f"analysis.coverage: {kept.sum()} symbols are left, and a regression on two factors needs at least "
                f"{FEWEST} ({why or 'there are no more'})"
            )
        own, there = recalls.take([s for s, stays in zip(recalls.symbols, kept, strict=True) if stays]), there[:, kept]
        if all(len(set(counts[fine])) < 2 for counts, fine in zip(own.trained, there, strict=True)):
            raise InputError(
                "analysis.coverage: in each run all symbols are in training equally often, so counts explain nothing; "
                "give runs on other clips, such as those of corpus.skew"
            )
        drawn = (Replicates.draw(own, speakers, draws, seed, crossed) for crossed in (True, False))
        return cls(own, there, left_out, *drawn)

    @cached_property
    def recall(self) -> tuple[Floats, Floats]:
        """Compute the recall of each symbol in each run in the replicates, (B, R, U)."""
        return self.crossed.recall(self.recalls), self.speakers.recall(self.recalls)

    @cached_property
    def counts(self) -> Floats:
        """Take the binary logarithm of the counts in training, (R, U); 0 of a symbol that is not there."""
        return np.log2(np.where(self.there, self.recalls.trained, 1))

    def explain(self, measure: str, tables: Sequence[Floats]) -> dict[str, tuple[Floats, Floats]]:
        """Regress recall on counts and concentration: each statistic in both kinds of replicates, (B,).

        Args:
            measure, tables: see `Replicates.concentration`.
        """
        both = [
            statistics(self._regressed(recall, replicates.concentration(measure, tables), replicates))
            for recall, replicates in zip(self.recall, (self.crossed, self.speakers), strict=True)
        ]
        return {name: (both[0][name], both[1][name]) for name in both[0]}

    def ranked(self, measure: str, tables: Sequence[Floats]) -> TwoFactors:
        """Do the same of ranks within each run, as Spearman's correlation does; of the data alone."""
        recall, place = self.recall[0][0], self.crossed.concentration(measure, tables)[0]
        values = [np.broadcast_to(value, self.there.shape) for value in (recall, self.counts, place)]
        recall, counts, place = (
            rankdata(np.where(self.there, value, np.nan), axis=-1, nan_policy="omit") for value in values
        )
        return two_factors(recall, counts, place, self.there.astype(np.float64))

    def of_run(self, run: int, measure: str, tables: Sequence[Floats]) -> dict[str, float]:
        """Regress in one run alone."""
        there = self.there & (np.arange(len(self.there)) == run)[:, None]
        place = self.crossed.concentration(measure, tables)[0]
        found = two_factors(
            self.recall[0][0], self.counts, np.broadcast_to(place, there.shape), there.astype(np.float64)
        )
        return {name: float(value) for name, value in statistics(found).items()}

    def within_symbols(self) -> dict[str, Any] | None:
        """Find how much higher the recall of a symbol is in runs with twice as much of it; None: there is one run.

        Runs and symbols are both levels, so neither how hard a symbol is, nor how good a run is, takes part.
        """
        everywhere = self.there.all(0)
        if len(self.there) < 2 or not everywhere.any():
            return None
        recall = self.recall[0]
        fine = np.logical_and(everywhere, np.isfinite(recall).all(1, keepdims=True))
        slopes = slope_within(recall, np.broadcast_to(self.counts, recall.shape), self.crossed.weights(fine))
        low, high = np.nanpercentile(slopes[1:], INTERVAL)
        return {
            "per_doubling": float(slopes[0]),
            "low": float(low),
            "high": float(high),
            "symbols": int(everywhere.sum()),
        }

    def _regressed(self, recall: Floats, place: Floats, replicates: Replicates) -> TwoFactors:
        counts, place = np.broadcast_to(self.counts, recall.shape), np.broadcast_to(place, recall.shape)
        return two_factors(
            recall, counts, place, replicates.weights(self.there & np.isfinite(recall) & np.isfinite(place))
        )


def statistics(found: TwoFactors) -> dict[str, Floats]:
    """Name what a regression on counts (first) and concentration (second) gives."""
    return {
        "r_count": found.r_first,
        "r_concentration": found.r_second,
        "r_factors": found.r_factors,
        "beta_count": found.beta_first,
        "beta_concentration": found.beta_second,
        "r2_count": found.r_first**2,
        "r2_concentration": found.r_second**2,
        "r2": found.both,
        "unique_count": found.unique_first,
        "unique_concentration": found.unique_second,
        "common": found.common,
        "difference": np.abs(found.beta_first) - np.abs(found.beta_second),
    }


def equivalence(differences: Floats, margin: float, symbols: int) -> dict[str, Any]:
    """Test whether a difference lies within plus or minus a margin: two one-sided tests (Schuirmann, 1987).

    Args:
        differences: (B,) of the data and its replicates.
        margin: above 0.
        symbols: how many it was found with.

    Returns:
        The difference, its 95 % interval (low, high), its 90 % interval, which lies within the margin where both tests
        reject at 5 %, their larger ``p``, and a ``verdict``: alike, count or concentration (which weighs more), or
        unclear; then ``symbols`` says of how many the 90 % interval would be as narrow as the margin.
    """
    drawn = differences[1:][np.isfinite(differences[1:])]
    (low, high), (low_90, high_90) = np.percentile(drawn, INTERVAL), np.percentile(drawn, ONE_SIDED)
    p = max(((drawn >= margin).sum() + 1) / (len(drawn) + 1), ((drawn <= -margin).sum() + 1) / (len(drawn) + 1))
    verdict = "alike" if -margin < low_90 and high_90 < margin else "count" if low > 0 else "concentration"
    if verdict == "concentration" and high >= 0:
        verdict = "unclear"
    return {
        "difference": float(differences[0]),
        "low": float(low),
        "high": float(high),
        "low_90": float(low_90),
        "high_90": float(high_90),
        "margin": margin,
        "p": float(p),
        "verdict": verdict,
        # An interval is as wide as one by the root of their number.
        "symbols_needed": int(np.ceil(symbols * ((high_90 - low_90) / 2 / margin) ** 2)),
    }

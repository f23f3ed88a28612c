"""The ABX error of one model with its 95 % interval over labels and speakers."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import optimize, special, stats

from w2v_abx.statistics.cells import Floats, Levels, Noise, PairMean, read_cells

__all__ = ["ALPHA", "Estimate", "crossed_p", "crossed_reach", "estimate", "resampled", "standard_error"]

ALPHA = 0.05  # the level of every test, and one minus that of every interval


@dataclass(frozen=True)
class Estimate:
    """An ABX error as a fraction, with its standard error and 95 % interval.

    ``resampled`` names what the interval generalises over: labels ("phones"), speakers, both, or nothing (``nan``).
    """

    value: float
    low: float
    high: float
    standard_error: float
    resampled: tuple[str, ...]
    n_pairs: int
    n_speakers: int


def estimate(
    cells: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    levels: Levels | None = None,
    weighted: bool = False,
) -> Estimate:
    """The ABX error of one model's cells and its 95 % interval, symmetric on the scale of log odds.

    Its variance is the sum of two delete-one jackknives: over labels, each with all pairs that it is in (they share
    it, and so are not independent), and over speakers, each as A, B and X: that of a crossed bootstrap (Owen & Eckles,
    2012, *Bootstrapping data arrays of arbitrary order*), without its draws. With few speakers such a variance is
    unsure itself, so the standard error is multiplied by quantiles of Student's t, weighted by the two parts (Cochran,
    1964, *Approximate significance levels of the Behrens-Fisher test*). ``benchmarks/verdict.py`` measures how often
    that holds. Fewer than three speakers, or labels, are held fixed, which ``resampled`` tells.

    Args:
        cells: one row per cell: ``on``, ``on``\\ ``_b``, ``speaker``, ``speaker_x``, any context columns, ``score``.
        on: the column told apart.
        speaker: the column of speakers, ``None`` where cells have none. Other key columns are contexts.
        levels, weighted: how the errors of cells become one, as in `w2v_abx.abx.averaging`; by default as published.

    Raises:
        InputError: a column is missing, a cell comes twice, or a score is not a number.
    """
    _, scores, _, mean = read_cells(cells, "given", on=on, speaker=speaker, levels=levels, weighted=weighted)
    value, noise = mean.mean(scores), mean.noise(scores)
    reach, n_pairs = float(crossed_reach(noise.labels, noise.speakers, mean.over)), len(mean.over.pairs)
    low = high = value if np.isfinite(reach) else np.nan
    if 0 < value < 1:
        low, high = (float(special.expit(special.logit(value) + s * reach / (value * (1 - value)))) for s in (-1, 1))
    return Estimate(value, low, high, standard_error(noise), resampled(noise, on), n_pairs, mean.over.n_speakers)


def resampled(noise: Noise, on: str) -> tuple[str, ...]:
    """Name what a variance is over."""
    parts = ((noise.labels, f"{on.lstrip('#')}s"), (noise.speakers, "speakers"))
    return tuple(name for variance, name in parts if np.isfinite(variance))


def standard_error(noise: Noise) -> float:
    """Of the average; ``nan`` where everything is held fixed."""
    return float(np.sqrt(np.nansum(noise[:2]))) if np.isfinite(noise[:2]).any() else np.nan


def crossed_reach(labels: Floats | float, speakers: Floats | float, over: PairMean, tail: float = ALPHA / 2) -> Floats:
    """How far the bounds of the interval lie from the average; ``nan`` where everything is held fixed.

    ``labels`` and ``speakers`` are the parts of its variance, as `Noise` has them; or arrays of several averages over
    the same pairs and speakers.
    """
    parts = ((labels, len(over.names) - 1), (speakers, over.n_speakers - 1))
    kept = [(np.asarray(variance), freedom) for variance, freedom in parts if np.isfinite(variance).all()]
    total = sum((variance for variance, _ in kept), np.zeros(()))
    reach = sum((variance * stats.t.isf(tail, freedom) for variance, freedom in kept), np.zeros(()))
    return reach / np.sqrt(np.maximum(total, 1e-300)) if kept else np.asarray(np.nan)


def crossed_p(value: float, noise: Noise, over: PairMean) -> float:
    """Two-sided p of ``value``: that at which a bound of the interval is zero; ``nan`` if everything is held fixed."""

    def apart(exponent: float) -> float:
        return float(crossed_reach(noise.labels, noise.speakers, over, np.exp(exponent) / 2)) - abs(value)

    if np.isnan(apart(0.0)):
        return np.nan
    smallest = -60.0  # of smaller ones SciPy gives no quantiles
    return float(np.exp(optimize.brentq(apart, smallest, 0.0))) if value and apart(smallest) > 0 else float(not value)

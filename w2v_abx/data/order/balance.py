"""Draw clips of rare categories more often, those of common ones less often, in an epoch of the same length.

A clip's weight is the mean over its categories of (clips that carry the category)^-strength: with strength 1 and one
category a clip, every category comes equally often; with 0 every clip does. Weights times N over their sum are the
*expected* counts, and in each epoch a clip comes as often as its expected count rounded down or up, so that N come in
all. The rounding is systematic sampling (Madow 1949, On the theory of systematic sampling, II): the cumulative sums of
the counts are cut at whole numbers from a common offset. The offset moves by the golden ratio from epoch to epoch, a
sequence of low discrepancy, so that a clip expected 0.3 times comes in three epochs of ten, evenly spread.

A clip that comes several times in an epoch is to come seldom several times in a batch. So an epoch is several passes
over the shards, and a clip's repeats lie in different passes (a shuffle moves some across the border of two). Each pass
reads in the order of the shards and leaves out what does not come in it: on a disk or in a cache that costs nothing; a
shard from afar comes anew for each pass.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["draw", "expected_counts", "passes_of"]

GOLDEN = (5**0.5 - 1) / 2
MOST_PASSES = 16
OFFSET, STARTS = 11, 12  # first in the seeds of what is drawn, so that no two are alike


def expected_counts(numbers: np.ndarray, carried: Sequence[Sequence[str]], strength: float) -> np.ndarray:
    """Compute how often each clip is to come in an epoch, (N,), of sum N.

    ``carried[numbers[i]]`` are the categories of clip i; to carry none counts as a category.
    """
    sizes = np.bincount(numbers, minlength=len(carried))
    frequency: dict[str | None, int] = {}
    sets: list[Sequence[str | None]] = [categories or [None] for categories in carried]
    for categories, size in zip(sets, sizes.tolist(), strict=True):
        for category in categories:
            frequency[category] = frequency.get(category, 0) + size
    weights = np.array([np.mean([max(1, frequency[c]) ** -strength for c in categories]) for categories in sets])
    weight = weights[numbers]
    return weight * (len(weight) / weight.sum())


def passes_of(expected: np.ndarray) -> int:
    """Count the passes over the shards of an epoch."""
    return min(MOST_PASSES, int(np.ceil(expected.max())))


def draw(expected: np.ndarray, epoch: int, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw an epoch: each clip ``expected`` times, rounded down or up, and as many in all as there are clips, N.

    Returns:
        Of each of the N, (N,): the clip; which of its repeats it is, from 0; and the pass over the shards, ascending.
        Clips ascend in each pass.
    """
    total = len(expected)
    sums = np.cumsum(expected)
    sums[-1] = total  # but for rounding
    offset = (np.random.default_rng([OFFSET, *seed]).random() + epoch * GOLDEN) % 1
    counts = np.diff(np.floor(sums + offset), prepend=0.0).astype(np.int64)
    passes = passes_of(expected)
    clips = np.repeat(np.arange(total), counts)
    repeats = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.random.default_rng([STARTS, *seed, epoch]).random(total)  # a clip that comes once may come in any pass
    of = ((repeats + start[clips]) * passes / counts[clips]).astype(np.int64)
    order = np.argsort(of, kind="stable")
    return clips[order], repeats[order], of[order]

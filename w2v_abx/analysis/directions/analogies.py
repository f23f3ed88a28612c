"""Phonological analogies, [b] ≈ [p] + [d] − [t]: which phones form them, and how well their centroids keep them.

After "Phonological vector arithmetic" (arXiv 2602.18899, github.com/juice500ml/phonetic-arithmetic), with the features
of PanPhon (Mortensen et al., 2016).
"""

from collections.abc import Mapping
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.heads.phonology import features, passed_over, segments

__all__ = ["MEASURES", "analogies", "contrasts", "measure", "random_offsets"]

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MEASURES = ("cosine", "accuracy", "reciprocal_rank", "random_cosine", "random_accuracy", "neighbour_accuracy")
ROLES = ("target", "start", "minus", "plus")  # target ≈ start − minus + plus


def contrasts(ipa: Mapping[str, str], differing: int) -> dict[str, list[tuple[str, str]]]:
    """Find the pairs of phones that differ in the same features, at most so many, each from − to +, or + to −.

    Args:
        ipa: each phone in the IPA. In no pair are those of two segments, such as diphthongs, of none, and of characters
            that it does not have.

    Returns:
        By features, such as "voi" and "cont+strid" (and "ant+-distr", one of which rises where the other falls); the
        first feature is − in the first phone of each pair.
    """
    taken = {phone: segments(letters) for phone, letters in ipa.items() if not passed_over(letters)}
    known = {phone: found[0] for phone, found in taken.items() if len(found) == 1}
    made: dict[str, list[tuple[str, str]]] = {}
    for one, other in permutations(sorted(known), 2):
        changes = [(name, x, y) for name, x, y in zip(features(), known[one], known[other], strict=True) if x != y]
        if 0 < len(changes) <= differing and changes[0][1] < 0 and all(x == -y != 0 for _, x, y in changes):
            name = "+".join(f"{'-' if y < 0 else ''}{name}" for name, _, y in changes)
            made.setdefault(name, []).append((one, other))
    return made


def analogies(pairs: Mapping[str, list[tuple[str, str]]]) -> pl.DataFrame:
    """Make four analogies of any two pairs with the same contrast and four phones: each of these as the one sought.

    Returns:
        ``feature`` and the phones ``target`` ≈ ``start`` − ``minus`` + ``plus``.
    """
    rows = []
    for feature, same in pairs.items():
        for (a, b), (c, d) in combinations(same, 2):
            if len({a, b, c, d}) == 4:
                rows += [(feature, *four) for four in ((b, a, c, d), (a, b, d, c), (d, c, a, b), (c, d, b, a))]
    return pl.DataFrame(rows, schema=dict.fromkeys(("feature", *ROLES), pl.String), orient="row")


def random_offsets(tasks: Integers, phones: int, seed: int) -> Integers:
    """Put two random other phones in place of ``minus`` and ``plus`` in analogies (Q, 4): they are of no contrast."""
    random = np.random.default_rng(seed)
    drawn = np.empty((len(tasks), 2), dtype=np.int64)
    for row, (target, start, _, _) in enumerate(tasks):
        drawn[row] = random.choice(np.setdiff1d(np.arange(phones), [target, start]), 2, replace=False)
    return np.concatenate([tasks[:, :2], drawn], axis=1)


def measure(centroids: Doubles, tasks: Integers, unrelated: Integers) -> Doubles:
    """Measure how well analogies hold among centroids (P, D).

    Cosines are of vectors less the mean of all centroids. A target is sought among all phones but the other three;
    where several are as near, it is right in one of so many cases.

    Args:
        centroids: NaN for a phone that is not there, and for the analogies that it is in.
        tasks: (Q, 4) target, start, minus, plus.
        unrelated: the same with others for minus and plus, see `random_offsets`.

    Returns:
        (Q, 6), `MEASURES`: the cosine of target − start with plus − minus; whether the target is nearest to
        start − minus + plus; one over its rank; the first two with what is ``unrelated``; whether the target is nearest
        to start alone.
    """
    centred = centroids - np.nanmean(centroids, axis=0)
    target, start, minus, plus = tasks.T
    cosine = _cosine(centred[target] - centred[start], centred[plus] - centred[minus])
    right, reciprocal = _sought(centred, centred[start] - centred[minus] + centred[plus], tasks)
    other = centred[unrelated[:, 3]] - centred[unrelated[:, 2]]
    random_cosine = _cosine(centred[target] - centred[start], other)
    random_right, _ = _sought(centred, centred[start] + other, unrelated)
    neighbour, _ = _sought(centred, centred[start], tasks)
    found = np.stack([cosine, right, reciprocal, random_cosine, random_right, neighbour], axis=1)
    found[~np.isfinite(centroids[tasks].sum((1, 2)))] = np.nan
    return found


def _sought(centred: Doubles, predicted: Doubles, tasks: Integers) -> tuple[Doubles, Doubles]:
    """Whether each target is the phone nearest to what is predicted (Q, D), and one over its rank."""
    likeness = np.nan_to_num(_unit(predicted) @ _unit(centred).T, nan=-np.inf)
    np.put_along_axis(likeness, tasks[:, 1:], -np.inf, axis=1)
    own = np.take_along_axis(likeness, tasks[:, :1], axis=1)
    nearer = (likeness > own).sum(1)
    alike = np.isclose(likeness, own, rtol=0, atol=1e-12).sum(1)  # the target itself among them
    return np.where(nearer == 0, 1 / alike, 0.0), 1 / (nearer + (alike + 1) / 2)


def _cosine(one: Doubles, other: Doubles) -> Doubles:
    found: Doubles = (_unit(one) * _unit(other)).sum(1)
    return found


def _unit(vectors: Doubles) -> Doubles:
    """Scale vectors to a length of one; a null vector stays one."""
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, sizes, out=np.zeros_like(vectors), where=~(sizes == 0))

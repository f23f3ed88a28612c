"""Errors of pairs of labels, and how sure it is that they changed."""

from functools import partial

import numpy as np
import polars as pl

from w2v_abx.statistics.cells import Levels, read_cells

__all__ = ["changed_pairs", "label_pairs"]

PRIOR = 4  # degrees of freedom that the spread of cells of all pairs counts for in that of each


def label_pairs(
    cells: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    levels: Levels | None = None,
    weighted: bool = False,
) -> pl.DataFrame:
    """Error of each ordered pair of labels: ``on``, ``on``\\ ``_b`` (strings), ``error``; raises as `estimate`."""
    _, scores, _, mean = read_cells(cells, "given", on=on, speaker=speaker, levels=levels, weighted=weighted)
    found, which = np.unique(2 * mean.pair + mean.reverse, return_inverse=True)
    errors = np.bincount(which, mean.weights * scores) / np.bincount(which, mean.weights)
    pairs = mean.over.pairs[found // 2]
    sides = np.where(found[:, None] % 2, pairs[:, ::-1], pairs)
    a, b = ([mean.over.names[i] for i in side] for side in sides.T)
    return pl.DataFrame({on: a, f"{on}_b": b, "error": errors})


def changed_pairs(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    levels: Levels | None = None,
    weighted: bool = False,
) -> pl.DataFrame:
    """How each unordered pair changed between two tables of the same cells, the surest change first.

    Rare labels have few triplets, and their errors move most by chance. So pairs are in the order of the change over
    its standard error. A cell's variance is taken to fall with its triplets, and is estimated from the cells of the
    pair and, as if these were four cells more, of all pairs (a moderated t: Smyth, 2004, *Linear models and empirical
    Bayes methods*), for a pair of one cell has no spread of its own.

    Returns:
        ``on``, ``on``\\ ``_b`` (strings), ``before``, ``after``, ``change``, ``standard_error``, ``cells``,
        ``triplets``.
    """
    read = partial(read_cells, on=on, speaker=speaker, levels=levels, weighted=weighted)
    _, earlier, counted, mean = read(before, "before")
    errors = [earlier, read(after, "after").scores]
    sizes = np.ones(len(earlier)) if counted is None else counted
    change = mean.per_pair(errors[1] - errors[0])
    cells, triplets = np.bincount(mean.pair), np.bincount(mean.pair, sizes)
    apart = sizes * (errors[1] - errors[0] - change[mean.pair]) ** 2  # each as of one triplet
    common = apart.sum() / max(1, (cells - 1).sum())
    spread = (PRIOR * common + np.bincount(mean.pair, apart)) / (PRIOR + cells - 1)
    share = mean.weights / mean.over.weights[mean.pair]
    error = np.sqrt(spread * np.bincount(mean.pair, share**2 / sizes))
    names = np.array(mean.over.names, dtype=object)[mean.over.pairs]
    surest = np.argsort(-np.abs(change) / np.maximum(error, 1e-300), kind="stable")
    table = {
        on: names[:, 0],
        f"{on}_b": names[:, 1],
        "before": mean.per_pair(errors[0]),
        "after": mean.per_pair(errors[1]),
    }
    table |= {"change": change, "standard_error": error, "cells": cells, "triplets": triplets.astype(np.int64)}
    return pl.DataFrame({name: values[surest] for name, values in table.items()})

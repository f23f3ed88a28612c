"""ABX by definition, one triplet after another, and small corpora to score so."""

from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

from w2v_abx.abx import Items, Scores, Task

EPSILON = 1e-6


def frame_distance(name: str, p: np.ndarray, q: np.ndarray) -> float:
    if name == "identical":
        return float((p != q).any())
    if name == "euclidean":
        return float(np.sqrt(np.float32(((p - q) ** 2).sum())))
    if name == "kl_symmetric":
        log_p, log_q = np.log(p + EPSILON), np.log(q + EPSILON)
        return float(((p * (log_p - log_q)).sum() + (q * (log_q - log_p)).sum()) / 2)
    norms = np.linalg.norm(p), np.linalg.norm(q)
    if not all(norms):
        return float(any(norms))
    return float(np.arccos(np.clip(p @ q / norms[0] / norms[1], -1, 1)) / np.pi)


def item_distance(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """Fill the whole matrix, then walk back: the diagonal is preferred, then the left, then up."""
    frames = np.array([[frame_distance(name, p, q) for q in y] for p in x], dtype=np.float32)
    cost = np.full((len(x) + 1, len(y) + 1), np.inf, dtype=np.float32)
    cost[0, 0] = 0
    for i, j in np.ndindex(frames.shape):
        cost[i + 1, j + 1] = frames[i, j] + min(cost[i, j], cost[i + 1, j], cost[i, j + 1])
    i, j, steps = len(x), len(y), 0
    while i and j:
        steps += 1
        _, _, i, j = min(
            (cost[i - 1, j - 1], 0, i - 1, j - 1), (cost[i, j - 1], 1, i, j - 1), (cost[i - 1, j], 2, i - 1, j)
        )
    return float(cost[-1, -1] / np.float32(steps))


def reference(
    features: dict[str, np.ndarray],
    items: Items,
    task: Task,
    distance: str,
    blur: float = 0.0,
    fulfilled: Callable[..., bool] = lambda a, b, x: True,
) -> dict[tuple[str, ...], tuple[float, float, int, list[float], list[float]]]:
    """Of each cell the least and greatest error if deltas may be off by ``blur``, triplets, deltas, mean distances."""
    rows = items.frame.to_dicts()
    starts, stops = items.spans(Fraction(1))
    frames = [features[row["#file"]][i:j] for row, i, j in zip(rows, starts, stops, strict=True)]
    table = [[item_distance(distance, x, y) for y in frames] for x in frames]
    found = defaultdict(lambda: [0.0, 0.0, 0, [], []])
    for (i, a), (j, b), (k, x) in product(enumerate(rows), repeat=3):
        if i == k or a[task.on] != x[task.on] or a[task.on] == b[task.on]:
            continue
        if any(len({a[name], b[name], x[name]}) > 1 for name in task.by):
            continue
        if any(a[name] != b[name] or a[name] == x[name] for name in task.across):
            continue
        if not fulfilled(a, b, x):
            continue
        key = [*(a[name] for name in task.columns), b[task.on], *(x[name] for name in task.across)]
        cell = found[tuple(key)]
        delta = table[k][j] - table[k][i]
        cell[0] += float(delta < -blur) + 0.5 * (delta == 0 and not blur)
        cell[1] += float(delta < blur) + 0.5 * (delta == 0 and not blur)
        cell[2] += 1
        cell[3].append(delta)
        cell[4].append((table[k][i] + table[k][j]) / 2)
    return {key: (low / n, high / n, n, deltas, means) for key, (low, high, n, deltas, means) in found.items()}


TASKS = [
    Task("p"),
    Task("p", by=["s"]),
    Task("p", by=["c"], across=["s"]),
    Task("p", across=["s"]),
    Task("p", across=["s", "c"]),
    Task("p", by=["c", "s"]),
]
# Distances between these are exact in float32, so that whatever ties, ties exactly.
EXACT = {
    "identical": st.lists(st.sampled_from([0, 1, 2]), min_size=2, max_size=2),
    "euclidean": st.lists(st.integers(-3, 3), min_size=3, max_size=3),
    "angular": st.sampled_from([(0, 0, 0), (2, 0, 0), (-1, 0, 0), (0, 3, 0), (0, 0, 5), (0, 0, -5)]),
}
SMOOTH = {
    "euclidean": st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3),
    "angular": st.lists(st.floats(-2, 2, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=5, max_size=5),
    "kl_symmetric": st.lists(st.floats(0, 9, width=32), min_size=3, max_size=3).map(
        lambda v: (np.array(v) + 1e-3) / (sum(v) + 3e-3)
    ),
}


@st.composite
def corpora(draw: st.DrawFn, vectors: st.SearchStrategy) -> tuple[dict[str, np.ndarray], Items]:
    """Items of one to four frames, some of them equal, over few phones, contexts and speakers."""
    distinct = draw(st.lists(st.lists(vectors, min_size=1, max_size=4), min_size=1, max_size=5))
    chosen = draw(st.lists(st.sampled_from(distinct), min_size=2, max_size=8))
    speakers, contexts = draw(st.sampled_from("123")), draw(st.sampled_from("12"))
    rows, frames = [], []
    for item in chosen:
        labels = (
            draw(st.sampled_from("abc")),
            draw(st.sampled_from("12"[: int(contexts)])),
            draw(st.sampled_from("xyz"[: int(speakers)])),
        )
        rows.append(("f", f"{len(frames)}", f"{len(frames) + len(item)}", *labels))
        frames += item
    items = Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "p", "c", "s"], orient="row"))
    return {"f": np.array(frames, dtype=np.float32)}, items


def assert_cells_equal(scores: Scores, expected: dict[tuple[str, ...], tuple]) -> None:
    labels = scores.cells.columns[: scores.cells.columns.index("score")]
    assert sorted(expected) == scores.cells.select(labels).rows()
    for row in scores.cells.iter_rows(named=True):
        low, _, size, deltas, means = expected[tuple(row[name] for name in labels)]
        assert row["score"] == low
        assert row["size"] == size
        assert row["delta_sum"] == pytest.approx(sum(deltas), abs=1e-5)
        assert row["delta_square_sum"] == pytest.approx(sum(d * d for d in deltas), abs=1e-5)
        assert row["distance_mean"] == pytest.approx(np.mean(means), abs=1e-6)

"""The scorer for accelerators, on the CPU as PyTorch's device: against nested loops, float64 and the CPU's engine."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nested_loops import EXACT, SMOOTH, TASKS, assert_cells_equal, corpora, item_distance, reference
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from w2v_abx.abx import Items, Scorer, Scores, Task, accelerator, blocks, score, scoring
from w2v_abx.abx.distances import DISTANCES
from w2v_abx.abx.frames import cut_frames
from w2v_abx.errors import InputError

CPU = torch.device("cpu")
# The logarithms of kl_symmetric are a library's, which may round one and the same number in two ways.
EXACTLY_ROUNDED = ["angular", "euclidean", "identical"]


@contextmanager
def torch_scores(memory: int | None = None) -> Iterator[None]:
    """Score as on an accelerator, but on the CPU; with small batches if ``memory`` is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "cut_frames", lambda *given: cut_frames(*given[:3], CPU, *given[4:]))
        if memory is not None:
            patch.setattr(accelerator, "MEMORY", memory)
            patch.setattr(blocks, "BLOCK_DISTANCES", 100)
            patch.setattr(blocks, "BATCH_DISTANCES", 200)
        yield


def scored(features: dict[str, np.ndarray], items: Items, task: Task, distance: str, memory: int) -> Scores | None:
    with torch_scores(memory):
        try:
            return score(features, items, task, frequency=1, distance=distance)
        except InputError:
            return None


MEMORIES = st.sampled_from([20_000, 1 << 30])  # a few items at once, or all


@pytest.mark.parametrize("distance", EXACT)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), task=st.sampled_from(TASKS), memory=MEMORIES)
def test_equals_nested_loops_to_the_last_tie(distance: str, data: st.DataObject, task: Task, memory: int) -> None:
    features, items = data.draw(corpora(EXACT[distance]))
    expected = reference(features, items, task, distance)
    scores = scored(features, items, task, distance, memory)
    if scores is None:
        assert not expected
        return
    assert_cells_equal(scores, expected)


@pytest.mark.parametrize("distance", SMOOTH)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), task=st.sampled_from(TASKS), memory=MEMORIES)
def test_equals_nested_loops_but_for_near_ties(distance: str, data: st.DataObject, task: Task, memory: int) -> None:
    features, items = data.draw(corpora(SMOOTH[distance]))
    expected = reference(features, items, task, distance, blur=2e-3 if distance == "angular" else 1e-4)
    scores = scored(features, items, task, distance, memory)
    if scores is None:
        assert not expected
        return
    labels = scores.cells.columns[: scores.cells.columns.index("score")]
    for row in scores.cells.iter_rows(named=True):
        low, high, size, *_ = expected[tuple(row[name] for name in labels)]
        assert row["size"] == size
        assert low - 1e-9 <= row["score"] <= high + 1e-9


def random_corpus(
    distance: str, seed: int = 0, items: int = 120, longest: int = 12, width: int = 20
) -> tuple[dict[str, np.ndarray], Items]:
    """Items one behind the other in one file, at one frame a second."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, items)
    ends = np.cumsum(lengths)
    frames = rng.normal(size=(ends[-1], width)).astype(np.float32)
    if distance == "kl_symmetric":
        frames = np.exp(frames) / np.exp(frames).sum(axis=1, keepdims=True)
    if distance == "identical":
        frames = (frames[:, :1] > 0).astype(np.float32)
    labels = {name: [f"{name}{k}" for k in rng.integers(2, size=items)] for name in "pcs"}
    return {"f": frames}, Items(
        pl.DataFrame({"#file": ["f"] * items, "onset": ends - lengths, "offset": ends, **labels})
    )


def assert_close(found: Scores, expected: Scores) -> None:
    """Distances differ by roundings, and scores by the near ties that these part."""
    assert found.cells["size"].equals(expected.cells["size"])
    assert found.error() == pytest.approx(expected.error(), abs=1e-3)
    np.testing.assert_allclose(found.deltas["delta"], expected.deltas["delta"], atol=2e-5)
    for column in ("distance_mean", "delta_square_sum"):
        np.testing.assert_allclose(found.cells[column], expected.cells[column], rtol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("options", [{}, {"pooling": "hamming"}, {"max_size_group": 9}])
def test_equals_the_engine_of_the_cpu(distance: str, options: dict) -> None:
    features, items = random_corpus(distance)
    scorer = Scorer(items, Task("p", by=["c"], across=["s"]), frequency=1, distance=distance, **options)
    expected = scorer(features)
    with torch_scores():
        assert_close(scorer(features), expected)


def test_constraints_hold_as_on_the_cpu() -> None:
    features, items = random_corpus("identical")
    task = Task("p", constraints=["s_a != s_x"])
    expected = score(features, items, task, frequency=1, distance="identical")
    with torch_scores():
        assert score(features, items, task, frequency=1, distance="identical").cells.equals(expected.cells)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="PyTorch finds no accelerator here")
def test_equals_the_engine_of_the_cpu_on_an_accelerator(distance: str) -> None:
    features, items = random_corpus(distance, items=400, longest=40, width=100)
    options = {"frequency": 1, "distance": distance}
    expected = score(features, items, Task("p", by=["c"], across=["s"]), **options)
    found, again = (score(features, items, expected.task, device="auto", **options) for _ in range(2))
    assert_close(found, expected)
    assert found.cells.equals(again.cells)
    with torch_scores():
        on_cpu = score(features, items, expected.task, **options)
    if distance == "angular":  # whose products are exact everywhere
        assert found.cells["score"].equals(on_cpu.cells["score"])


@pytest.mark.parametrize("distance", EXACTLY_ROUNDED)
def test_memory_and_ranks_change_no_bit(distance: str) -> None:
    features, items = random_corpus(distance, items=50)
    scorer = Scorer(items, Task("p", by=["c"], across=["s"]), frequency=1, distance=distance)
    with torch_scores():
        whole = scorer(features)
    parts: list[list[np.ndarray]] = [[], []]
    for rank, added in enumerate(parts):
        with torch_scores(1 << 16):
            scorer(features, ranks=Rank(rank, added))
    lost, delta_sum, _, distance_mean, deltas = (a + b for a, b in zip(*parts, strict=True))
    assert (lost / (2 * whole.cells["size"].to_numpy())).tolist() == whole.cells["score"].to_list()
    assert delta_sum.tolist() == whole.cells["delta_sum"].to_list()
    assert distance_mean.tolist() == whole.cells["distance_mean"].to_list()
    assert deltas.tolist() == whole.deltas["delta"].to_list()


class Rank:
    """One of two ranks, which keeps what it would add to the other's."""

    size = 2

    def __init__(self, rank: int, added: list[np.ndarray]) -> None:
        self.rank, self.added = rank, added

    def sum(self, values: np.ndarray) -> np.ndarray:
        self.added.append(values)
        return values


@pytest.mark.parametrize("distance", ["angular", "euclidean"])
def test_equal_items_tie_wherever_they_lie(distance: str) -> None:
    rng = np.random.default_rng(2)
    distinct = [rng.normal(size=(n, 40)) for n in (5, 3)]
    chosen = [distinct[k % 3 > 0] for k in range(12)]
    ends = np.cumsum([len(item) for item in chosen])
    times = {"onset": [0, *ends[:-1]], "offset": ends, "p": ["ab"[k % 2] for k in range(12)]}
    items = Items(pl.DataFrame({"#file": ["f"] * 12, **times}))
    features = {"f": np.concatenate(chosen)}
    expected = score(features, items, Task("p"), frequency=1, distance="identical")
    for memory in (3000, 1 << 30):
        with torch_scores(memory):
            found = score(features, items, Task("p"), frequency=1, distance=distance)
        assert found.cells["score"].equals(expected.cells["score"])


def test_a_null_vector_is_farthest_from_all_but_another() -> None:
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [3e30, 4e30], [-3e-30, -4e-30]])
    found = accelerator.frame_distances(DISTANCES["angular"], vectors, vectors)
    assert found.tolist() == [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1], [0, 1, 0, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 0]]


# Frame distances.

SHAPES = [(1, 1, 1), (7, 5, 2), (33, 65, 3), (40, 30, 40), (70, 50, 768), (10, 9, 1280)]


def vectors(distance: str, rows: int, width: int, seed: int) -> torch.Tensor:
    values = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    if distance == "kl_symmetric":
        return values.softmax(dim=1)
    return values.round() if distance == "identical" else values


@pytest.mark.parametrize(("rows", "columns", "width"), SHAPES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_frame_distances_equal_float64(distance: str, rows: int, columns: int, width: int) -> None:
    x, y = vectors(distance, rows, width, 0), vectors(distance, columns, width, 1)
    y[0] = x[0]
    y[-1] += 1e-3 * (x[-1] - y[-1])
    p, q = x.double()[:, None], y.double()
    expected = {
        "angular": lambda: torch.cosine_similarity(p, q, dim=-1).clamp(-1, 1).acos() / np.pi,
        "euclidean": lambda: (p - q).norm(dim=-1),
        "kl_symmetric": lambda: ((p - q) * ((p + 1e-6) / (q + 1e-6)).log()).sum(dim=-1) / 2,
        "identical": lambda: (p != q).any(dim=-1).double(),
    }[distance]()
    found = accelerator.frame_distances(DISTANCES[distance], x, y)
    assert found.dtype == torch.float32
    assert found[0, 0] == 0
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("rows", "columns", "width"), SHAPES)
@pytest.mark.parametrize("distance", EXACTLY_ROUNDED)
def test_a_frame_distance_does_not_depend_on_its_neighbours(distance: str, rows: int, columns: int, width: int) -> None:
    metric = DISTANCES[distance]
    x, y = vectors(distance, rows, width, 0), vectors(distance, columns, width, 1)
    whole = accelerator.frame_distances(metric, x, y)
    assert torch.equal(accelerator.frame_distances(metric, y, x).T, whole)
    for i, j in ((0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1)):
        assert torch.equal(accelerator.frame_distances(metric, x[i:], y[j:]), whole[i:, j:])
        assert accelerator.frame_distances(metric, x[i : i + 1], y[j : j + 1]) == whole[i, j]


@given(
    width=st.sampled_from([1, 2, 3, 4, 63, 64, 65, 768, 1024, 4096]),
    kind=st.sampled_from(["normal", "constant", "halfway", "one", "outliers"]),
    seed=st.integers(0, 9),
)
def test_products_of_slices_are_exact(width: int, kind: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(6, width, generator=generator)
    if kind == "constant":
        frames = frames.sign()
    if kind == "halfway":  # so that lower slices are as large as they can be, and of one sign
        frames = frames.sign() * ((torch.rand(6, width, generator=generator) * 99 / width**0.5).ceil() + 0.5)
    if kind == "one":
        frames[:, 1:] *= 1e-4
    if kind == "outliers":
        frames *= 10.0 ** torch.randint(-3, 4, (6, width), generator=generator)
    high, low = (values.double() for values in accelerator._slices(frames)[:2])
    for left, right in ((high, high), (high, low), (low, low)):
        assert torch.equal((left.float() @ right.float().T).double(), left @ right.T)
        # In any order: no partial sum needs more than the 24 bits of a float32.
        assert float((left.abs() @ right.abs().T).max()) <= 2**24 * unit(left) * unit(right)


def unit(values: torch.Tensor) -> float:
    """The power of two of which all ``values`` are multiples."""
    return next(2.0**-k for k in range(40) if torch.equal(values * 2**k, (values * 2**k).round()))


# Alignment.


@given(
    sizes=st.lists(st.tuples(st.integers(1, 17), st.integers(1, 17)), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    memory=MEMORIES,
)
def test_paths_are_those_of_the_slow_reference(sizes: list[tuple[int, int]], seed: int, memory: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [[rng.normal(size=(length, 4)).astype(np.float32) for length in size] for size in sizes]
    with torch_scores(memory):
        torch.testing.assert_close(*aligned("euclidean", pairs), rtol=1e-5, atol=1e-6)


def test_both_directions_of_a_pair_whose_paths_tie() -> None:
    # Where left and up tie, the path's length and so the distance may differ between directions; it seldom does.
    rng = np.random.default_rng(1)
    pairs: list[list[np.ndarray]] = []
    while len(pairs) < 6:
        x, y = (rng.integers(3, size=(rng.integers(3, 9), 1)).astype(np.float32) for _ in range(2))
        if item_distance("identical", x, y) != item_distance("identical", y, x):
            pairs += [[x, y], [y, x]]
    found, expected = aligned("identical", pairs)
    assert torch.equal(found, expected)


def aligned(distance: str, pairs: list[list[np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Both directions' distances of pairs of items, and those of the reference."""
    x, y = (torch.from_numpy(np.concatenate([pair[side] for pair in pairs])) for side in (0, 1))
    m, n = torch.tensor([[len(item) for item in pair] for pair in pairs]).T
    matrix = accelerator.frame_distances(DISTANCES[distance], x, y)
    first = (m.cumsum(0) - m) * len(y) + n.cumsum(0) - n
    expected = [[item_distance(distance, x, y), item_distance(distance, y, x)] for x, y in pairs]
    return torch.stack(accelerator.align_pairs(matrix, first, m, n)), torch.tensor(expected).T


# Memory.


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive after each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.most = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if torch.is_tensor(result) and result.untyped_storage().data_ptr() not in known:
                storage = result.untyped_storage()
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self.most = max(self.most, self.alive)
        return results

    def _free(self, size: int) -> None:
        self.alive -= size


@pytest.mark.parametrize("distance", ["angular", "kl_symmetric"])  # which have the largest intermediate results
@pytest.mark.parametrize(("items", "longest", "width"), [(150, 1, 8), (40, 12, 8), (8, 60, 8), (12, 12, 600)])
def test_memory_is_bounded(
    distance: str, items: int, longest: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, table = random_corpus(distance, items=items, longest=longest, width=width)
    scorer = Scorer(table, Task("p"), frequency=1, distance=distance)
    monkeypatch.setattr(accelerator, "MEMORY", 1 << 20)
    with torch_scores(), Allocations() as allocations:
        scorer(features)
    beside = features["f"].nbytes + 4 * items**2  # the features and the distances of the whole batch
    assert (1 << 16) < allocations.most - beside <= 1 << 20

"""The GPU's scores against the CPU engine's. Without a GPU, its kernels are interpreted, and compiled but not run."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from interpreted import imported_kernels, interpreter
from interpreted import score as score_interpreted

from w2v_abx.abx import Items, Task, gpu, panels
from w2v_abx.abx.cells import build_cells
from w2v_abx.abx.deltas import draw_triplets
from w2v_abx.abx.distances import check_distance
from w2v_abx.abx.engine import Plan, Results
from w2v_abx.abx.frames import cut_frames
from w2v_abx.errors import InputError

DISTANCES = ["angular", "euclidean", "kl_symmetric", "identical"]
TASKS = [
    Task("p"),
    Task("p", by=["s"]),
    Task("p", across=["s"]),
    Task("p", by=["c"], across=["s"]),
    Task("p", across=["s", "c"]),
]
CPU = torch.device("cpu")
SMALL = {"TILE": 16, "LANES": 32}  # so that small corpora fill several


class Corpus:
    """Items one behind the other in one file at one frame a second, and their frames."""

    def __init__(self, items: list[np.ndarray], labels: list[tuple[str, ...]]) -> None:
        ends = np.cumsum([len(item) for item in items]).tolist()
        rows = [("f", a, b, *names) for a, b, names in zip([0, *ends[:-1]], ends, labels, strict=True)]
        columns = ["p", "c", "s"][: len(labels[0])]
        self.items = Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", *columns], orient="row"))
        self.features = {"f": np.concatenate(items).astype(np.float32)}

    @classmethod
    def random(cls, distance: str, seed: int = 0, items: int = 12, longest: int = 6, width: int = 7) -> "Corpus":
        rng = np.random.default_rng(seed)
        frames = [rng.normal(size=(rng.integers(1, longest + 1), width)) for _ in range(items)]
        if distance == "kl_symmetric":
            frames = [np.exp(item) / np.exp(item).sum(axis=1, keepdims=True) for item in frames]
        if distance == "identical":
            frames = [(item[:, :1] > 0).astype(np.float32) for item in frames]
        labels = [(f"p{rng.integers(2)}", f"c{rng.integers(2)}", f"s{rng.integers(2)}") for _ in range(items)]
        return cls(frames, labels)

    def work(self, task: Task, distance: str) -> "Work":
        host, there = (cut_frames(self.features, self.items, Fraction(1), device) for device in (None, CPU))
        cells = build_cells(self.items, host.rows, task)
        plan = Plan(cells, draw_triplets(cells, 0))
        assert isinstance(there.values, torch.Tensor)
        at = np.searchsorted(host.rows, cells.items)
        return Work(
            (plan, check_distance(distance, host), there.values.numpy(), there.starts[at], there.lengths[at]),
            plan.score(check_distance(distance), host.values, host.starts[at], host.lengths[at], threads=1),
        )


@dataclass
class Work:
    """What `gpu.score` takes, and what the CPU engine found."""

    arguments: tuple[Plan, int, np.ndarray, np.ndarray, np.ndarray]
    expected: Results


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    pytest.importorskip("triton", reason="this PyTorch comes without Triton")
    with interpreter() as started:
        yield started


@pytest.fixture
def interpreted(process: ProcessPoolExecutor) -> Callable[..., Results]:
    return lambda work, **sizes: process.submit(score_interpreted, *work.arguments, {**SMALL, **sizes}).result()


def assert_close(found: Results, expected: Results, exact: bool) -> None:
    """Counts are equal; sums up to the rounding of the products, where a distance has any."""
    assert found.lost.tolist() == expected.lost.tolist()
    for field in fields(Results):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12 if exact else 1e-5, atol=1e-12 if exact else 3e-5)


@pytest.mark.parametrize(
    ("task", "distance"), [*((task, "euclidean") for task in TASKS), *((TASKS[0], name) for name in DISTANCES)]
)
def test_equals_the_cpu(interpreted: Callable[..., Results], task: Task, distance: str) -> None:
    work = Corpus.random(distance).work(task, distance)
    # Euclidean sums are in one order on both sides; zeros and ones have but one sum.
    assert_close(interpreted(work), work.expected, distance in ("euclidean", "identical"))


def steps_of_path(x: np.ndarray, y: np.ndarray) -> int:
    """Frames are equal or not; walk back, the diagonal preferred, then the left, then up."""
    cost = np.full((len(x) + 1, len(y) + 1), np.inf)
    cost[0, 0] = 0
    for i, j in np.ndindex(len(x), len(y)):
        cost[i + 1, j + 1] = (x[i, 0] != y[j, 0]) + min(cost[i, j], cost[i + 1, j], cost[i, j + 1])
    i, j, steps = len(x), len(y), 0
    while i and j:
        steps += 1
        _, _, i, j = min(
            (cost[i - 1, j - 1], 0, i - 1, j - 1), (cost[i, j - 1], 1, i, j - 1), (cost[i - 1, j], 2, i - 1, j)
        )
    return steps


def test_both_directions_of_a_pair_whose_paths_tie(interpreted: Callable[..., Results]) -> None:
    # Where left and up tie, the path's length and so the distance may differ between directions; it seldom does.
    rng = np.random.default_rng(1)
    items: list[np.ndarray] = []
    while len(items) < 8:
        pair = [rng.integers(3, size=(rng.integers(3, 9), 1)) for _ in range(2)]
        if steps_of_path(*pair) != steps_of_path(*pair[::-1]):
            items += pair
    work = Corpus(items, [("aabb"[k % 4],) for k in range(8)]).work(Task("p"), "identical")
    assert_close(interpreted(work), work.expected, exact=True)


def test_equal_items_tie_wherever_they_lie(interpreted: Callable[..., Results]) -> None:
    rng = np.random.default_rng(2)
    items = [rng.normal(size=(n, 40)) for n in (5, 3)]
    corpus = Corpus([items[k % 3 > 0] for k in range(12)], [("ab"[k % 2],) for k in range(12)])
    work, exact = (corpus.work(Task("p"), name) for name in ("angular", "identical"))
    assert interpreted(work).lost.tolist() == exact.expected.lost.tolist()


def test_a_null_vector_is_farthest_from_all_but_another(interpreted: Callable[..., Results]) -> None:
    vectors = [np.array([vector]) for vector in ((0, 0), (0, 0), (3, 4), (3, 4))]
    found = interpreted(Corpus(vectors, [(p,) for p in "aabb"]).work(Task("p"), "angular"))
    assert found.lost.tolist() == [0, 0]
    assert found.distance_mean.tolist() == pytest.approx([0.5, 0.5], abs=2e-4)


def test_memory_changes_no_bit(interpreted: Callable[..., Results], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, task = Corpus.random("angular", seed=3), Task("p", by=["c"])
    whole = interpreted(corpus.work(task, "angular"))
    monkeypatch.setattr(panels, "PANEL", 20)
    monkeypatch.setattr(panels, "BATCH", 50)
    cut = interpreted(corpus.work(task, "angular"), SCRATCH=200, PAIRS=15, SORTED=20, EDGES=1, TILE=32)
    for field in fields(Results):
        assert getattr(cut, field.name).tolist() == getattr(whole, field.name).tolist()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here: the kernels were only interpreted")
def test_equals_the_cpu_on_a_gpu(task: Task, distance: str) -> None:
    corpus = Corpus.random(distance, items=400, longest=40, width=100)
    work = corpus.work(task, distance)
    plan, metric, values, starts, lengths = work.arguments
    found, again = (gpu.score(plan, metric, torch.from_numpy(values).cuda(), starts, lengths) for _ in range(2))
    expected = work.expected
    # Roundings may part near ties.
    assert np.abs(found.lost / plan.cells.size - expected.lost / plan.cells.size).max() < 1e-3
    np.testing.assert_allclose(found.deltas, expected.deltas, atol=1e-4)
    np.testing.assert_allclose(found.distance_mean, expected.distance_mean, rtol=1e-5)
    for field in fields(Results):
        assert getattr(found, field.name).tolist() == getattr(again, field.name).tolist()


# Compiling needs no GPU. What is asked of the result is what exactness rests on.

POINTERS = {
    "units": "*fp32", "values": "*fp32", "left": "*fp32", "right": "*fp32", "out": "*fp32", "edge_cost": "*fp32",
    "distances": "*fp32", "frame_distances": "*fp32", "edge_steps": "*i32", "null": "*i8", "delta_sum": "*fp64",
    "delta_square_sum": "*fp64", "distance_mean": "*fp64",
}  # fmt: skip
NUMBERS = ("width", "out_width", "longest", "halvings", "pairs")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("unit_frames", {"BLOCK": 256}),
        ("angle_tiles", {"ROWS": gpu.TILE, "COLUMNS": gpu.TILE, "DEPTH": gpu.DEPTH}),
        ("difference_tiles", {"METRIC": 1, "ROWS": gpu.TILE, "COLUMNS": gpu.TILE}),
        ("difference_tiles", {"METRIC": 2, "ROWS": gpu.TILE, "COLUMNS": gpu.TILE}),
        ("difference_tiles", {"METRIC": 3, "ROWS": gpu.TILE, "COLUMNS": gpu.TILE}),
        ("warp_pairs", {"LANES": gpu.LANES}),
        ("count_cells", {"LANES": 32}),
    ],
)
def test_kernels_compile(
    name: str, constants: dict[str, int], capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton", reason="this PyTorch comes without Triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from w2v_abx.abx import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(triton_kernels, name)
    types = {argument: POINTERS.get(argument, "*i64") for argument in kernel.arg_names}
    types |= dict.fromkeys(NUMBERS, "i32") | dict.fromkeys(constants, "constexpr")
    if name == "warp_pairs":
        types |= {"x": "*i32", "y": "*i32"}
    if name == "difference_tiles":
        types["frames"] = "i32"
    source = ASTSource(
        kernel,
        {argument: types[argument] for argument in kernel.arg_names},
        {(kernel.arg_names.index(argument),): value for argument, value in constants.items()},
    )
    options = {"enable_fp_fusion": name != "difference_tiles"}
    try:
        built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    except RuntimeError as error:
        if "ptxas" not in str(error):
            raise
        pytest.skip(f"this Triton comes without an assembler: {error}")
    code = built.asm["ptx"]
    assert not re.search(r"\b(atom|red)\.", code)
    assert "mma" not in code  # no tensor core, and so no TF32
    assert ("fma.rn.f32" in code) == (name == "angle_tiles")  # and no other sum is fused


def test_triton_is_imported_only_to_score(process: ProcessPoolExecutor) -> None:
    assert not process.submit(imported_kernels).result()


def test_an_item_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LONGEST", 3)
    plan, metric, values, starts, lengths = Corpus.random("angular").work(Task("p"), "angular").arguments
    with pytest.raises(InputError, match="An item has 6 frames.*up to 3"):
        gpu.score(plan, metric, torch.from_numpy(values), starts, lengths)


# Frames cut for a device; any device will do.


def test_frames_for_a_device_are_those_of_the_host() -> None:
    corpus = Corpus.random("angular")
    clipped = {"f": torch.from_numpy(corpus.features["f"][:-1])}
    host = cut_frames(clipped, corpus.items, Fraction(1))
    there = cut_frames(clipped, corpus.items, Fraction(1), CPU)
    assert isinstance(there.values, torch.Tensor)
    assert (there.rows.tolist(), there.lengths.tolist()) == (host.rows.tolist(), host.lengths.tolist())
    assert there.clipped == host.clipped
    assert torch.equal(*(torch.cat([part for part, _ in frames.parts()]) for frames in (there, host)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((3, 2), torch.nan), "'g' hold a NaN or an infinite number, first in frame 0"),
        (torch.full((3, 2), 1e300, dtype=torch.float64), "'g' hold a NaN or an infinite number"),
        (torch.full((3, 2), 2**24 + 1), "2\\^24"),
        (torch.full((3, 2), -(2**24) - 1), "2\\^24"),
        (torch.zeros(3), "two dimensions"),
        (torch.zeros((3, 2), dtype=torch.complex64), "must be numbers"),
        (torch.zeros((3, 4)), "'g' have 4 dimensions"),
    ],
)
def test_features_on_a_device_that_cannot_be_scored(value: torch.Tensor, message: str) -> None:
    items = Items(pl.DataFrame({"#file": list("fgf"), "onset": [0, 0, 1], "offset": [1, 3, 3], "p": list("aba")}))
    with pytest.raises(InputError, match=message):
        cut_frames({"f": torch.zeros((3, 2)), "g": value}, items, Fraction(1), torch.device("cpu"))

"""Scores against fastabx's and against nested loops over triplets."""

import json
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nested_loops import EXACT, SMOOTH, TASKS, assert_cells_equal, corpora, item_distance, reference

from w2v_abx.abx import Items, Scorer, Scores, StoredFeatures, Task, blocks, deltas, engine, score
from w2v_abx.errors import InputError

CASES = list(product(("within", "across"), ("within", "any"), ("angular", "euclidean", "kl_symmetric")))


@pytest.mark.parametrize(("speaker", "context", "distance"), CASES)
def test_equals_fastabx(shared_data: Path, speaker: str, context: str, distance: str) -> None:
    folder = shared_data / "abx_reference"
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    expected = next(c for c in cases if (c["speaker"], c["context"], c["distance"]) == (speaker, context, distance))
    scores = score(
        StoredFeatures(folder / "features"),
        Items.read(folder / "items.item"),
        Task.preset(speaker, context),
        frequency=50,
        distance=distance,
    )
    cells = pl.read_csv(folder / f"cells_{speaker}_{context}_{distance}.csv")
    assert scores.cells.columns[: cells.width] == cells.columns
    labels = cells.columns[:-2]
    both = cells.join(scores.cells, on=labels, how="full", suffix="_ours")
    assert both.height == cells.height == scores.cells.height == expected["cells"]
    assert both["size"].equals(both["size_ours"])
    assert np.abs(both["score"] - both["score_ours"]).max() < 1e-5
    assert scores.error() == pytest.approx(expected["error"], abs=1e-6)
    assert scores.error(weighted=True) == pytest.approx(expected["weighted_error"], abs=1e-6)


def scored(features: dict[str, np.ndarray], items: Items, task: Task, distance: str) -> Scores | None:
    try:
        return score(features, items, task, frequency=1, distance=distance, threads=1)
    except InputError:
        return None


@pytest.mark.parametrize("distance", EXACT)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), task=st.sampled_from(TASKS))
def test_equals_nested_loops_to_the_last_tie(distance: str, data: st.DataObject, task: Task) -> None:
    features, items = data.draw(corpora(EXACT[distance]))
    expected = reference(features, items, task, distance)
    scores = scored(features, items, task, distance)
    if scores is None:
        assert not expected
        return
    assert_cells_equal(scores, expected)
    everything = [delta for *_, deltas, _ in expected.values() for delta in deltas]
    summary = scores.delta
    assert summary.mean == pytest.approx(np.mean(everything), abs=1e-6)
    assert summary.std == pytest.approx(np.std(everything), abs=1e-3)
    # So few triplets are all in the histogram; rounded as the engine's, for one may lie at the last edge.
    assert summary.counts == np.histogram(np.array(everything, dtype=np.float32), summary.edges)[0].tolist()


@pytest.mark.parametrize("distance", SMOOTH)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), task=st.sampled_from(TASKS))
def test_equals_nested_loops_but_for_near_ties(distance: str, data: st.DataObject, task: Task) -> None:
    features, items = data.draw(corpora(SMOOTH[distance]))
    expected = reference(features, items, task, distance, blur=2e-3 if distance == "angular" else 1e-4)
    scores = scored(features, items, task, distance)
    if scores is None:
        assert not expected
        return
    labels = scores.cells.columns[: scores.cells.columns.index("score")]
    for row in scores.cells.iter_rows(named=True):
        low, high, size, *_ = expected[tuple(row[name] for name in labels)]
        assert row["size"] == size
        assert low - 1e-9 <= row["score"] <= high + 1e-9


def random_corpus(seed: int, files: int = 8, width: int = 20) -> tuple[dict[str, np.ndarray], Items]:
    rng = np.random.default_rng(seed)
    rows, features = [], {}
    for file in range(files):
        time = 0
        for _ in range(30):
            length = int(rng.integers(1, 9))
            labels = f"p{rng.integers(4)}", f"c{rng.integers(2)}", f"s{file % 3}"
            rows.append((f"f{file}", f"{time / 50:.2f}", f"{(time + length) / 50:.2f}", *labels))
            time += length
        features[f"f{file}"] = rng.normal(size=(time, width)).astype(np.float32)
    return features, Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "p", "c", "s"], orient="row"))


@pytest.mark.parametrize("task", TASKS)
def test_threads_and_memory_change_no_bit(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    features, items = random_corpus(0)
    whole = score(features, items, task, frequency=50, threads=1)
    assert score(features, items, task, frequency=50, threads=3).cells.equals(whole.cells)
    monkeypatch.setattr(blocks, "BLOCK_DISTANCES", 1500)
    monkeypatch.setattr(blocks, "BATCH_DISTANCES", 4000)
    monkeypatch.setattr(blocks, "BATCH_ITEMS", 16)
    monkeypatch.setattr(engine, "TILE_FRAMES", 8)
    cut = score(features, items, task, frequency=50, threads=2)
    assert cut.cells.equals(whole.cells)
    assert cut.delta == whole.delta


def test_equal_items_tie_wherever_they_lie() -> None:
    rng = np.random.default_rng(0)
    item = rng.normal(size=(5, 70)).astype(np.float32)
    other = rng.normal(size=(7, 70)).astype(np.float32)
    rows, frames = [], []
    for k in range(40):
        chosen = item if k % 3 else other
        rows.append(("f", len(frames), len(frames) + len(chosen), "ab"[k % 2]))
        frames += list(chosen)
    items = Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "p"], orient="row"))
    expected = reference({"f": np.array(frames)}, items, Task("p"), "identical")
    scores = score({"f": np.array(frames)}, items, Task("p"), frequency=1)
    assert scores.cells["score"].to_list() == [expected[key][0] for key in scores.cells.select("p", "p_b").rows()]


def test_a_null_vector_is_farthest_from_all_but_another() -> None:
    vectors = np.array([[0, 0], [0, 0], [3, 4], [3, 4]], dtype=np.float32)
    items = Items(pl.DataFrame({"#file": ["f"] * 4, "onset": range(4), "offset": range(1, 5), "p": list("aabb")}))
    cells = score({"f": vectors}, items, Task("p"), frequency=1).cells
    assert cells["distance_mean"].to_list() == pytest.approx([0.5, 0.5], abs=2e-4)
    assert cells["score"].to_list() == [0, 0]


def test_half_precision_is_scored_in_float32() -> None:
    features, items = random_corpus(1)
    task = Task("p", by=["s"])
    half = {name: torch.from_numpy(value).bfloat16() for name, value in features.items()}
    single = {name: value.float().numpy() for name, value in half.items()}
    assert score(half, items, task, frequency=50).cells.equals(score(single, items, task, frequency=50).cells)
    double = {name: value.astype(np.float64) for name, value in single.items()}
    assert score(double, items, task, frequency=50).cells.equals(score(single, items, task, frequency=50).cells)


def test_scale_free_deltas_do_not_feel_the_scale() -> None:
    features, items = random_corpus(2)
    task = Task("p", across=["s"])
    plain = score(features, items, task, frequency=50, distance="euclidean").delta
    small = score({k: v / 8 for k, v in features.items()}, items, task, frequency=50, distance="euclidean").delta
    assert small.mean == pytest.approx(plain.mean / 8)
    assert small.std == pytest.approx(plain.std / 8)
    assert small.scale_free_mean == pytest.approx(plain.scale_free_mean)
    assert small.scale_free_std == pytest.approx(plain.scale_free_std)
    assert small.scale_free_counts == plain.scale_free_counts
    assert sum(plain.counts) == sum(plain.scale_free_counts) == 100_000


def test_caps_keep_that_many_and_the_same_for_a_seed() -> None:
    features, items = random_corpus(3)
    task = Task("p", across=["s"])

    def capped(seed: int) -> pl.DataFrame:
        return score(features, items, task, frequency=50, max_size_group=3, max_x_across=1, seed=seed).cells

    cells = capped(0)
    assert (cells["size"] <= 27).all()
    assert (cells.group_by("p", "p_b", "s").len()["len"] == 1).all()
    assert cells.equals(capped(0))
    assert not cells.equals(capped(1))
    full = score(features, items, task, frequency=50).cells
    assert full["size"].min() > 27
    loose = score(features, items, task, frequency=50, max_size_group=10_000, max_x_across=10_000).cells
    assert loose.equals(full)


def test_a_capped_group_is_one_set_whether_a_or_x() -> None:
    # Were A and X drawn apart, an item would be compared with itself, or sizes would not be n (n - 1) m.
    features, items = random_corpus(4)
    cells = score(features, items, Task("p", by=["s"]), frequency=50, max_size_group=4).cells
    assert cells["size"].unique().to_list() == [4 * 3 * 4]


def test_one_scorer_serves_features_of_other_lengths() -> None:
    features, items = random_corpus(5)
    task = Task("p", by=["s"])
    scorer = Scorer(items, task, frequency=50)
    whole = scorer(features)
    assert whole.clipped == 0
    # The last item of one file here is one frame long, and has none left.
    shorter = {name: value[:-1] for name, value in features.items()}
    with pytest.warns(UserWarning, match="only in the last frame"):
        clipped = scorer(shorter)
    assert clipped.clipped + clipped.skipped.height == len(features)
    with pytest.warns(UserWarning, match="Scores.skipped names them all"):
        alone = score(shorter, items, task, frequency=50)
    assert clipped.cells.equals(alone.cells)
    assert scorer(features).cells.equals(whole.cells)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frequency": 0}, "above zero"),
        ({"frequency": "fifty"}, "fifty"),
        ({"distance": "manhattan"}, "kl_symmetric"),
        ({"distance": "kl_symmetric"}, "softmax"),
        ({"max_size_group": 1}, "max_size_group=1 must be a whole number from 2"),
        ({"max_x_across": 0}, "max_x_across=0 must be a whole number from 1"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    features, items = random_corpus(6)
    with pytest.raises(InputError, match=message):
        score(features, items, Task("p", by=["s"]), **{"frequency": 50, **arguments})


def test_an_error_is_either_weighted_or_averaged_over_levels() -> None:
    features, items = random_corpus(7)
    scores = score(features, items, Task("p", by=["c"], across=["s"]), frequency=50)
    with pytest.raises(InputError, match="one of the two"):
        scores.error(levels=["c"], weighted=True)
    with pytest.raises(InputError, match="'q' cannot be a level"):
        scores.error(levels=["q"])
    assert scores.error(levels=["c", "s"]) == scores.error()
    assert scores.error(levels=["s", "c"]) == pytest.approx(scores.error(), abs=0.05)
    assert scores.triplets == scores.cells["size"].sum()


CONSTRAINTS = {
    "q_a != q_b": lambda a, b, x: a["q"] != b["q"],
    "q_a == q_x": lambda a, b, x: a["q"] == x["q"],
    "all_different(q)": lambda a, b, x: len({a["q"], b["q"], x["q"]}) == 3,
    "q_b != c_x": lambda a, b, x: b["q"] != x["c"],
}


@pytest.mark.parametrize("constraints", [["q_a != q_b"], ["all_different(q)"], ["q_a == q_x", "q_b != c_x"]])
@settings(max_examples=25, deadline=None)
@given(data=st.data(), task=st.sampled_from(TASKS))
def test_constraints_equal_nested_loops(constraints: list[str], data: st.DataObject, task: Task) -> None:
    features, items = data.draw(corpora(EXACT["euclidean"]))
    values = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(items), max_size=len(items)))
    items = Items(items.frame.with_columns(q=pl.Series(values)))
    bound = Task(task.on, task.by, task.across, constraints)

    def fulfilled(*triplet: dict) -> bool:
        return all(CONSTRAINTS[text](*triplet) for text in constraints)

    expected = reference(features, items, task, "euclidean", fulfilled=fulfilled)
    scores = scored(features, items, bound, "euclidean")
    if scores is None:
        assert not expected
        return
    assert_cells_equal(scores, expected)
    rows = items.frame.to_dicts()
    drawn = scores.deltas
    assert drawn.height == scores.triplets
    assert all(fulfilled(rows[a], rows[b], rows[x]) for a, b, x in drawn.select("a", "b", "x").rows())
    assert drawn.select("cell", "a", "b", "x").is_duplicated().sum() == 0


def test_what_one_rank_cannot_score_no_rank_waits_for() -> None:
    features, items = random_corpus(13)
    huge = {name: value * np.float32(1e25) for name, value in features.items()}
    added: list = []
    with pytest.raises(InputError, match="overflow"):
        Scorer(items, Task("p"), frequency=50, distance="euclidean")(huge, ranks=OneOf(0, 2, added))
    assert len(added) == 5  # it has taken part in every sum before it gives up


def test_more_triplets_than_memory_holds_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    features, items = random_corpus(2)
    most = score(features, items, Task("p"), frequency=50).triplets - 1
    monkeypatch.setattr(deltas, "MOST_TRIPLETS", most)
    assert score(features, items, Task("p"), frequency=50, deltas=most).deltas.height == most
    with pytest.raises(InputError, match=r"abx\.deltas=null asks for more"):
        score(features, items, Task("p"), frequency=50, deltas=None)


def test_deltas_name_their_items() -> None:
    features, items = random_corpus(8)
    task = Task("p", by=["c"], across=["s"])
    scores = score(features, items, task, frequency=50, distance="euclidean", deltas=200)
    starts, stops = items.spans(Fraction(50))
    frames = [features[name][i:j] for name, i, j in zip(items.frame["#file"], starts, stops, strict=True)]
    rows = items.frame.to_dicts()
    assert scores.deltas.height == 200
    for row in scores.deltas.head(40).iter_rows(named=True):
        a, b, x = row["a"], row["b"], row["x"]
        cell = scores.cells.row(row["cell"], named=True)
        assert (rows[a]["p"], rows[b]["p"], rows[x]["s"]) == (cell["p"], cell["p_b"], cell["s_x"])
        expected = item_distance("euclidean", frames[x], frames[b]) - item_distance("euclidean", frames[x], frames[a])
        assert row["delta"] == pytest.approx(expected, abs=1e-4)
    everything = score(features, items, task, frequency=50, distance="euclidean", deltas=None)
    assert everything.deltas.height == everything.triplets
    assert everything.deltas["delta"].sum() == pytest.approx(everything.cells["delta_sum"].sum(), rel=1e-4)


def test_errors_per_pair_and_per_speaker() -> None:
    features, items = random_corpus(9)
    scores = score(features, items, Task("p", by=["c"], across=["s"]), frequency=50)
    pairs = scores.per("p", "p_b")
    assert pairs.height == 12
    assert pairs["score"].mean() == pytest.approx(scores.error())
    speakers = scores.per("s")
    one = scores.cells.filter(pl.col("s") == "s1")
    by_hand = one.group_by("p", "p_b").agg(pl.col("score").mean())["score"].mean()
    assert speakers.filter(pl.col("s") == "s1")["score"].item() == pytest.approx(by_hand)
    assert speakers["size"].sum() == scores.triplets
    with pytest.raises(InputError, match="no errors per 'q'"):
        scores.per("q")


class OneOf:
    """A rank among others whose results it is given."""

    def __init__(self, rank: int, size: int, added: list) -> None:
        self.rank, self.size, self.added = rank, size, added

    def sum(self, values: np.ndarray) -> np.ndarray:
        self.added.append(values)
        return values


@pytest.mark.parametrize("task", [Task("p"), Task("p", by=["c", "s"]), Task("p", by=["c"], across=["s"])])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_cells(task: Task, size: int) -> None:
    features, items = random_corpus(10)
    whole = score(features, items, task, frequency=50)
    added: list[list] = [[] for _ in range(size)]
    for rank in range(size):
        Scorer(items, task, frequency=50)(features, ranks=OneOf(rank, size, added[rank]))
    assert all(np.any(results[3]) for results in added)  # nobody was idle
    summed = [sum(parts) for parts in zip(*added, strict=True)]
    assert np.array_equal(summed[0] / (2 * whole.cells["size"].to_numpy()), whole.cells["score"].to_numpy())
    assert np.array_equal(summed[1], whole.cells["delta_sum"].to_numpy())
    assert np.array_equal(summed[3], whole.cells["distance_mean"].to_numpy())
    assert np.array_equal(summed[4], whole.deltas["delta"].to_numpy())
    assert all(np.count_nonzero(parts) <= 1 for parts in np.array([results[3] for results in added]).T)


def test_per_speaker_weighs_pairs_alike_however_many_speakers_x_has() -> None:
    labels = ["ax", "ax", "bx", "bx", "cx", "cx", "ay", "ay", "az", "az", "by", "by"]
    rows = [("f", k, k + 1, *label) for k, label in enumerate(labels)]
    items = Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "p", "speaker"], orient="row"))
    features = {"f": np.random.default_rng(3).normal(size=(len(rows), 4)).astype(np.float32)}
    scores = score(features, items, Task("p", across=["speaker"]), frequency=1)
    by_hand = (
        scores.cells.group_by("speaker", "p", "p_b")
        .agg(pl.col("score").mean())
        .group_by("speaker")
        .agg(pl.col("score").mean())
        .sort("speaker")
    )
    assert scores.cells.group_by("speaker", "p", "p_b").len()["len"].n_unique() > 1
    assert scores.per("speaker")["score"].to_list() == pytest.approx(by_hand["score"].to_list())


def test_no_frames_at_all_is_one_error_pooled_or_not() -> None:
    features, items = random_corpus(11)
    few = {name: value[:1] for name, value in features.items()}
    for pooling in (None, "mean", "hamming"):
        with (
            pytest.warns(UserWarning, match="shorter than a frame"),
            pytest.raises(InputError, match="No item has a frame"),
        ):
            score(few, items, Task("p"), frequency=0.1, pooling=pooling)


def test_distances_beyond_float32() -> None:
    features, items = random_corpus(12)
    huge = {name: value * np.float32(1e25) for name, value in features.items()}
    with pytest.raises(InputError, match="euclidean distances of these features overflow"):
        score(huge, items, Task("p"), frequency=50, distance="euclidean")
    assert score(huge, items, Task("p"), frequency=50).error() == pytest.approx(
        score(features, items, Task("p"), frequency=50).error(), abs=1e-3
    )


@pytest.mark.parametrize(
    "again",
    [
        [(0, 0, 0), (1, 1, 1)],  # the same lines
        [(0, 1e-4, 1e-4), (2, -2e-4, 0)],  # rounded otherwise: the same frames
        [(n, 0, 0) for n in range(12)] * 2,  # all of them, three times
    ],
)
def test_items_listed_twice_count_once(again: list[tuple[int, float, float]]) -> None:
    """As A and X they would be at distance zero, whatever other columns say, such as an export's index."""
    own = [(0.1 * n + 0.0005, 0.1 * n + 0.0995, "ab"[n % 2]) for n in range(12)]
    rows = own + [(own[n][0] + early, own[n][1] + late, own[n][2]) for n, early, late in again]
    frame = pl.DataFrame(rows, schema=["onset", "offset", "p"], orient="row").with_columns(
        pl.lit("f").alias("#file"), pl.int_range(len(rows)).alias("index")
    )
    features = {"f": np.random.default_rng(0).standard_normal((70, 8)).astype("f4")}
    once = score(features, Items(frame[:12]), Task("p"), frequency=50)
    with pytest.warns(
        UserWarning, match=rf"{len(again)} of {len(rows)} items are left out .*{len(again)} listed twice"
    ):
        twice = score(features, Items(frame), Task("p"), frequency=50)
    assert twice.cells.equals(once.cells)
    assert twice.skipped["reason"].to_list() == ["listed twice"] * len(again)
    # Under another label the same stretch is another item: the label may be wrong, and the row is not.
    other = frame[:12].with_columns(pl.lit("c").alias("p"))
    assert not score(features, Items(pl.concat([frame[:12], other])), Task("p"), frequency=50).skipped.height

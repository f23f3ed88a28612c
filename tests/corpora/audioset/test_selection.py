"""Which segments are taken, from lists in the published layout."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from audioset_lists import BARK, DOG, HEADER, HOWL, MUSIC, NAMES, RAIN, SPEECH, VOICE, ontology, segments, video, wanted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from w2v_abx.config import CONF
from w2v_abx.corpora.audioset.ontology import Ontology, read_labels
from w2v_abx.corpora.audioset.segments import random_order, read_segments
from w2v_abx.corpora.audioset.selection import Choice, Selection, select
from w2v_abx.errors import InputError


def chosen(folder: Path, rows: Any, evaluation: Any = (), names: Any = (DOG, BARK, RAIN), **choice: Any) -> Selection:
    tree = Ontology.read(ontology(folder / "ontology.json"))
    train, held = segments(folder / "train.csv", rows), segments(folder / "eval.csv", evaluation)
    labels = None if names is None else {mid: NAMES[mid] for mid in names}
    return select(Choice(**{"exclude": (VOICE,)} | choice), tree, labels, [train], [held] if evaluation else [])


def keys(selection: Selection) -> list[str]:
    return selection.segments["key"].to_list()


def labels(selection: Selection) -> dict[str, list[str]]:
    names = list(selection.wanted.values())
    return {
        key: [names[place] for place in categories]
        for key, categories in selection.segments.select("key", "categories").iter_rows()
    }


def test_the_published_layout(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(HEADER + '-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"\r\n--4gqARaEJE, 0.000, 9.5, "/m/x"\n')
    assert read_segments(path).rows() == [
        ("-0RWZT-miFs", 420.0, 430.0, ["/m/03v3yw", "/m/0k4j"]),
        ("--4gqARaEJE", 0.0, 9.5, ["/m/x"]),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "abc, 1.0, 2.0",
        'abc, one, 2.0, "/m/x"',
        'abc, 3.0, 2.0, "/m/x"',
        'abc, 1, 2, ""',
        '../../etc, 1, 2, "/m/x"',
        "<html>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_bad_line_is_named_and_spoils_no_other(
    tmp_path: Path, line: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.csv"
    good = 'abc, 1, 2, "/m/x"\n\n'
    path.write_text(HEADER + good + line + "\n", encoding=encoding)
    assert len(read_segments(path)) == 1
    assert "1 of 2 rows cannot be read and are left out" in caplog.text
    assert "s.csv, line 6: " in caplog.text
    path.write_text(HEADER + good + f"{line}\n{line}\n", encoding=encoding)
    with pytest.raises(InputError, match=r"s.csv, line 6: .* \(2 of 3 rows"):
        read_segments(path)


def test_lists_that_are_no_lists(tmp_path: Path) -> None:
    for content, message in (
        (b"", "holds no segments"),
        (HEADER.encode(), "holds no segments"),
        (b"\xff\xfe\0", "read"),
    ):
        (tmp_path / "s.csv").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_segments(tmp_path / "s.csv")
    with pytest.raises(InputError, match="do not exist"):
        read_segments(tmp_path / "none.csv")


def test_exclusion_goes_before_wishes_and_reaches_below(tmp_path: Path) -> None:
    rows = [
        ("a", 0, 10, [DOG, SPEECH]),  # below Human voice
        ("b", 0, 10, [DOG, MUSIC]),
        ("c", 0, 10, [BARK]),
        ("d", 0, 10, [HOWL, DOG]),  # Dog's child, and Human voice's
        ("e", 0, 10, [MUSIC]),
    ]
    assert keys(chosen(tmp_path, rows)) == ["b_0", "c_0"]
    assert keys(chosen(tmp_path, rows, exclude=(VOICE, MUSIC))) == ["c_0"]
    assert keys(chosen(tmp_path, rows, exclude=())) == ["a_0", "b_0", "c_0", "d_0"]
    left = chosen(tmp_path, rows).left_out
    assert (left["excluded category"], left["no wanted category"]) == (2, 1)
    everything = chosen(tmp_path, rows, names=None)
    assert keys(everything) == ["b_0", "c_0", "e_0"]
    assert set(everything.wanted) == {DOG, BARK, RAIN, MUSIC}


def test_descendants_count_as_what_they_are_below(tmp_path: Path) -> None:
    rows = [("a", 0, 10, [HOWL]), ("b", 0, 10, [BARK, RAIN]), ("c", 0, 10, [RAIN])]
    assert labels(chosen(tmp_path, rows, exclude=())) == {"b_0": ["Bark", "Rain"], "c_0": ["Rain"]}
    assert labels(chosen(tmp_path, rows, exclude=(), descendants=True)) == {
        "a_0": ["Dog"],
        "b_0": ["Dog", "Bark", "Rain"],
        "c_0": ["Rain"],
    }


def test_no_segment_twice_and_no_video_on_both_sides(tmp_path: Path) -> None:
    rows = [("a", 0, 10, [DOG]), ("a", 0, 10, [DOG]), ("a", 30, 40, [DOG]), ("b", 0, 10, [DOG])]
    selection = chosen(tmp_path, rows, [("b", 50, 60, [DOG])], valid=1.0)
    assert selection.segments.select("key", "split").rows() == [
        ("a_0", "train"),
        ("a_30000", "train"),
        ("b_50000", "valid"),
    ]
    assert selection.left_out["more than once in the lists"] == 2


def many(count: int, seed: int = 0) -> list[tuple[str, float, float, list[str]]]:
    """Rain in every clip, and rarer sounds in few."""
    random = np.random.default_rng(seed)
    return [
        (
            video(number),
            10.0,
            20.0,
            [RAIN] + [BARK] * bool(random.random() < 0.1) + [DOG] * bool(random.random() < 0.03),
        )
        for number in range(count)
    ]


def count(selection: Selection, split: str = "train") -> Counter[str]:
    rows = selection.segments.filter(pl.col("split") == split).select("categories").iter_rows()
    names = list(selection.wanted.values())
    return Counter(names[place] for (categories,) in rows for place in categories)


def test_quota_hours_and_balance(tmp_path: Path) -> None:
    rows = many(1000)
    rare = sum(DOG in mids for *_, mids in rows)
    quota = count(chosen(tmp_path, rows, per_category=20))
    assert quota["Dog"] == 20
    assert 20 <= quota["Bark"] <= 25  # a few more come with Dog
    assert quota["Rain"] >= quota["Bark"]  # Rain is in all of them
    hour = chosen(tmp_path, rows, hours=0.5)
    assert len(hour.segments) == 180
    balanced, natural = count(hour), count(chosen(tmp_path, rows, hours=0.5, balanced=False))
    assert balanced["Dog"] == rare  # all that there are
    assert balanced["Bark"] > 3 * natural["Bark"]
    assert sum(chosen(tmp_path, rows, hours=0.001).segments["end"]) == 0  # 3.6 s hold no clip
    held = chosen(tmp_path, rows, many(300, 1)[200:], eval_hours=0.1)
    assert len(held.segments.filter(pl.col("split") != "train")) == 36


def test_the_choice_depends_on_content_and_seed_alone(tmp_path: Path) -> None:
    rows = many(400)
    first = keys(chosen(tmp_path, rows, hours=0.25))
    assert keys(chosen(tmp_path, rows[::-1], hours=0.25)) == first
    assert keys(chosen(tmp_path, rows, hours=0.25, seed=1)) != first


def by_hand(name: str, start: float, seed: int) -> int:
    """SplitMix64's finaliser in Python's whole numbers, character by character."""

    def mixed(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    state = mixed(mixed(seed) ^ round(start * 1000))
    for character in name.encode():
        state = mixed(state ^ character)
    return state


@given(
    st.lists(st.tuples(st.text("aZ9-_", min_size=1, max_size=12), st.integers(0, 40_000)), min_size=1),
    st.integers(0, 2**63),
)
def test_the_order_of_drawing_is_the_same_on_every_machine(segments: list[tuple[str, int]], seed: int) -> None:
    names, starts = [name for name, _ in segments], [start / 1000 for _, start in segments]
    order = random_order(pl.Series(names), pl.Series(starts), seed)
    assert order.tolist() == [by_hand(name, start, seed) for name, start in zip(names, starts, strict=True)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sets(st.sampled_from([DOG, BARK, RAIN, MUSIC]), min_size=1), min_size=1, max_size=30),
    st.integers(1, 8),
    st.booleans(),
)
def test_a_quota_is_met_where_it_can_be(tmp_path: Path, carried: list[set[str]], quota: int, balanced: bool) -> None:
    rows = [(video(number), 0.0, 10.0, sorted(mids)) for number, mids in enumerate(carried)]
    if not any(mids.intersection((DOG, BARK, RAIN)) for mids in carried):
        return
    selection = chosen(tmp_path, rows, per_category=quota, balanced=balanced)
    assert len(set(keys(selection))) == len(selection.segments)
    for mid in (DOG, BARK, RAIN):
        there = sum(mid in mids for mids in carried)
        assert count(selection)[NAMES[mid]] >= min(quota, there)
    assert len(selection.segments) <= 3 * quota


def test_lists_of_categories(tmp_path: Path) -> None:
    tree = Ontology.read(ontology(tmp_path / "ontology.json"))
    path = wanted(tmp_path / "wanted.csv", RAIN, DOG)
    assert read_labels(path, tree) == {RAIN: "Rain", DOG: "Dog"}
    for line, message in (
        ("/m/nothing,Nothing", "wanted.csv, line 4: '/m/nothing' .Nothing. is no category"),
        ("/m/rain,Rain", "line 4: .* stands in the list twice"),
    ):
        path.write_text(f'mid,display_name\n/m/rain,Rain\n/t/howl,"Howl, whine"\n{line}\n')
        with pytest.raises(InputError, match=message):
            read_labels(path, tree)
    path.write_text("id,name\n/m/rain,Rain\n")
    with pytest.raises(InputError, match="lacks the column 'display_name'"):
        read_labels(path, tree)


def test_categories_that_cannot_be_had(tmp_path: Path) -> None:
    rows = [("a", 0, 10, [DOG])]
    with pytest.raises(InputError, match="Speech .* is both in corpus.categories and below corpus.choice.exclude"):
        chosen(tmp_path, rows, names=(SPEECH,))
    with pytest.raises(InputError, match="did you mean /m/music"):
        chosen(tmp_path, rows, exclude=("music",))
    with pytest.raises(InputError, match=r"train.csv carries the label '/m/other', which AudioSet's ontology lacks"):
        chosen(tmp_path, [("a", 0, 10, ["/m/other"])])
    with pytest.raises(InputError, match="corpus.choice.hours=0"):
        Choice(hours=0)


def test_the_lists_we_ship(shared_data: Path) -> None:
    tree = Ontology.read(shared_data / "audioset" / "ontology.json")
    voice, music = tree.below(["/m/09l8g"]), tree.below(["/m/04rlf"])
    lists = {size: read_labels(CONF / "corpus" / "labels" / f"audioset_{size}.csv", tree) for size in (108, 182)}
    assert [len(names) for names in lists.values()] == [108, 182]
    assert set(lists[108]) < set(lists[182])
    assert not voice.intersection(lists[182])
    assert not music.intersection(lists[108])
    assert {mid: tree.names[mid] for mid in lists[182]} == lists[182]

"""Timed labels beside their audio, wherever they come from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from sounds import Fixed

from w2v_abx.alignment.annotations import Annotated
from w2v_abx.alignment.itemized import Itemized
from w2v_abx.alignment.timed import Timed
from w2v_abx.clips import Clip
from w2v_abx.corpora.librispeech import LibriSpeech
from w2v_abx.corpora.timit import Timit
from w2v_abx.items.textgrids import write_tiers

SECONDS = 1.0  # of each recording

Rows = list[list[Any]]


def noise(path: Path, format: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * 16_000))
    sf.write(path, samples, 16_000, format=format)
    return path


def grid(path: Path, rows: Rows, start: float = 0.0) -> None:
    """A TextGrid whose time begins at ``start``, where its first interval does."""
    moved = [[onset - start, offset - start, symbol] for onset, offset, symbol in rows]
    write_tiers(path, {"phones": moved}, rows[-1][1] - start)
    lines = []
    for line in path.read_text().splitlines():
        name, equals, value = line.partition(" = ")
        shifted = name.strip() in ("xmin", "xmax")
        lines.append(f"{name}{equals}{round(float(value) + start, 6)}" if shifted else line)
    path.write_text("\n".join(lines))


def item_file(path: Path, file: str, rows: Rows) -> Path:
    lines = [f"{file} {onset:g} {offset:g} {symbol} x x kim" for onset, offset, symbol in rows]
    path.write_text("\n".join(["#file onset offset #phone prev-phone next-phone speaker", *lines, ""]))
    return path


def own(folder: Path, rows: Rows) -> Timed:
    return Timed(Fixed([Clip("k/a", noise(folder / "a.wav"), labels={"phones": rows, "speaker": "kim"})]))


def beside(folder: Path, rows: Rows) -> Timed:
    grid(folder / "a.TextGrid", rows)
    return Annotated(Fixed([Clip("k/a", noise(folder / "a.wav"), labels={"speaker": "kim"})]))


def by_key(folder: Path, rows: Rows) -> Timed:
    grid(folder / "grids" / "k" / "a.TextGrid", rows)
    clip = Clip("k/a", noise(folder / "whole.wav"), 0.0, SECONDS, labels={"speaker": "kim"})
    return Annotated(Fixed([clip]), folder / "grids")


def items_by_name(folder: Path, rows: Rows) -> Timed:
    clip = Clip("k/a", noise(folder / "a.wav"), labels={"speaker": "kim"})
    return Itemized(Fixed([clip]), item_file(folder / "phone.item", "a.wav", rows))


def items_by_key(folder: Path, rows: Rows) -> Timed:
    clip = Clip("k/a", noise(folder / "other.wav"), labels={"speaker": "kim"})
    return Itemized(Fixed([clip]), item_file(folder / "phone.item", "k/a", rows))


def timit(folder: Path, rows: Rows) -> Timed:
    place = folder / "TRAIN" / "DR1" / "FCJF0" / "SI1027"
    noise(place.with_suffix(".WAV"), "NIST")
    lines = (f"{round(16_000 * onset)} {round(16_000 * offset)} {symbol}\n" for onset, offset, symbol in rows)
    place.with_suffix(".PHN").write_text("".join(lines))
    return Timed(Timit(folder))


def librispeech(folder: Path, rows: Rows) -> Timed:
    place = Path("dev-clean", "84", "121123", "84-121123-0000")
    noise((folder / place).with_suffix(".flac"))
    noise((folder / place).with_name("84-121123-0001.flac"))
    grid((folder / "grids" / place).with_suffix(".TextGrid"), rows)
    grid((folder / "grids" / place).with_name("84-121123-0001.TextGrid"), [[0, SECONDS, "a"]])
    return Timed(LibriSpeech(folder, subsets=["dev-clean"], alignments=folder / "grids"))


KINDS: list[Callable[[Path, Rows], Timed]] = [own, beside, by_key, items_by_name, items_by_key, timit, librispeech]
FIT = [[0.0, 0.2, "b"], [0.2, 0.4, "iy"], [0.4, SECONDS, "t"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [0.0, 0.019])
def test_times_that_are_those_of_the_audio_stay(
    tmp_path: Path, kind: Callable[[Path, Rows], Timed], late: float
) -> None:
    """Up to a frame, by which programs round and pad."""
    rows = [*FIT[:-1], [0.4, SECONDS + late, "t"]]
    corpus = kind(tmp_path, rows)
    assert corpus.clips()[0].labels["phones"] == rows
    assert not corpus.untimed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [SECONDS + 0.03, 2.0, 3600.0])
def test_times_past_the_end_are_left_out_under_a_reason(
    tmp_path: Path, kind: Callable[[Path, Rows], Timed], end: float
) -> None:
    fine = Clip("z", noise(tmp_path / "z.wav"), labels={"phones": FIT})
    corpus = kind(tmp_path, [*FIT[:-1], [0.4, end, "t"]])
    if isinstance(corpus.corpus, Fixed):  # else the tree has a second one that fits, or need not
        corpus.corpus.given.append(fine)
        if isinstance(corpus, Annotated):
            grid(tmp_path / ("grids/z.TextGrid" if corpus.folder else "z.TextGrid"), FIT)
        elif isinstance(corpus, Itemized):
            item_file(tmp_path / "z.item", "z", FIT)
            corpus.files.append(tmp_path / "z.item")
    first = corpus.clips()[0]
    assert "phones" not in first.labels
    assert "untimed" not in first.labels
    assert first.labels["speaker"]
    assert {key: why.reason for key, why in corpus.untimed.items()} == {first.key: "labels_outside"}
    assert f"to {end:g} s, and the audio from 0 to 1 s" in corpus.untimed[first.key].message


@pytest.mark.parametrize(("start", "reason"), [(5.0, True), (0.3, True), (-0.3, True), (0.01, False), (-0.01, False)])
def test_a_textgrid_begins_where_its_audio_does(tmp_path: Path, start: float, reason: bool) -> None:
    """One whose end is silent has no label outside, and all its times are late."""
    rows = [[start, start + 0.2, "a"], [start + 0.2, start + 0.5, "b"]]
    for name in "ab":
        noise(tmp_path / f"{name}.wav")
    grid(tmp_path / "a.TextGrid", rows, start)
    grid(tmp_path / "b.TextGrid", FIT)
    corpus = Annotated(Fixed([Clip(key, tmp_path / f"{key}.wav") for key in "ab"]))
    first = corpus.clips()[0]
    assert ("phones" not in first.labels) == reason == ("a" in corpus.untimed)
    assert reason or first.labels["phones"][0][0] == max(0.0, start)


HERTZ = [[500.0, 1500.0, 2500.0], [300.0, 2200.0, 3000.0]]  # no times


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=5),
    st.integers(-100, 200),
)
def test_labels_of_any_name_fit_or_do_not(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]], shift: int
) -> None:
    """Pauses and lengths in ms, all moved by ``shift``."""
    path = tmp_path_factory.getbasetemp() / "second.wav"
    if not path.exists():
        noise(path)
    rows, time = [], shift
    for pause, length in parts:
        rows.append([(time + pause) / 1000, (time + pause + length) / 1000, "x"])
        time += pause + length
    corpus = Timed(Fixed([Clip("a", path, labels={"gestures": rows, "labels": ["x"], "formants": HERTZ})]))
    inside = rows[0][0] >= -0.02 and rows[-1][1] <= 1.02
    assert ("gestures" in corpus.clips()[0].labels) == inside != ("a" in corpus.untimed)
    assert all(onset >= 0 for onset, *_ in corpus.clips()[0].labels.get("gestures", ()))
    assert corpus.clips()[0].labels["formants"] == HERTZ

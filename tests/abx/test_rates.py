"""A frequency that does not fit the features is told from recordings that do not, and from items that do."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx import audio
from w2v_abx.abx import Items, StoredFeatures
from w2v_abx.abx.frames import cut_frames
from w2v_abx.abx.rates import check_clock
from w2v_abx.errors import InputError
from w2v_abx.items.frames import exact_frequency


def items_of(ends: list[float]) -> Items:
    """One file for each end, with an item in its middle and one that ends there."""
    rows = [(f"f{k}", at / 3, at * (1 + last) / 2, "ab"[last]) for k, at in enumerate(ends) for last in (0, 1)]
    return Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "p"], orient="row"))


def cut(ends: list[float], frames: list[int], frequency: float) -> None:
    features = {f"f{k}": np.ones((count, 2), dtype=np.float32) for k, count in enumerate(frames)}
    cut_frames(features, items_of(ends), exact_frequency(frequency))


ENDS = [2.0, 3.1, 1.4, 5.2]


def at_rate(rate: float, silence: float = 0.05) -> list[int]:
    return [int((end + silence) * rate) for end in ENDS]


def about(message: str) -> float:
    """The frequency that a message suggests."""
    found = re.search(r"about ([\d.]+) Hz would fit", message)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(("rate", "said"), [(25, 200), (50, 200), (100, 200), (62.5, 200), (33.3, 50)])
def test_too_few_frames_everywhere_name_the_rate_they_suggest(rate: float, said: float) -> None:
    with pytest.raises(
        InputError, match=rf"row 2: .*needs frame {2 * said - 1} .*4 of 4 files end early.*not {said} Hz"
    ) as error:
        cut(ENDS, at_rate(rate), said)
    assert about(str(error.value)) == pytest.approx(rate, rel=0.05)
    assert f"there are {at_rate(rate)[0]}" in str(error.value)


@pytest.mark.parametrize("rate", [50, 100, 200])
def test_too_many_frames_everywhere_are_an_error_too(rate: float) -> None:
    with pytest.raises(InputError, match=r"row 2: .*end at frame 49 .*All 4 files are longer") as error:
        cut(ENDS, at_rate(rate), 25)
    assert about(str(error.value)) == pytest.approx(rate, rel=0.05)
    assert f"there are {at_rate(rate)[0]}" in str(error.value)


def test_one_file_cannot_tell() -> None:
    with pytest.raises(InputError, match=r"1 of 1 files end early; about 25 Hz would fit.*of another recording"):
        cut([2.0], [50], 50)


def test_files_that_agree_on_no_rate() -> None:
    with pytest.raises(InputError, match=r"4 of 4 files end early"):
        cut(ENDS, [int(end * rate) for end, rate in zip(ENDS, (20, 30, 40, 25), strict=True)], 50)
    with pytest.raises(InputError, match=r"row 4:.*1 of 4 files end early; the others do not.*of another recording"):
        cut(ENDS, [frames - 60 * (k == 1) for k, frames in enumerate(at_rate(50))], 50)


def test_items_that_cover_part_of_each_file_are_fine() -> None:
    cut([0.5, 0.7, 0.9, 0.6], [50] * 4, 50)  # one-second stimuli
    cut([0.3, 2.0], [100, 600], 50)  # two files agree by chance
    cut([0.5] * 4, [50] * 4, 50)  # of one length, in a carrier phrase
    cut([0.5, 0.5, 0.51, 0.52], [50] * 4, 50)
    cut([0.5] * 4, [50, 51, 52, 53], 50)
    cut(ENDS, [*at_rate(100)[:3], 262], 50)  # one file reaches to its end


@given(
    ends=st.lists(st.floats(0.2, 30), min_size=1, max_size=8),
    silence=st.lists(st.floats(0, 0.4), min_size=8, max_size=8),
    rate=st.sampled_from([25, 50, 100, 49.95]),
)
def test_no_false_alarm_where_some_file_is_used_to_its_end(
    ends: list[float], silence: list[float], rate: float
) -> None:
    silence[0] = 0.1
    lengths = [max(int((end + quiet) * rate), 1) for end, quiet in zip(ends, silence, strict=False)]
    cut(ends, lengths, rate)


def test_the_reference_data(shared_data: Path) -> None:
    folder = shared_data / "abx_reference"
    items, features = Items.read(folder / "items.item"), StoredFeatures(folder / "features")
    cut_frames(features, items, exact_frequency(50))
    for frequency in (25, 100):
        with pytest.raises(InputError, match=rf"items.item, line \d+: .*not {frequency} Hz") as error:
            cut_frames(features, items, exact_frequency(frequency))
        assert about(str(error.value)) == pytest.approx(50, rel=0.1)


LASTING = [2.3, 3.5, 1.9, 5.4]  # seconds of recordings, whose items end a little before


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recordings")
    for k, seconds in enumerate(LASTING):
        audio.save(folder / f"f{k}.wav", np.zeros(int(16_000 * seconds), dtype=np.float32))
    return {path.stem: path for path in folder.iterdir()}


def lengths(rate: float, seconds: list[float] = LASTING, extra: int = 0) -> dict[str, int]:
    return {f"f{k}": int(lasting * rate) + extra for k, lasting in enumerate(seconds)}


@pytest.mark.parametrize(
    ("rate", "said"), [(100, 50), (50, 100), (75, 50), (50, 62.5), (50, 49), (50, 25), (25, 50), (31.25, 50)]
)
def test_audio_tells_any_wrong_rate(rate: float, said: float, recordings: dict[str, Path]) -> None:
    many = [40.0, *LASTING[1:]]  # a long one, in which half a frame a second adds up
    audio.save(recordings["f0"].with_name("long.wav"), np.zeros(40 * 16_000, dtype=np.float32))
    files = {**recordings, "f0": recordings["f0"].with_name("long.wav")}
    with pytest.raises(InputError, match=rf"abx.frequency={said:g}: .* files do not fit") as error:
        check_clock(items_of(ENDS), lengths(rate, many), exact_frequency(said), files)
    found = re.search(r"about ([\d.]+) Hz would", str(error.value))
    assert found is not None
    assert float(found[1]) == pytest.approx(rate, rel=0.02)


def test_features_padded_to_one_length_do_not_fit_their_audio(recordings: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="the features of 'f0' have 270 frames, and its audio of 2.30 s would have"):
        check_clock(items_of(ENDS), dict.fromkeys(recordings, 270), exact_frequency(50), recordings)


@pytest.mark.parametrize(("rate", "extra"), [(50, 0), (50, -1), (50, 1), (100, 1), (25, 0), ("49.95", 0), (62.5, 2)])
def test_the_right_rate_fits_whatever_the_edges(rate: float | str, extra: int, recordings: dict[str, Path]) -> None:
    check_clock(items_of(ENDS), lengths(float(rate), extra=extra), exact_frequency(rate), recordings)
    check_clock(items_of(ENDS), lengths(float(rate), extra=extra), exact_frequency(rate), None)


def test_twice_the_frames_are_refused_without_audio_too(recordings: dict[str, Path]) -> None:
    halves = items_of([0.5, 1.9, 0.7, 5.2])  # which agree on no factor
    with pytest.raises(InputError, match=r"at least 2.08 times as long as its items reach.*abx.root=FOLDER"):
        check_clock(halves, lengths(100), exact_frequency(50), None)
    check_clock(items_of([0.5, 1.9, 1.8, 5.2]), lengths(50), exact_frequency(50), None)  # some are used to the end
    few = items_of([0.5, 0.6, 0.7, 0.8])
    check_clock(few, lengths(50), exact_frequency(50), recordings)  # the audio says that it is right
    check_clock(few, {"f0": 115, "f1": 175}, exact_frequency(50), None)  # of two files nothing is known

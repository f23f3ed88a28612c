"""Recordings and readings of their transcripts come in pairs, and what has no partner is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import Fixed

from w2v_abx import audio
from w2v_abx.clips import Clip
from w2v_abx.corpora.twins import Twins
from w2v_abx.errors import InputError


def recordings(folder: Path, **texts: str | None) -> Fixed:
    rng = np.random.default_rng(0)
    clips = []
    for key, text in texts.items():
        audio.save(folder / f"{key}.wav", (0.1 * rng.standard_normal(4_000)).astype(np.float32))
        labels = {"speaker": "ann"} | ({} if text is None else {"text": text})
        clips.append(Clip(key, folder / f"{key}.wav", split="valid" if key == "c" else "train", labels=labels))
    return Fixed(clips, "letters")


def test_espeak_reads_each_transcript_once(tmp_path: Path) -> None:
    corpus = recordings(tmp_path, a="seven dogs", b="a green door", c="seven dogs")
    clips = Twins(corpus, "pairs", tmp_path / "twins").clips()
    assert [clip.key for clip in clips] == ["a", "a_twin", "b", "b_twin", "c", "c_twin"]
    assert [clip.labels["pair"] for clip in clips] == ["a", "a", "b", "b", "c", "c"]
    assert [clip.labels.get("synthetic") for clip in clips] == [None, True] * 3
    assert [clip.split for clip in clips] == ["train"] * 4 + ["valid"] * 2
    assert clips[0].labels["speaker"] == "ann"
    assert "speaker" not in clips[1].labels
    seven, door, again = (audio.load(clip.path) for clip in clips[1::2])
    np.testing.assert_array_equal(seven, again)
    assert len(seven) != len(door)
    assert min(len(seven), len(door)) > 8_000
    times = {clip.path: clip.path.stat().st_mtime_ns for clip in clips[1::2]}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    Twins(corpus, "pairs", tmp_path / "twins").clips()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = Twins(corpus, "pairs", tmp_path / "twins", voice="en-us+f2").clips()
    assert other[1].path != clips[1].path


def test_readings_may_come_from_elsewhere(tmp_path: Path) -> None:
    corpus = recordings(tmp_path / "own", a="seven", b="eight")
    for key in ("a", "b"):
        audio.save(tmp_path / "festival" / "deep" / f"{key}.wav", np.full(3_000, 0.1, np.float32))
    clips = Twins(corpus, "pairs", tmp_path / "twins", tmp_path / "festival").clips()
    assert [clip.path.parent.name for clip in clips] == ["own", "deep", "own", "deep"]
    (tmp_path / "festival" / "deep" / "a.wav").rename(tmp_path / "festival" / "z.wav")
    for left, message in (
        ("b", "no reading of 1 recordings, such as a"),
        ("", "no recording of 1 readings, such as z"),
    ):
        if not left:
            audio.save(tmp_path / "festival" / "a.wav", np.full(3_000, 0.1, np.float32))
        with pytest.raises(InputError, match=f"corpus.folder=.*festival: {message}"):
            Twins(corpus, "pairs", tmp_path / "twins", tmp_path / "festival").clips()


def test_clips_without_a_transcript_have_no_twin(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="2 clips have no transcript and so no twin, such as b, c"):
        clips = Twins(recordings(tmp_path, a="seven", b=None, c=" "), "pairs", tmp_path / "twins").clips()
    assert [clip.key for clip in clips] == ["a", "a_twin"]
    with pytest.raises(InputError, match=r"corpus\.corpus: letters has no clip with a transcript"):
        Twins(recordings(tmp_path, a=None), "pairs", tmp_path / "twins").clips()


@pytest.mark.parametrize(("key", "value"), [("rate", 20), ("pitch", 101), ("span", -1)])
def test_settings_out_of_range(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"corpus\.{key}={value} must be a whole number"):
        Twins(recordings(tmp_path, a="seven"), "pairs", tmp_path / "twins", **{key: value})

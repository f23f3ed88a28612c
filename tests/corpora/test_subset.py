"""Some minutes of a corpus: whole clips, spread over speakers, the same for a seed."""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from sounds import Fixed, Sounds

from w2v_abx.clips import Clip
from w2v_abx.corpora.subset import CLOSE_SHARE, Subset
from w2v_abx.errors import InputError

LENGTHS = st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["ann", "bob", "cy", None])), min_size=1, max_size=40)


def clips_of(lengths: list[tuple[int, str | None]]) -> list[Clip]:
    return [
        Clip(f"{number:03d}", Path("none.wav"), end=float(length), labels={"speaker": speaker} if speaker else {})
        for number, (length, speaker) in enumerate(lengths)
    ]


@given(lengths=LENGTHS, seconds=st.integers(20, 300), seed=st.integers(0, 3))
def test_no_clip_that_is_left_out_would_still_fit(
    lengths: list[tuple[int, str | None]], seconds: int, seed: int
) -> None:
    clips = clips_of(lengths)
    taken = Subset(Fixed(clips), seconds / 60, seed).clips()
    total = sum(clip.end or 0 for clip in taken)
    left_out = [clip.end or 0 for clip in clips if clip not in taken]
    assert total <= seconds + 1e-9
    assert not left_out or seconds - total < max(CLOSE_SHARE * seconds, min(left_out))
    assert taken == sorted(taken, key=lambda clip: clip.key)


@pytest.mark.parametrize("seconds", [30, 120, 210])
def test_speakers_have_like_shares(seconds: int) -> None:
    clips = clips_of([(5, f"speaker {number % 10}") for number in range(100)])
    taken = [Subset(Fixed(clips), seconds / 60, seed).clips() for seed in (0, 0, 1)]
    counts = Counter(clip.labels["speaker"] for clip in taken[0])
    assert counts.total() == seconds / 5
    assert max(counts.values()) - min(counts.get(f"speaker {number}", 0) for number in range(10)) <= 1
    assert taken[0] == taken[1] != taken[2]
    assert {clip.key for clip in taken[0]} <= {clip.key for clip in Subset(Fixed(clips), (seconds + 60) / 60).clips()}


def test_other_splits_stay_whole_and_all_is_all(tmp_path: Path) -> None:
    sounds = Sounds(tmp_path)
    for number in range(12):
        sounds.add(str(number), seconds=1.5, split=("train", "train", "valid", "test")[number % 4])
    subset = Subset(Fixed(sounds.clips), 4 / 60)
    assert Counter(clip.split for clip in subset.clips()) == {"train": 2, "valid": 3, "test": 3}
    assert subset.report() == "corpus.minutes=0.0666667: 0.05 minutes, 2 training clips, of 6"
    subset = Subset(Fixed(sounds.clips), 10)
    assert subset.clips() == sounds.clips
    assert subset.report() == "corpus.minutes=10: 0.15 minutes, 6 training clips, all of them: there are no more"


def test_lengths_come_from_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = Sounds(tmp_path)
    for number in range(4):
        sounds.add(str(number), seconds=2.0)
    monkeypatch.setattr(sf.SoundFile, "read", None)  # whoever decodes fails
    assert len(Subset(Fixed(sounds.clips), 4.5 / 60).clips()) == 2


def test_what_cannot_be_taken_is_said(tmp_path: Path) -> None:
    sounds = Sounds(tmp_path)
    sounds.add("a", seconds=2.0)
    for minutes, split, words in (
        (0, "train", "corpus.minutes=0 must be a number of minutes above 0"),
        ("ten", "train", "corpus.minutes='ten' must be a number of minutes above 0"),
        (0.01, "train", "each training clip of fixed is longer"),
        (1, "test", "fixed has no training clips"),
    ):
        corpus = Fixed([Clip("a", sounds.clips[0].path, split=split)])
        with pytest.raises(InputError, match=words):
            Subset(corpus, minutes).clips()  # type: ignore[arg-type]


def test_what_only_some_corpora_have_is_passed_on() -> None:
    class Fetched(Fixed):
        passed_over: ClassVar = {".txt": 3}

        def report(self) -> str:
            return "3 of 4 clips fetched"

    subset = Subset(Fetched(clips_of([(30, None)])), 1)
    assert subset.passed_over == {".txt": 3}
    assert not hasattr(subset, "fetch")
    assert subset.report() == "3 of 4 clips fetched"
    subset.clips()
    assert subset.report().startswith("3 of 4 clips fetched\ncorpus.minutes=1: 0.50 minutes")

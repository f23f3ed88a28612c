"""`align=ctc`: clips get the times of what they say, once."""

import io
import os
import signal
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_ctc import save_ctc
from torch import Tensor

from w2v_abx import audio
from w2v_abx.alignment.ctc import CtcModel
from w2v_abx.alignment.forced import Aligned
from w2v_abx.clips import Clip, Failure
from w2v_abx.corpora.espeak import Espeak
from w2v_abx.errors import InputError


class Fixed:
    name = "fixed"

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = list(clips)

    def clips(self) -> list[Clip]:
        return self._clips


class Fetched(Fixed):
    def fetch(self, clips: Sequence[Clip]) -> dict[str, Failure]:
        return {"b": Failure("removed", "b is gone")}

    def plan(self, folder: Path) -> str:
        return f"a plan in {folder}"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ctc(tmp_path_factory.mktemp("letters"), "abcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def said(tmp_path: Path) -> list[Clip]:
    """Six clips of noise, one second each, that are said to say something."""
    rng = np.random.default_rng(0)
    clips = []
    for key in "abcdef":
        path = tmp_path / "sounds" / f"{key}.wav"
        audio.save(path, (0.1 * rng.standard_normal(16_000)).astype(np.float32))
        clips.append(Clip(key, path, labels={"text": f"the {key} letter", "speaker": "kim"}))
    return clips


def aligned(clips: Sequence[Clip], model: Path, folder: Path, **settings: Any) -> Aligned:
    return Aligned(Fixed(clips), model, folder, console=Console(file=io.StringIO()), **{"device": "cpu", **settings})


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each clip had that went through the model from now on."""
    seen: list[int] = []
    through = CtcModel.emissions

    def emissions(self: CtcModel, samples: np.ndarray) -> Tensor:
        seen.append(len(samples))
        return through(self, samples)

    monkeypatch.setattr(CtcModel, "emissions", emissions)
    return seen


def test_labels_are_in_order_inside_the_clip(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    corpus = aligned(said, letters, tmp_path / "alignments")
    clips = corpus.clips()
    assert [clip.key for clip in clips] == list("abcdef")
    assert not corpus.untimed
    for clip in clips:
        phones = clip.labels["phones"]
        assert "".join(symbol for *_, symbol in phones) == f"the{clip.key}letter"
        times = [time for onset, offset, _ in phones for time in (onset, offset)]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] <= 1
        assert len(clip.labels["phone_scores"]) == len(phones)
        assert all(score <= 0 for score in clip.labels["phone_scores"])
        words = clip.labels["words"]
        assert [word for *_, word in words] == ["the", clip.key, "letter"]
        assert [words[0][0], words[0][1], words[2][0]] == [phones[0][0], phones[2][1], phones[4][0]]
        assert clip.labels["speaker"] == "kim"


def test_a_stretch_is_aligned_as_a_file_of_its_own(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    whole = audio.load(said[0].path)
    audio.save(tmp_path / "cut.wav", whole[4000:12000])
    stretch = Clip("x", said[0].path, 0.25, 0.75, labels={"text": "abc"})
    alone = Clip("y", tmp_path / "cut.wav", labels={"text": "abc"})
    one, other = aligned([stretch, alone], letters, tmp_path / "alignments").clips()
    assert one.labels["phones"] == other.labels["phones"]


def test_every_clip_that_is_not_aligned_has_a_reason(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(audio.AudioError) as unusable:
        audio.load(tmp_path / "no.wav")
    clips = [
        Clip("dumb", said[0].path),
        Clip("fast", said[0].path, 0, 0.2, labels={"text": "llllllllllll"}),
        Clip("fine", said[0].path, labels={"text": "abc"}),
        Clip("gone", tmp_path / "gone.wav", labels={"text": "abc"}),
        Clip("long", said[1].path, labels={"text": "abc"}),
        Clip("odd", said[2].path, 0, 0.5, labels={"text": "a4"}),
        Clip("text", tmp_path / "no.wav", labels={"text": "abc"}),
    ]
    corpus = aligned(clips, letters, tmp_path / "alignments", max_seconds=0.9, unknown="skip")
    found = {clip.key: clip for clip in corpus.clips()}
    assert list(found) == [clip.key for clip in clips]
    assert {key: why.reason for key, why in corpus.untimed.items()} == {
        "dumb": "no_text",
        "fast": "too_short",
        "fine": "too_long",
        "gone": "missing",
        "long": "too_long",
        "odd": "unknown_symbol",
        "text": unusable.value.reason,
    }
    assert "fast has 10 frames for its 12 symbols" in corpus.untimed["fast"].message
    assert not any("phones" in clip.labels for clip in found.values())
    strict = aligned([clips[2]], letters, tmp_path / "alignments", min_score=-0.01)
    assert "phones" not in strict.clips()[0].labels
    assert strict.untimed["fine"].reason == "low_score"
    dropping = aligned(clips[5:6], letters, tmp_path / "alignments", unknown="drop")
    assert [symbol for *_, symbol in dropping.clips()[0].labels["phones"]] == ["a"]
    assert list(dropping.remarks()) == ["dropped, since the model does not know them: '4' 1 times"]
    with pytest.raises(InputError, match="odd: the model .* does not know '4'"):
        aligned(clips, letters, tmp_path / "alignments").clips()


def invented(self: CtcModel, samples: np.ndarray) -> Tensor:
    """Emissions that take no thread: those of PyTorch do not survive a fork."""
    rng = np.random.default_rng(int(1e6 * abs(samples[0])))
    logits = rng.normal(0, 3, (self.frames(len(samples)), len(self.vocabulary)))
    return torch.from_numpy((logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32))


def test_a_killed_alignment_goes_on(
    said: list[Clip], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CtcModel, "emissions", invented)
    monkeypatch.setattr("w2v_abx.alignment.store.FLUSH_SECONDS", 0.0)
    undisturbed = aligned(said, letters, tmp_path / "undisturbed").clips()

    def die() -> None:
        calls = []

        def deadly(self: CtcModel, samples: np.ndarray) -> Tensor:
            calls.append(samples)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return invented(self, samples)

        CtcModel.emissions = deadly  # type: ignore[method-assign]
        aligned(said, letters, tmp_path / "alignments").clips()

    process = get_context("fork").Process(target=die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    seen = counted(monkeypatch)
    assert aligned(said, letters, tmp_path / "alignments").clips() == undisturbed
    assert len(seen) == 3
    assert aligned(said, letters, tmp_path / "alignments").clips() == undisturbed
    assert len(seen) == 3


def test_processes_share_a_store(
    said: list[Clip], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CtcModel, "emissions", invented)
    alone = aligned(said, letters, tmp_path / "alone").clips()

    def work() -> None:
        assert aligned(said, letters, tmp_path / "alignments").clips() == alone

    processes = [get_context("fork").Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    seen = counted(monkeypatch)
    assert aligned(said, letters, tmp_path / "alignments").clips() == alone
    assert not seen


def test_only_what_changed_is_aligned_anew(
    said: list[Clip], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "alignments"
    aligned(said, letters, folder).clips()
    seen = counted(monkeypatch)
    aligned(said, letters, folder, reach=0.02, min_score=-100).clips()
    assert not seen
    audio.save(said[0].path, audio.load(said[0].path)[:12_000])
    aligned(said, letters, folder).clips()
    assert seen == [12_000]
    aligned([Clip("a", said[0].path, labels={"text": "other"})], letters, folder).clips()
    assert seen == [12_000, 12_000]
    other = save_ctc(tmp_path / "other", "abcdefghijklmnopqrstuvwxyz", delimiter=None)
    aligned(said[1:2], other, folder).clips()
    assert len(seen) == 3


def test_files_that_look_alike_are_aligned_each(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    """One name, size, time and text, as a corpus of speakers' folders may have them."""
    clips = []
    for speaker, clip in zip("xy", said, strict=False):
        path = tmp_path / speaker / "u.wav"
        path.parent.mkdir()
        path.write_bytes(clip.path.read_bytes())
        os.utime(path, ns=(10**18, 10**18))
        clips.append(Clip(f"{speaker}/u", path, labels={"text": "abc"}))
    alone = [aligned([clip], letters, tmp_path / clip.key).clips()[0] for clip in clips]
    assert alone[0].labels["phone_scores"] != alone[1].labels["phone_scores"]
    assert aligned(clips, letters, tmp_path / "alignments").clips() == alone


def test_clips_with_times_are_left_as_they_are(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    timed = Clip("a", said[0].path, labels={"text": "ab", "phones": [[0.1, 0.2, "z"]]})
    assert aligned([timed], letters, tmp_path / "alignments").clips() == [timed]
    (anew,) = aligned([timed], letters, tmp_path / "alignments", replace=True).clips()
    assert [symbol for *_, symbol in anew.labels["phones"]] == ["a", "b"]
    (placed,) = aligned([timed], letters, tmp_path / "alignments", replace=True, target="phones").clips()
    assert [symbol for *_, symbol in placed.labels["phones"]] == ["z"]


def test_what_the_corpus_can_do_stays(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    corpus = Aligned(Fetched(said), letters, tmp_path / "alignments", console=Console(file=io.StringIO()))
    assert corpus.plan(tmp_path) == f"a plan in {tmp_path}"
    assert corpus.fetch([]) == {"b": Failure("removed", "b is gone")}
    clips = {clip.key: clip for clip in corpus.clips()}
    assert "phones" not in clips["b"].labels
    assert corpus.untimed == {"b": Failure("removed", "b is gone")}
    assert not hasattr(aligned(said, letters, tmp_path / "alignments"), "fetch")


def test_progress_survives_a_pipe(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    log = io.StringIO()
    Aligned(Fixed(said), letters, tmp_path / "alignments", console=Console(file=log)).clips()
    assert "align 6/6 clips, 0.00 h, 0 not aligned" in log.getvalue()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unknown": "guess"}, "align.unknown='guess' must be one of error, skip, drop"),
        ({"reach": -1}, "align.reach=-1 must be a number of seconds at least 0"),
        ({"min_score": 1}, "align.min_score=1 must be a number at most 0"),
        ({"device": "tpu"}, "align.device='tpu'"),
        ({"target": "phones"}, "align.replace=true"),
    ],
)
def test_settings_out_of_range(letters: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        aligned([], letters, tmp_path, **settings)


def test_a_damaged_store_is_named(said: list[Clip], letters: Path, tmp_path: Path) -> None:
    (tmp_path / "fixed.sqlite").write_text("no database, but as long as the header of one would have to be" * 20)
    with pytest.raises(InputError, match=r"fixed\.sqlite cannot be used as the store of results"):
        aligned(said, letters, tmp_path).clips()


def emitted(clip: Clip, model: CtcModel, frames: int) -> Tensor:
    """What a good model would say of a clip whose phones are known: each for its frames, with some doubt."""
    rng = np.random.default_rng(len(clip.labels["phones"]))
    logits = rng.normal(0, 1, (frames, len(model.vocabulary)))
    logits[:, model.blank] += 3
    for onset, offset, symbol in clip.labels["phones"]:
        centres = (np.arange(frames) * model.stride + model.field / 2) / 16_000
        logits[(onset <= centres) & (centres < offset), model.vocabulary[symbol]] += 9
    return torch.from_numpy(logits.astype(np.float32)).log_softmax(-1)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Espeak:
    return Espeak(tmp_path_factory.mktemp("espeak"), voices=["f1", "m3"], words="free", utterances=8)


def test_known_times_are_found_again(spoken: Espeak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Phones that last a frame or more come back within a frame of 20 ms."""
    symbols = sorted({symbol for clip in spoken.clips() for *_, symbol in clip.labels["phones"]})
    folder = save_ctc(tmp_path / "model", symbols, delimiter=None)
    by_length = {len(audio.load(clip.path)): clip for clip in spoken.clips()}
    assert len(by_length) == 16
    monkeypatch.setattr(
        CtcModel,
        "emissions",
        lambda self, samples: emitted(by_length[len(samples)], self, self.frames(len(samples))),
    )
    corpus = aligned(spoken.clips(), folder, tmp_path / "alignments", target="phones", replace=True, reach=0.01)
    errors: Counter[bool] = Counter()
    for before, after in zip(spoken.clips(), corpus.clips(), strict=True):
        for known, found in zip(before.labels["phones"], after.labels["phones"], strict=True):
            assert known[2] == found[2]
            errors.update(abs(known[place] - found[place]) <= 0.02 for place in (0, 1))
    assert errors[True] > 0.97 * errors.total()

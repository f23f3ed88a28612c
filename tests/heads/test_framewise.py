"""One class per frame: targets against a slow reference, loss against torch, metrics against scikit-learn."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from answers import held_out
from hypothesis import given
from hypothesis import strategies as st
from reference.frames import holds
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from small import ARCHITECTURE
from torch.nn import functional

from w2v_abx.data.crops import labels_within
from w2v_abx.data.module import LabelledClip
from w2v_abx.errors import InputError
from w2v_abx.heads.framewise import Framewise
from w2v_abx.heads.head import States
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards.manifest import categories_of

CLOCK = FrameClock(Fraction(50))
SILENCE = ["", "sil"]
ENCODER = Encoder.random(ARCHITECTURE)


def made(clips: list[Mapping[str, Any]], label: str = "phones", held_out: Any = (), **settings: Any) -> Framewise:
    """A head on a corpus of clips of two seconds with these labels."""
    counts = {
        split: Counter(c for labels in chosen if label in labels for c in categories_of(labels[label]))
        for split, chosen in (("train", clips), (None, [*clips, *held_out]), ("valid", held_out or clips))
    }
    data: Any = SimpleNamespace(
        counts=lambda label, split="train": counts[split],
        categories=lambda label, split="train": sorted(counts[split]),
        has=lambda split: True,
        labels=lambda: [LabelledClip(f"clip{n}", "x", dict(labels), 32_000) for n, labels in enumerate(clips)],
    )
    return Framewise(ENCODER, data, "frames", label, **{"silence": SILENCE, **settings})


SPOKEN = [[0.0, 0.5, "sil"], [0.5, 1.0, "a"], [1.0, 1.5, "b"], [1.5, 1.8, "a"]]
ALL = [{"phones": SPOKEN, "sex": "female"}, {"phones": [[0.2, 0.8, "c"]], "sex": "male"}]

times = st.integers(0, 4_000).map(lambda k: k / 1_000)


@given(
    bounds=st.lists(times, min_size=2, max_size=9),
    symbols=st.lists(st.sampled_from(["a", "b", "c", "sil", "unseen"]), min_size=8, max_size=8),
    gaps=st.sets(st.integers(0, 7)),
    frames=st.integers(1, 220),
    keep=st.booleans(),
    crop=st.none() | st.tuples(st.integers(0, 32_000), st.integers(800, 32_000)),
)
def test_targets_are_those_of_the_reference(
    bounds: list[float], symbols: list[str], gaps: set[int], frames: int, keep: bool, crop: tuple[int, int] | None
) -> None:
    """Frame by frame, in exact fractions; also of a crop."""
    head = FRAMEWISE[keep]
    bounds = sorted(bounds)
    rows = [[*row] for k, row in enumerate(zip(bounds, bounds[1:], symbols, strict=False)) if k not in gaps]
    labels = {"phones": rows} if crop is None else labels_within({"phones": rows}, *crop)
    found = head.target(labels, frames, CLOCK)
    expected, runs, quiet = [], 0, False
    for frame in range(frames):
        # A crop's times are floats: read to the nanosecond.
        inside = [
            (number, symbol)
            for number, (on, off, symbol) in enumerate(labels["phones"])
            if holds(f"{on:.9f}", f"{off:.9f}", frame, CLOCK.frequency)
        ]
        runs += not inside and not quiet
        quiet = not inside
        number, symbol = inside[-1] if inside else (len(labels["phones"]) + runs, "")
        name = symbol if symbol not in SILENCE else "silence" if keep else None
        if name in head.categories:
            expected.append([frame, head.categories.index(name), number])
    if not expected:
        assert found is None
    else:
        assert found is not None
        assert found.dtype == torch.int64
        assert found.tolist() == expected


FRAMEWISE = {keep: made(ALL, keep_silence=keep) for keep in (False, True)}


def classes(head: Framewise, labels: dict[str, Any], frames: int = 100) -> dict[int, str]:
    found = head.target(labels, frames, CLOCK)
    return {} if found is None else {frame: head.categories[number] for frame, number, _ in found.tolist()}


def test_a_label_of_the_clip_holds_for_its_speech() -> None:
    head = made(ALL, "sex")
    assert head.categories == ["female", "male"]
    assert classes(head, ALL[0]) == dict.fromkeys(range(25, 90), "female")
    assert classes(head, {"sex": "male"}) == dict.fromkeys(range(100), "male")  # nothing tells where speech is
    assert classes(head, {"sex": "male", "phones": []}) == {}  # as a crop out of silence
    assert classes(made(ALL, "sex", spread="all"), ALL[0]) == dict.fromkeys(range(100), "female")
    kept = made(ALL, "sex", keep_silence=True)
    assert Counter(classes(kept, ALL[0]).values()) == {"female": 65, "silence": 35}
    segments = kept.target(ALL[0], 100, CLOCK)
    assert segments is not None
    assert [len(set(segments[part, 2].tolist())) for part in (slice(0, 25), slice(25, 90), slice(90, 100))] == [1, 1, 1]
    assert len(set(segments[:, 2].tolist())) == 3


def test_symbols_become_classes() -> None:
    head = made(ALL, classes={"[ab]": "low", "c": None, "(.)4": r"\1"}, keep_silence=True)
    assert head.categories == ["low", "silence"]
    said = [[0.0, 0.5, "a"], [0.5, 1.0, "c"], [1.0, 1.5, "sil"]]
    assert Counter(classes(head, {"phones": said}).values()) == {"low": 25, "silence": 50}  # c is left out
    tones = made([{"tones": [[0, 0.5, "a1"], [0.5, 1, "u4"]]}], "tones", classes={r"\D+(\d)": r"\1"})
    assert tones.categories == ["1", "4"]


def states_of(frames: int, clips: int) -> States:
    hidden = torch.randn(clips, frames, ARCHITECTURE["hidden_size"], generator=torch.Generator().manual_seed(0))
    return States({1: hidden}, torch.full((clips,), frames))


@pytest.mark.parametrize("weights", [None, "durations", "counts"])
def test_the_loss_is_the_cross_entropy_of_labelled_frames(weights: Any) -> None:
    head = made(ALL, class_weights=weights, label_smoothing=0.1)
    targets = [head.target(labels, 100, CLOCK) for labels in ALL]
    batch = held_out(head.name, [target for target in targets if target is not None])
    states = states_of(100, 2)
    total, expected = 0, torch.zeros(())
    members = np.zeros((2, 3))
    for target in targets:
        assert target is not None
        for segment in target[:, 2].unique():
            members[1, target[target[:, 2] == segment, 1][0]] += 1
        members[0] += np.bincount(target[:, 1], minlength=3)
    one_over = {None: np.ones(3), "durations": 1 / members[0], "counts": 1 / members[1]}[weights]
    weight = one_over * members[0].sum() / (members[0] * one_over).sum()
    assert (weight * members[0]).sum() / members[0].sum() == pytest.approx(1)
    for row, target in enumerate(targets):
        assert target is not None
        for frame, number, _ in target.tolist():
            logits = head.linear(states.layers[1][row, frame])
            loss = functional.cross_entropy(logits, torch.tensor(number), label_smoothing=0.1)
            expected, total = expected + weight[number] * loss, total + 1
    assert head.total(batch) == total == 65 + 30
    torch.testing.assert_close(head.loss_sum(states, batch)["loss"], expected, rtol=1e-5, atol=0, check_dtype=False)


def test_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    head = FRAMEWISE[False]
    head.reset()
    truth, taken, segments, speakers = [], [], [], ["ann", "bob", "bob", "cy", "ann"]
    targets = []
    for clip in range(5):
        lengths = rng.integers(1, 9, size=6)
        segment = np.repeat(np.arange(6), lengths)
        number = rng.integers(0, 3, 6)[segment]
        targets.append(torch.from_numpy(np.stack([np.arange(len(segment)), number, segment], 1)))
        truth.append(number)
        taken.append(np.where(rng.random(len(segment)) < 0.7, number, rng.integers(0, 3, len(segment))))
        segments.append(100 * clip + segment)
    for rows in (slice(0, 2), slice(2, 5)):  # as micro-batches
        head.update(torch.from_numpy(np.concatenate(taken[rows])), held_out("frames", targets[rows], speakers[rows]))
    result = head.result()
    y, said, of = np.concatenate(truth), np.concatenate(taken), np.concatenate(segments)
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(y, said))
    assert result.metrics["unweighted_accuracy"] == pytest.approx(balanced_accuracy_score(y, said))
    assert np.array_equal(result.confusion, confusion_matrix(y, said, labels=range(3)))
    majority = [np.bincount(said[of == s]).argmax() for s in np.unique(of)]
    each = [y[of == s][0] for s in np.unique(of)]
    assert result.metrics["segment_accuracy"] == pytest.approx(accuracy_score(each, majority))
    assert result.metrics["segment_unweighted_accuracy"] == pytest.approx(balanced_accuracy_score(each, majority))
    assert (result.metrics["frames"], result.metrics["segments"]) == (len(y), len(each))
    assert result.over == "3 speakers"
    for metric, (low, high) in result.intervals.items():
        assert low < result.metrics[metric] < high  # type: ignore[operator]
    assert result.plain()["rows"][0].keys() == {
        "category", "recall", "precision", "frames", "segment_recall", "segments",
    }  # fmt: skip


def test_confusions_are_ordered_by_phonetic_class() -> None:
    spoken = [[n / 4, (n + 1) / 4, phone] for n, phone in enumerate(["b", "aa", "sil", "s", "iy"])]
    head = made([{"phones": spoken}, {"phones": spoken}], keep_silence=True, alphabet="timit")
    target = head.target({"phones": spoken}, 99, CLOCK)
    assert target is not None
    head.update(torch.full((len(target),), head.numbers["s"]), held_out(head.name, [target]))
    result = head.result()
    assert result.labels == ["aa", "iy", "s", "b", "silence"]
    assert result.groups == ["vowel", "vowel", "fricative", "stop", "silence"]
    for label, row in zip(result.labels, result.confusion, strict=True):
        frames = next(row["frames"] for row in result.rows if row["category"] == label)
        assert row == [0, 0, frames, 0, 0]
    with pytest.raises(InputError, match=r"objective\.heads\.frames\.alphabet='arpa' must be one of ipa, timit"):
        made([{"phones": spoken}], alphabet="arpa")


def test_clips_without_a_labelled_frame_are_counted() -> None:
    more = [{"sex": "male"}, {"phones": [[0, 1, "sil"]]}, {"untimed": ["labels_outside", "…"]}]
    with pytest.warns(UserWarning, match="clip4") as raised:
        made([*ALL, *more])
    (message,) = [str(one.message) for one in raised if "learns nothing" in str(one.message)]
    assert message == (
        "the head 'frames' learns nothing of some training clips (labels_outside: 1, such as clip4; no labelled frame: "
        "1, such as clip3; no such label: 1, such as clip2)"
    )


def test_what_cannot_be_learnt_is_said() -> None:
    with pytest.raises(InputError, match=r"objective\.heads\.frames\.label=phones: the training clips have 1 categor"):
        made([{"phones": [[0, 1, "a"], [1, 2, "sil"]]}])
    with pytest.raises(InputError, match="no training clip has a frame to learn from"):
        made([{"phones": [[0, 0.001, "a"], [1, 1.001, "b"]]}])  # no frame's centre lies there
    with pytest.raises(InputError, match=r"has \[0.5, 0.2, 'b'\].*the clip clip0 of x"):
        made([{"phones": [[0, 1, "a"], [0.5, 0.2, "b"]]}])
    with pytest.raises(InputError, match="a clip has female, male, and a frame has one class"):
        made([{"sex": ["male", "female"]}], "sex")
    with pytest.raises(InputError, match=r"objective\.heads\.frames\.label_smoothing=1"):
        made(ALL, label_smoothing=1.0)
    with pytest.raises(InputError, match=r"objective\.heads\.frames\.classes\.values='\('"):
        made(ALL, classes={"(": "a"})


def test_what_may_be_meant_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="cannot learn d: only held-out clips carry it"):
        made([*ALL, *ALL], held_out=[{"phones": [[0, 1, "d"]]}])
    with pytest.warns(UserWarning, match="a single training clip of b, c"):
        made([*ALL, {"phones": [[0, 1, "a"]]}])

"""ABX with the directions of speakers collapsed."""

from pathlib import Path

import numpy as np
import pytest
from stores import frame_items, item_features, made_store

from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.directions.collapsing import Collapsed, Collapsing, compare_collapsed
from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore

PHONES = "abc"
SETTING = AbxSetting(speaker="across", context="any")


def corpus(speakers: int = 8) -> Speech:
    rows = [(s, p) for s in range(speakers) for p in PHONES * 4]
    return frame_items(
        file=[f"s{s}" for s, _ in rows],
        speaker=[f"s{s}" for s, _ in rows],
        sex=["fm"[s % 2] for s, _ in rows],
        **{"#phone": [p for _, p in rows]},
    )


@pytest.fixture
def speech() -> Speech:
    return corpus()


@pytest.fixture
def store(tmp_path: Path, speech: Speech) -> FeatureStore:
    """Phones in two dimensions, and speakers, who differ more, in two others."""
    random = np.random.default_rng(0)
    phones = np.eye(6)[[PHONES.index(p) for p in speech.items.frame["#phone"]]]
    far = np.zeros((8, 6))
    far[:, 3:5] = 4 * random.normal(size=(8, 2))
    speakers = far[[int(s[1:]) for s in speech.items.frame["speaker"]]]
    noise = 0.3 * random.normal(size=phones.shape)
    return made_store(tmp_path / "store", {1: item_features(speech, phones + speakers + noise, 0.1)})


def test_collapses_what_lies_in_a_subspace() -> None:
    import torch

    frames = torch.arange(12.0).reshape(4, 3)
    found = Collapsed({"a": frames}, np.eye(3)[:, 1:2])
    assert found["a"].equal(frames * torch.tensor([1.0, 0, 1]))
    assert frames.sum() == 66
    assert (list(found), len(found)) == (["a"], 1)


def test_speakers_of_the_other_half_tell_what_to_collapse(speech: Speech, store: FeatureStore) -> None:
    cells = Collapsing(speech.items, SETTING, 50.0, label="#phone")(store, 1)
    assert set(cells.filter(collapsed="nothing")["directions"]) == {0}
    assert set(cells.filter(collapsed="speakers")["directions"]) == set(cells.filter(collapsed="control")["directions"])
    pairs = set(cells.select("speaker", "speaker_x").unique().rows())
    assert len(pairs) == 2 * 4 * 3  # of speakers within a half
    better = compare_collapsed(cells, "nothing", "speakers")
    assert better.error_before > 0.15
    assert better.error_after < 0.08
    assert better.n_cells == 6 * 24
    assert better.error_after < compare_collapsed(cells, "nothing", "control").error_after


def test_fewer_than_four_speakers_are_refused() -> None:
    with pytest.raises(InputError, match="fewer than four speakers"):
        Collapsing(corpus(3).items, SETTING, 50.0)

"""Items pooled over time."""

import numpy as np
import polars as pl
import pytest
import torch

from w2v_abx.abx import Items, Task, score
from w2v_abx.abx.frames import cut_frames
from w2v_abx.abx.pooling import pool
from w2v_abx.errors import InputError

LENGTHS = [1, 2, 3, 7, 1, 12, 5, 5]


def corpus(seed: int = 0) -> tuple[dict[str, np.ndarray], Items]:
    rng = np.random.default_rng(seed)
    ends = np.cumsum(LENGTHS)
    rows = [("f", str(end - n), str(end), "ab"[k % 2]) for k, (n, end) in enumerate(zip(LENGTHS, ends, strict=True))]
    features = {"f": rng.normal(size=(int(ends[-1]), 6)).astype(np.float32)}
    return features, Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "p"], orient="row"))


def pooled(frames: np.ndarray, how: str) -> np.ndarray:
    window = np.hamming(len(frames)) if how == "hamming" else np.ones(len(frames))
    return np.average(frames, axis=0, weights=window)


@pytest.mark.parametrize("how", ["mean", "hamming"])
@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_equals_the_weighted_average_of_each_item(how: str, device: torch.device | None) -> None:
    features, items = corpus()
    frames = pool(cut_frames(features, items, 1, device), how)  # type: ignore[arg-type]
    found = torch.cat([part for part, _ in frames.parts(items=3)]).numpy()
    ends = np.cumsum(LENGTHS)
    expected = [pooled(features["f"][end - n : end], how) for n, end in zip(LENGTHS, ends, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert frames.lengths.tolist() == [1] * len(LENGTHS)


@pytest.mark.parametrize("how", ["mean", "hamming"])
def test_scores_are_those_of_pooled_features(how: str) -> None:
    features, items = corpus(1)
    ends = np.cumsum(LENGTHS)
    single = np.array([pooled(features["f"][end - n : end], how) for n, end in zip(LENGTHS, ends, strict=True)])
    one_frame = items.frame.with_columns(
        onset=pl.Series(range(len(LENGTHS))), offset=pl.Series(range(1, len(LENGTHS) + 1))
    )
    expected = score({"f": single}, Items(one_frame), Task("p"), frequency=1, distance="euclidean")
    scores = score(features, items, Task("p"), frequency=1, distance="euclidean", pooling=how)
    assert scores.cells["score"].equals(expected.cells["score"])
    assert scores.delta.mean == pytest.approx(expected.delta.mean, abs=1e-6)


def test_an_unknown_pooling() -> None:
    features, items = corpus()
    with pytest.raises(InputError, match=r"abx\.pooling='max' must be one of mean, hamming, or null"):
        score(features, items, Task("p"), frequency=1, pooling="max")

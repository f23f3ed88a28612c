from collections import defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.heads.decoding import beam_search, collapse


def log_probabilities(seed: int, frames: int, symbols: int) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, symbols))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def over_all_paths(log_probs: np.ndarray) -> list[tuple[float, list[int]]]:
    """The transcripts with their probabilities, the most probable first, by adding up every path."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        spelt = tuple(s for n, s in enumerate(path) if s and (n == 0 or path[n - 1] != s))
        found[spelt] += float(np.exp(sum(log_probs[n, s] for n, s in enumerate(path))))
    return sorted(((probability, list(spelt)) for spelt, probability in found.items()), reverse=True)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 4))
def test_the_beam_finds_what_adding_up_all_paths_does(seed: int, frames: int, symbols: int) -> None:
    given_ = log_probabilities(seed, frames, symbols)
    (first, best), (second, _), *_ = over_all_paths(given_)
    assert first - second < 1e-7 or beam_search(given_, 10_000, least=0.0) == best


def test_the_beam_sums_paths_where_greedy_takes_the_best_one() -> None:
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4]])  # the best path is blank, blank (0.36); "a" has 0.64
    log_probs = np.log(probabilities).astype(np.float32)
    assert collapse(log_probs.argmax(1).tolist()) == []
    assert beam_search(log_probs, 2) == [1]


def test_a_repeated_symbol_needs_a_blank_between() -> None:
    assert collapse([0, 3, 3, 0, 0, 3, 1, 1]) == [3, 3, 1]
    sure = np.full((3, 2), np.log(1e-6), dtype=np.float32)
    sure[[0, 1, 2], [1, 0, 1]] = 0.0
    assert beam_search(sure, 4) == [1, 1]


@pytest.mark.parametrize("width", [1, 8])
def test_long_clips_do_not_underflow(width: int) -> None:
    given_ = log_probabilities(0, 3000, 40) - 5.0
    assert len(beam_search(given_, width)) > 500


def test_no_frames_are_no_transcript() -> None:
    assert beam_search(np.zeros((0, 3), np.float32), 4) == []

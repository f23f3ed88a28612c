"""Read a transcript out of the frames of a CTC head."""

from collections import defaultdict
from itertools import groupby

import numpy as np
import numpy.typing as npt

from w2v_abx.heads.vocabulary import BLANK

__all__ = ["beam_search", "collapse"]

LEAST_PROBABILITY = 1e-4  # a less probable symbol begins no prefix: most of a frame's symbols, whose sum changes little


def collapse(path: list[int]) -> list[int]:
    """Spell a path of frames: repeated symbols are joined, and blanks left out (Graves et al., 2006)."""
    return [symbol for symbol, _ in groupby(path) if symbol != BLANK]


def beam_search(log_probabilities: npt.NDArray[np.float32], width: int, least: float = LEAST_PROBABILITY) -> list[int]:
    """Find the most probable transcript, summed over all paths that spell it, by prefix beam search.

    Hannun et al. (2014), "First-pass large vocabulary continuous speech recognition using bi-directional recurrent
    DNNs", without a language model.

    Args:
        log_probabilities: (F, C), natural logarithms.
        width: prefixes that are kept after each frame; with all of them kept and ``least`` 0 the result is exact.
        least: of a symbol's probability in a frame, for it to grow a prefix; the most probable one always may.
    """
    # The best prefix first. Of each, the probability of the paths that end in a blank, and of those that end in its
    # last symbol; both relative to the best prefix, lest they underflow.
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for frame in np.exp(log_probabilities.astype(np.float64)):
        probabilities = frame.tolist()
        floor = min(least, max(probabilities))
        probable = [(s, p) for s, p in enumerate(probabilities) if p >= floor and s != BLANK]
        ending: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_symbol) in beams.items():
            both = in_blank + in_symbol
            kept = ending[prefix]
            kept[0] += both * probabilities[BLANK]
            last = prefix[-1] if prefix else BLANK
            if prefix:
                kept[1] += in_symbol * probabilities[last]
            for symbol, probability in probable:  # the last symbol begins anew only after a blank
                ending[(*prefix, symbol)][1] += (in_blank if symbol == last else both) * probability
        best = sorted(ending.items(), key=lambda item: (-sum(item[1]), item[0]))[:width]
        scale = sum(best[0][1]) or 1.0
        beams = {prefix: (in_blank / scale, in_symbol / scale) for prefix, (in_blank, in_symbol) in best}
    return list(next(iter(beams)))

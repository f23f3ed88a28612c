"""The categories, and one sound of any of them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.corpora.soundscape import animals, environment, objects
from w2v_abx.corpora.soundscape.dsp import Signal, envelope
from w2v_abx.errors import InputError

__all__ = ["CATEGORIES", "MINIMUM_SECONDS", "synthesise"]

SYNTHESISERS: dict[str, Callable[[int, np.random.Generator], Signal]] = {
    name: getattr(module, name)
    for name, module in sorted((name, module) for module in (animals, environment, objects) for name in module.__all__)
}

CATEGORIES = tuple(SYNTHESISERS)
MINIMUM_SECONDS = 0.25


def synthesise(category: str, duration: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A sound of the category, ``round(duration · 16,000)`` samples with peak 1, another one for each state of rng.

    It begins within 0.1 s and is faded at its edges, so that it can be cut into a mixture anywhere.

    Raises InputError for a category that is not one of CATEGORIES, or a duration below MINIMUM_SECONDS.
    """
    if category not in SYNTHESISERS:
        raise InputError(f"there is no sound category {category!r}: choose from {', '.join(CATEGORIES)}.")
    if not duration >= MINIMUM_SECONDS:
        raise InputError(f"a sound of {duration} s is too short to be recognised: give {MINIMUM_SECONDS} s or more.")
    n = round(duration * SAMPLE_RATE)
    sound = SYNTHESISERS[category](n, rng)
    sound = sound - sound.mean()
    sound *= envelope(n, 0.004, 0.03)
    return (sound / np.abs(sound).max()).astype(np.float32)

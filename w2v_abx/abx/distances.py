"""The distances between frames, by name."""

from w2v_abx.abx.dtw import ANGULAR, EUCLIDEAN, IDENTICAL, KL_SYMMETRIC
from w2v_abx.abx.frames import Frames
from w2v_abx.errors import InputError
from w2v_abx.system.checks import choice

__all__ = ["ALIASES", "DISTANCES", "check_distance"]

DISTANCES = {"angular": ANGULAR, "euclidean": EUCLIDEAN, "kl_symmetric": KL_SYMMETRIC, "identical": IDENTICAL}
ALIASES = {"cosine": "angular"}  # the name that ABXpy and the ZeroSpeech challenges give it
SUM_TOLERANCE = 1e-2


def check_distance(distance: str, frames: Frames | None = None) -> int:
    """The number of a distance by its name; raises InputError unless it exists and is defined on ``frames``."""
    distance = ALIASES.get(distance, distance)
    choice("abx.distance", distance, DISTANCES, hint="cosine is angular")
    if distance == "kl_symmetric" and frames is not None:
        for values, _ in frames.parts():
            if float(values.min()) < 0 or float((values.sum(dim=1) - 1).abs().max()) > SUM_TOLERANCE:
                raise InputError(
                    "The distance kl_symmetric needs frames that are probabilities (none below zero, summing to one), "
                    "and these features are not: take the softmax of them first, or use another distance."
                )
    return DISTANCES[distance]

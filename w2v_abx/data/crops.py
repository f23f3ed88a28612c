"""A stretch of a clip, and the labels that lie in it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from w2v_abx.audio import SAMPLE_RATE

__all__ = ["crop_start", "labels_within", "seeded"]


def crop_start(spare: int, *identity: object) -> int:
    """A start from 0 to ``spare`` that is a function of ``identity`` alone."""
    return int(seeded(*identity).integers(spare + 1))


def seeded(*identity: object) -> np.random.Generator:
    """Make a generator whose draws are a function of ``identity`` alone."""
    text = "/".join(map(str, identity))
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def labels_within(labels: Mapping[str, Any], start: int, length: int) -> dict[str, Any]:
    """Labels of a crop (in samples at 16 kHz): ``[onset s, offset s, symbol, …]`` lists are cut and moved."""
    begin, end = start / SAMPLE_RATE, (start + length) / SAMPLE_RATE

    def cut(value: Any) -> Any:
        timed = isinstance(value, list) and value and all(isinstance(part, list) and len(part) >= 3 for part in value)
        if not timed:
            return value
        inside = [(max(on, begin) - begin, min(off, end) - begin, rest) for on, off, *rest in value]
        return [[on, off, *rest] for on, off, rest in inside if on < off]

    return {field: cut(value) for field, value in labels.items()}

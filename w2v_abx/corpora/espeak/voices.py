"""eSpeak's voice variants as speakers: their sex, and which are for evaluation."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from w2v_abx.system.checks import choice, fail, several, whole

__all__ = ["FILE", "select", "sex_of"]

FILE = Path(__file__).with_name("voices.json")  # made by tools/espeak_voices.py


@cache
def _folds() -> dict[str, dict[str, str]]:
    """The sex ("female", "male" or "unknown") of each voice, by fold.

    "siblings" are near copies of voices for evaluation, which neither of the others has.
    """
    return json.loads(FILE.read_text(encoding="utf-8"))


def sex_of(voice: str) -> str:
    """The sex of a voice, "unknown" where its file does not say."""
    return {name: sex for fold in _folds().values() for name, sex in fold.items()}[voice]


def select(voices: str | list[str], speakers: int | None, seed: int) -> list[str]:
    """The voices named, or ``speakers`` of the fold "train" or "evaluation" (``None``: all of it), drawn by ``seed``.

    The folds do not depend on the seed: no voice of one is in the other, nor is a numbered sibling of it.
    Raises InputError naming the choices.
    """
    if not isinstance(voices, str):
        several("corpus.voices", voices, sorted(name for fold in _folds().values() for name in fold))
        if speakers not in (None, len(voices)):
            raise fail("corpus.speakers", speakers, "null where corpus.voices lists the variants")
        return voices
    choice("corpus.voices", voices, ("evaluation", "train"), hint="or give a list of variants")
    fold = list(_folds()[voices])
    whole("corpus.speakers", speakers, 1, len(fold), optional=f"for all of {voices}")
    if voices == "evaluation" or speakers is None:  # alternating in sex
        return fold[:speakers]
    return [fold[index] for index in sorted(np.random.default_rng(seed).permutation(len(fold))[:speakers])]

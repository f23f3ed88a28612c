"""From eSpeak's phoneme events to the times of phones."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from w2v_abx.corpora.espeak.library import SAMPLE_RATE, Event, Speech

__all__ = ["Phone", "phone_times"]

_STRESS = "',%="
_WINDOW = SAMPLE_RATE // 500  # 2 ms
_SILENT = 0.1  # of the loudest window of the phone before: −20 dB


class Phone(NamedTuple):
    """Times in seconds; ``word`` is the same number for the phones of one word."""

    onset: float
    offset: float
    symbol: str
    word: int


def phone_times(speech: Speech, vowels: Collection[str]) -> list[Phone]:
    """The phones of an utterance in order, stress marks and pauses left off; ``vowels`` are the language's.

    eSpeak reports a consonant when its sound begins, so that the silence of a closure falls to the phone before. Here a
    closure belongs to its consonant, as in TIMIT or a forced alignment.
    """
    phones: list[Event] = []
    for event in speech.events:
        if event.symbol.startswith("_") or event.end <= event.start:
            continue
        start, symbol = event.start, event.symbol.lstrip(_STRESS)
        if phones and phones[-1].end == start and symbol not in vowels:
            start -= _silence(speech.samples[phones[-1].start : start])
            phones[-1] = phones[-1]._replace(end=start)
        phones.append(event._replace(start=start, symbol=symbol))
    return [Phone(phone.start / SAMPLE_RATE, phone.end / SAMPLE_RATE, phone.symbol, phone.word) for phone in phones]


def _silence(samples: np.ndarray) -> int:
    """Length of the near-silence at the end of a phone, in samples, never more than half of it."""
    count = len(samples) // _WINDOW
    windows = samples[len(samples) - count * _WINDOW :].astype(np.float64).reshape(count, _WINDOW)
    loudness = np.sqrt(np.mean(np.square(windows), axis=1))
    loud = np.flatnonzero(loudness > _SILENT * loudness.max(initial=0.0))
    quiet = (count - 1 - int(loud[-1])) * _WINDOW if len(loud) else 0
    return min(quiet, len(samples) // 2)

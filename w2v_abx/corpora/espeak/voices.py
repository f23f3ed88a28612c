"""eSpeak's voice variants as speakers: which are usable, their sex, and which are kept for evaluation."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from w2v_abx.corpora.espeak.library import SAMPLE_RATE, Synthesiser, data_folder
from w2v_abx.system.checks import choice, fail, several, whole

__all__ = ["EVALUATION_SIZE", "Voice", "select", "usable"]

EVALUATION_SIZE = 12

# Shared by every language's phoneme table: three vowels, a fricative, a stop, a nasal.
_PHONES = ("m", "a", "s", "i", "n", "a", "k", "u")
_STOP = 6
_PROBE = "m|'a|s|i n|'a|k|u"
_VOICED = 0.75  # peak of the normalised autocorrelation; whispers stay under it
_CLOSURE = -22.0  # dB, the closure of a [k] under the vowel before it; a strong echo fills it
_FIRST_SEED = 7


@dataclass(frozen=True)
class Voice:
    """A variant file. ``sex`` is "female", "male", or "unknown" where the file does not say."""

    name: str
    sex: str
    klatt: bool

    @property
    def family(self) -> str:
        """Numbered siblings (steph, steph2) are near copies; f1 … f5 and m1 … m8 are not."""
        stem = self.name.rstrip("0123456789")
        return self.name if len(stem) == 1 else stem.removesuffix("Robot").removeprefix("Anxious")


@cache
def variants() -> tuple[Voice, ...]:
    """Every variant file there is."""
    voices = []
    for path in sorted((data_folder() / "voices" / "!v").iterdir()):
        lines = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
        keys = {words[0]: words[1:] for words in lines if words}
        stated = " ".join(keys.get("gender", [])[:1]).lower()
        voices.append(Voice(path.name, stated if stated in ("female", "male") else "unknown", "klatt" in keys))
    return tuple(voices)


@cache
def usable() -> tuple[Voice, ...]:
    """The variants that speak with a voice and without an echo that would blur the phones' times.

    Variants of the Klatt synthesiser are left out: it reads memory that it never set, so that the same text can sound
    different from one process to the next.
    """
    synthesiser = Synthesiser()
    return tuple(voice for voice in variants() if not voice.klatt and _speaks(voice, synthesiser))


def select(voices: str | list[str], speakers: int | None, seed: int) -> list[Voice]:
    """The voices named, or ``speakers`` of the fold "train" or "evaluation" (``None``: all of it), drawn by ``seed``.

    The folds do not depend on the seed: no voice of one is in the other, nor is a numbered sibling of it.
    Raises InputError naming the choices.
    """
    if not isinstance(voices, str):
        known = {voice.name: voice for voice in usable()}
        several("corpus.voices", voices, known)
        if speakers not in (None, len(voices)):
            raise fail("corpus.speakers", speakers, "null where corpus.voices lists the variants")
        return [known[name] for name in voices]
    fold = _folds()[choice("corpus.voices", voices, _folds(), hint="or give a list of variants")]
    whole("corpus.speakers", speakers, 1, len(fold), optional=f"for all of {voices}")
    if speakers is None:
        return list(fold)
    if voices == "evaluation":  # alternating in sex
        return list(fold[:speakers])
    chosen = np.random.default_rng(seed).permutation(len(fold))[:speakers]
    return [fold[index] for index in sorted(chosen)]


@cache
def _folds() -> dict[str, tuple[Voice, ...]]:
    """Evaluation: six families of each sex, one voice each. Train: the voices of every other family."""
    order = np.random.default_rng(_FIRST_SEED).permutation(len(usable()))
    sexes: dict[str, dict[str, Voice]] = {"female": {}, "male": {}}
    for voice in (usable()[index] for index in order):
        if voice.sex in sexes:
            sexes[voice.sex].setdefault(voice.family, voice)
    half = EVALUATION_SIZE // 2
    pairs = zip(list(sexes["female"].values())[:half], list(sexes["male"].values())[:half], strict=True)
    evaluation = tuple(voice for pair in pairs for voice in pair)
    kept = {voice.family for voice in evaluation}
    return {"evaluation": evaluation, "train": tuple(voice for voice in usable() if voice.family not in kept)}


def _speaks(voice: Voice, synthesiser: Synthesiser) -> bool:
    speech = synthesiser.speak(f"en-us+{voice.name}", _PROBE)
    if [event.symbol.lstrip("'") for event in speech.events[: len(_PHONES)]] != list(_PHONES):
        return False
    samples = speech.samples.astype(np.float64)
    vowels = [samples[event.start : event.end] for event in speech.events if event.symbol.lstrip("'") in "aiu"]
    if not all(vowel.any() for vowel in vowels) or max(map(_periodicity, vowels)) < _VOICED:
        return False
    start, before = speech.events[_STOP].start, vowels[_STOP // 2 - 1]
    closure = _power(samples[start - SAMPLE_RATE // 100 : start])
    return 10 * np.log10((closure + 1e-9) / _power(before)) < _CLOSURE


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples)))


def _periodicity(samples: np.ndarray) -> float:
    """Highest normalised autocorrelation at the lags of 60 to 450 Hz, over 40 ms in the phone's middle."""
    middle, half = len(samples) // 2, SAMPLE_RATE // 50
    frame = samples[max(0, middle - half) : middle + half]
    products = np.correlate(frame, frame, "full")[len(frame) - 1 :]
    energy = np.concatenate([[0.0], np.cumsum(np.square(frame))])
    lags = np.arange(SAMPLE_RATE // 450, min(SAMPLE_RATE // 60, len(frame) * 2 // 3))
    norms = np.sqrt(energy[len(frame) - lags] * (energy[-1] - energy[lags]))
    return float(np.max(products[lags] / (norms + 1e-9)))

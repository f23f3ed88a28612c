"""Write `w2v_abx/corpora/espeak/voices.json`: which of the installed eSpeak's voice variants are usable as speakers.

    python tools/espeak_voices.py

Run it when the version of espeakng-loader changes. Every variant speaks a probe. Those that whisper, or echo so that
the times of phones blur, are left out, and so are those of the Klatt synthesiser: it reads memory that it never set, so
that the same text can sound different from one process to the next.
"""

import json

import numpy as np

from w2v_abx.corpora.espeak.library import SAMPLE_RATE, Synthesiser, data_folder
from w2v_abx.corpora.espeak.voices import FILE

__all__ = ["family", "folds"]

_EVALUATION_SIZE = 12
# Shared by every language's phoneme table: three vowels, a fricative, a stop, a nasal.
_PHONES = ("m", "a", "s", "i", "n", "a", "k", "u")
_STOP = 6
_PROBE = "m|'a|s|i n|'a|k|u"
_VOICED = 0.75  # peak of the normalised autocorrelation; whispers stay under it
_CLOSURE = -22.0  # dB, the closure of a [k] under the vowel before it; a strong echo fills it
_FIRST_SEED = 7


def family(name: str) -> str:
    """What near copies share: numbered siblings (steph, steph2) are some; f1 … f5 and m1 … m8 are not."""
    stem = name.rstrip("0123456789")
    return name if len(stem) == 1 else stem.removesuffix("Robot").removeprefix("Anxious")


def folds() -> dict[str, dict[str, str]]:
    """The sex of each usable voice, by fold: "evaluation" has six families of each sex, one voice of each.

    "siblings" are those families' other voices, and "train" the voices of every other family.
    """
    voices = _usable()
    names = list(voices)
    families: dict[str, dict[str, str]] = {"female": {}, "male": {}}
    for name in (names[index] for index in np.random.default_rng(_FIRST_SEED).permutation(len(names))):
        if voices[name] in families:
            families[voices[name]].setdefault(family(name), name)
    half = _EVALUATION_SIZE // 2
    pairs = zip(list(families["female"].values())[:half], list(families["male"].values())[:half], strict=True)
    evaluation = {name: voices[name] for pair in pairs for name in pair}
    held = set(map(family, evaluation))
    others = {name: sex for name, sex in voices.items() if name not in evaluation}
    return {
        "evaluation": evaluation,
        "siblings": {name: sex for name, sex in others.items() if family(name) in held},
        "train": {name: sex for name, sex in others.items() if family(name) not in held},
    }


def _usable() -> dict[str, str]:
    """The sex of each variant that speaks with a voice and without a strong echo."""
    synthesiser, voices = Synthesiser(), {}
    for path in sorted((data_folder() / "voices" / "!v").iterdir()):
        lines = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
        keys = {words[0]: words[1:] for words in lines if words}
        if "klatt" not in keys and _speaks(path.name, synthesiser):
            stated = " ".join(keys.get("gender", [])[:1]).lower()
            voices[path.name] = stated if stated in ("female", "male") else "unknown"
    return voices


def _speaks(voice: str, synthesiser: Synthesiser) -> bool:
    speech = synthesiser.speak(f"en-us+{voice}", _PROBE)
    if [event.symbol.lstrip("'") for event in speech.events[: len(_PHONES)]] != list(_PHONES):
        return False
    samples = speech.samples.astype(np.float64)
    vowels = [samples[event.onset : event.offset] for event in speech.events if event.symbol.lstrip("'") in "aiu"]
    if not all(vowel.any() for vowel in vowels) or max(map(_periodicity, vowels)) < _VOICED:
        return False
    start, before = speech.events[_STOP].onset, vowels[_STOP // 2 - 1]
    closure = _power(samples[start - SAMPLE_RATE // 100 : start])
    return bool(10 * np.log10((closure + 1e-9) / _power(before)) < _CLOSURE)


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


def main() -> None:
    """Write the file."""
    FILE.write_text(json.dumps(folds(), indent=1) + "\n", encoding="utf-8")
    print(f"{FILE}: {', '.join(f'{len(voices)} {fold}' for fold, voices in folds().items())}")


if __name__ == "__main__":
    main()

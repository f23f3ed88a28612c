"""SAVEE: four men speak 120 sentences with seven emotions."""

import re
from collections.abc import Iterator
from pathlib import Path

from w2v_abx.audio.walking import walk
from w2v_abx.corpora.emotion.inventory import Recording, Source
from w2v_abx.errors import InputError

__all__ = ["SAVEE"]

NAME = re.compile(r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<emotion>sa|su|[adfhn])(?P<sentence>\d\d)")
SPEAKERS = ("DC", "JE", "JK", "KL")
EMOTIONS = {
    "a": "angry",
    "d": "disgust",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}


def read(folder: Path) -> Iterator[Recording]:
    """``AudioData/DC/a01.wav`` as published, or ``DC_a01.wav`` in any folder."""
    for path in walk(folder):
        if path.suffix.lower() != ".wav":
            continue
        match = NAME.fullmatch(path.stem)
        speaker = match and (match["speaker"] or path.parent.name)
        if not match or speaker not in SPEAKERS:
            raise InputError(f"{path} is not named as SAVEE is (DC/a01.wav or DC_a01.wav): move it away")
        name = f"{speaker}_{match['emotion']}{match['sentence']}"
        yield Recording(path, name, speaker, "male", EMOTIONS[match["emotion"]])


# Haq & Jackson (2009)
SAVEE = Source(
    "savee",
    "SAVEE",
    "free for research",
    "kahlan.eps.surrey.ac.uk/savee after registration (AudioData/SPEAKER/*.wav, or SPEAKER_*.wav)",
    read,
)

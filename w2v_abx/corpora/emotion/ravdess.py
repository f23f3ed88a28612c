"""RAVDESS: 24 actors speak two sentences with eight emotions."""

import re
from collections.abc import Iterator
from pathlib import Path

from w2v_abx.audio.walking import walk
from w2v_abx.corpora.emotion.inventory import EMOTIONS, Recording, Source
from w2v_abx.corpora.published import Archive, fetch
from w2v_abx.errors import InputError

__all__ = ["RAVDESS"]

# The checksum is Zenodo's.
ARCHIVE = Archive(
    "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip", md5="bc696df654c87fed845eb13823edef8a"
)
# Modality, channel (01 speech, 02 song), emotion, intensity, statement, repetition, actor.
NAME = re.compile(
    r"0[123]-0(?P<channel>[12])-0(?P<emotion>[1-8])-0(?P<intensity>[12])-0(?P<statement>[12])-0[12]-(?P<actor>\d\d)"
)
INTENSITIES = {"1": "normal", "2": "strong"}
STATEMENTS = {"1": "kids are talking by the door", "2": "dogs are sitting by the door"}


def read(folder: Path) -> Iterator[Recording]:
    """``Actor_NN/03-01-EE-II-SS-RR-NN.wav`` anywhere below ``folder``; songs (channel 02) are left out."""
    for path in walk(folder):
        if path.suffix.lower() != ".wav":
            continue
        match = NAME.fullmatch(path.stem)
        if not match:
            raise InputError(f"{path} is not named as RAVDESS is (03-01-06-01-02-01-12.wav): move it away")
        if match["channel"] == "2":
            continue
        yield Recording(
            path,
            path.stem,
            match["actor"],
            "male" if int(match["actor"]) % 2 else "female",
            EMOTIONS[int(match["emotion"]) - 1],
            {"text": STATEMENTS[match["statement"]], "intensity": INTENSITIES[match["intensity"]]},
        )


# Livingstone & Russo (2018), doi:10.1371/journal.pone.0196391
RAVDESS = Source(
    "ravdess",
    "RAVDESS",
    "CC BY-NC-SA 4.0",
    "Audio_Speech_Actors_01-24.zip of zenodo.org/records/1188976 (Actor_NN/*.wav)",
    read,
    lambda folder: fetch([ARCHIVE], folder),
)

"""CREMA-D: 91 actors speak twelve sentences with six emotions."""

import re
from collections.abc import Iterator
from pathlib import Path

from w2v_abx.audio.walking import walk
from w2v_abx.corpora.emotion.inventory import Recording, Source
from w2v_abx.corpora.published import Archive, fetch_files
from w2v_abx.corpora.tables import read_rows
from w2v_abx.errors import InputError
from w2v_abx.system.downloads import download

__all__ = ["CREMA_D"]

TEXT = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master"
AUDIO = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/AudioWAV"  # Git LFS
# The table names these, but the first is published with one X and the others are not.
ABSENT = {"1040_ITH_SAD_XX", "1006_TIE_NEU_XX", "1013_WSI_DIS_XX", "1017_IWW_FEA_XX"}
MISNAMED = "1040_ITH_SAD_X"
NAME = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<intensity>LO|MD|HI|XX?)")
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high"}
SENTENCES = {
    "DFA": "don't forget a jacket",
    "IEO": "it's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "maybe tomorrow it will be cold",
    "TAI": "the airplane is almost full",
    "TIE": "that is exactly what happened",
    "TSI": "the surface is slick",
    "WSI": "we'll stop in a couple of minutes",
}


def read(folder: Path) -> Iterator[Recording]:
    """``AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav`` and ``VideoDemographics.csv``, which gives sex and age."""
    actors = {row["ActorID"]: row for _, row in read_rows(folder / "VideoDemographics.csv", ["ActorID", "Age", "Sex"])}
    for path in walk(folder / "AudioWAV"):
        if path.suffix.lower() != ".wav":
            continue
        match = NAME.fullmatch(path.stem)
        if not match or match["emotion"] not in EMOTIONS or match["sentence"] not in SENTENCES:
            raise InputError(f"{path} is not named as CREMA-D is (1001_DFA_ANG_XX.wav): move it away")
        actor = actors.get(match["actor"])
        if actor is None or actor["Sex"] not in ("Female", "Male"):
            raise InputError(
                f"{folder / 'VideoDemographics.csv'} does not give the sex of {match['actor']} in {path.name}"
            )
        labels = {"text": SENTENCES[match["sentence"]], "age": actor["Age"]}
        if intensity := INTENSITIES.get(match["intensity"]):
            labels["intensity"] = intensity
        if path.is_file() and path.stat().st_size < 200 and path.read_bytes().startswith(b"version https://git-lfs"):
            raise InputError(f"{path} only points to its audio: run `git lfs pull` in {folder}")
        yield Recording(path, path.stem, match["actor"], actor["Sex"].lower(), EMOTIONS[match["emotion"]], labels)


def fetch(folder: Path) -> None:
    """Each recording that the summary table names, as tensorflow_datasets fetches them: no archive holds the audio."""
    table = download(f"{TEXT}/processedResults/summaryTable.csv", folder / "processedResults" / "summaryTable.csv")
    download(f"{TEXT}/VideoDemographics.csv", folder / "VideoDemographics.csv")
    names = {row["FileName"] for _, row in read_rows(table, ["FileName"]) if row["FileName"]} - ABSENT | {MISNAMED}
    fetch_files({f"{name}.wav": Archive(f"{AUDIO}/{name}.wav") for name in names}, folder / "AudioWAV")


# Cao et al. (2014), doi:10.1109/TAFFC.2014.2336244
CREMA_D = Source(
    "crema_d",
    "CREMA-D",
    "ODbL 1.0",
    "what `git lfs clone https://github.com/CheyneyComputerScience/CREMA-D` gives (AudioWAV/*.wav and "
    "VideoDemographics.csv)",
    read,
    fetch,
)

"""TESS: two actresses say 200 words each with seven emotions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from w2v_abx.audio.walking import walk
from w2v_abx.corpora.emotion.inventory import Recording, Source
from w2v_abx.corpora.published import Archive, fetch_files
from w2v_abx.errors import InputError
from w2v_abx.system.downloads import download

__all__ = ["TESS"]

API, DOI = "https://borealisdata.ca/api", "doi:10.5683/SP2/E8H2MF"
# OA_bite_neutral.wav is published so.
NAME = re.compile(r"(?P<speaker>OAF?|YAF)_(?P<word>[a-z]+)_(?P<emotion>[a-z]+)", re.IGNORECASE)
EMOTIONS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprised",
    "sad": "sad",
}
AGES = {"OAF": "64", "YAF": "26"}


def read(folder: Path) -> Iterator[Recording]:
    """``OAF_back_angry.wav``, in folders or not: the older (64) and the younger (26) actress, word, emotion."""
    for path in walk(folder):
        if path.suffix.lower() != ".wav":
            continue
        match = NAME.fullmatch(path.stem)
        if not match or match["emotion"].lower() not in EMOTIONS:
            raise InputError(f"{path} is not named as TESS is (OAF_back_angry.wav): move it away")
        speaker = "YAF" if match["speaker"].upper() == "YAF" else "OAF"
        emotion = match["emotion"].lower()
        yield Recording(
            path,
            f"{speaker}_{match['word']}_{emotion}",
            speaker,
            "female",
            EMOTIONS[emotion],
            {"text": f"say the word {match['word']}", "age": AGES[speaker]},
        )


def fetch(folder: Path) -> None:
    """Every recording that the Dataverse API lists (guides.dataverse.org, "Native API" and "Data Access API")."""
    listing = download(f"{API}/datasets/:persistentId/?persistentId={DOI}", folder / "files.json")
    try:
        files = [
            entry["dataFile"] for entry in json.loads(listing.read_text("utf-8"))["data"]["latestVersion"]["files"]
        ]
        archives = {
            str(file["filename"]): Archive(f"{API}/access/datafile/{int(file['id'])}", md5=file.get("md5"))
            for file in files
            if NAME.fullmatch(Path(file["filename"]).stem)
        }
    except (ValueError, KeyError, TypeError) as error:
        listing.unlink()
        raise InputError(f"{API} does not list the files of {DOI} ({error!r}): fetch TESS by hand") from error
    fetch_files(archives, folder)


# Pichora-Fuller & Dupuis (2020)
TESS = Source(
    "tess",
    "TESS",
    "CC BY-NC-ND 4.0",
    "all files of doi.org/10.5683/SP2/E8H2MF (OAF_back_angry.wav and so on, in folders or not)",
    read,
    fetch,
)

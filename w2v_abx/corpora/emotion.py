"""Acted emotional speech: several corpora under one inventory of emotions."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from w2v_abx.audio.walking import walk
from w2v_abx.clips import Clip
from w2v_abx.corpora.columns import Column, Row, regex
from w2v_abx.corpora.published import Archive, fetch, fetch_files, fetching
from w2v_abx.corpora.splits import uniform
from w2v_abx.corpora.tables import read_rows
from w2v_abx.errors import InputError
from w2v_abx.system.checks import choice, number, several
from w2v_abx.system.downloads import download
from w2v_abx.system.text import read_text

__all__ = ["EMOTIONS", "Emotion"]

# RAVDESS's eight, which cover the others' seven (TESS, SAVEE) and six (CREMA-D). "surprised" holds RAVDESS's surprised,
# SAVEE's surprise and TESS's pleasant surprise; only RAVDESS has calm.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
POINTER, POINTER_BYTES = b"version https://git-lfs", 200  # how a Git LFS pointer begins, and its greatest size


@dataclass(frozen=True)
class Source:
    """One corpus: how its files are named and labelled, and how it is fetched; see ``conf/corpus/emotion.yaml``."""

    title: str
    licence: str
    obtain: str
    pattern: str
    example: str
    key: str
    columns: Mapping[str, Any]
    actors: str | None = None
    archives: Sequence[Mapping[str, Any]] = ()
    listed: Mapping[str, Any] = field(default_factory=dict)
    dataverse: str | None = None
    doi: str | None = None

    def __post_init__(self) -> None:
        groups = regex("corpus.sources.pattern", self.pattern).groupindex
        if "emotion" not in groups or not {"speaker", "sex", "emotion"} <= set(self.columns):
            raise InputError(
                f"corpus.sources: {self.title} needs the group emotion in its pattern, and the columns speaker, sex "
                "and emotion"
            )

    @property
    def published(self) -> bool:
        """Whether it can be fetched."""
        return bool(self.archives or self.listed or self.dataverse)

    def read(self, folder: Path) -> Iterator[tuple[str, Path, dict[str, str]]]:
        """Name, path and labels of each recording below ``folder`` that has an emotion.

        Raises `InputError` for a name that does not fit, for a speaker of unknown sex, and for a Git LFS pointer.
        """
        actors: dict[str, dict[str, str]] = {}
        if self.actors:
            rows = read_rows(folder / self.actors, ["ActorID", "Age", "Sex"])
            actors = {row["ActorID"]: row for _, row in rows}
        columns = {label: Column.parse(f"corpus.sources.{label}", given) for label, given in self.columns.items()}
        for path in _recordings(folder):
            match = re.fullmatch(f"(?:[^/]*/)?{self.pattern}", f"{path.parent.name}/{path.stem}")
            if not match:
                raise InputError(f"{path} is not named as {self.title} is ({self.example}): move it away")
            values = match.groupdict() | {"name": path.stem, "emotion": match["emotion"].lower()}
            row = Row(actors.get(values.get("actor", ""), {}) | values, str(path))
            labels = {label: value for label, column in columns.items() if (value := column.read(row))}
            if labels.get("sex") not in ("female", "male"):
                table, actor = folder / (self.actors or ""), values.get("actor", labels.get("speaker"))
                raise InputError(f"{table} does not give the sex of {actor} in {path.name}")
            if path.is_file() and path.stat().st_size < POINTER_BYTES and path.read_bytes().startswith(POINTER):
                raise InputError(f"{path} only points to its audio: run `git lfs pull` in {folder}")
            if "emotion" in labels:
                yield self.key.format(**values | {"speaker": labels["speaker"]}), path, labels

    def fetch(self, folder: Path, limits: Mapping[str, Any]) -> None:
        """Fill ``folder``, going on where it stopped."""
        fetch([Archive.parse("corpus.sources.archives", archive) for archive in self.archives], folder, limits)
        if self.listed:
            form = self.listed
            for table in filter(None, (form["table"], self.actors)):
                download(form["tables"].format(name=table), folder / table)
            rows = read_rows(folder / form["table"], [form["column"]])
            named = {name for _, row in rows if (name := row[form["column"]])}
            names = named.difference(form["without"]).union(form["besides"])
            files = {f"{name}.wav": Archive(form["url"].format(name=name)) for name in names}
            fetch_files(files, folder / form["folder"])
        if self.dataverse:
            self._fetch_dataset(folder)

    def _fetch_dataset(self, folder: Path) -> None:
        """Every recording that the Dataverse API lists."""
        listing = download(f"{self.dataverse}/datasets/:persistentId/?persistentId={self.doi}", folder / "files.json")
        try:
            entries = json.loads(read_text(listing))["data"]["latestVersion"]["files"]
            files = {
                str(file["filename"]): Archive(
                    f"{self.dataverse}/access/datafile/{int(file['id'])}", md5=file.get("md5")
                )
                for file in (entry["dataFile"] for entry in entries)
                if re.fullmatch(self.pattern, Path(file["filename"]).stem)
            }
        except (ValueError, KeyError, TypeError) as error:
            listing.unlink()
            problem = f"{self.dataverse} does not list the files of {self.doi} ({error!r}): fetch {self.title} by hand"
            raise InputError(problem) from error
        fetch_files(files, folder)


@dataclass(frozen=True, eq=False)
class Emotion:
    """RAVDESS, CREMA-D, TESS and SAVEE, or some of them, each in a folder of ``root``.

    Clips have the labels ``emotion`` (one of `EMOTIONS`), ``labels`` (the same, as a list), ``speaker`` (with its
    corpus's name before it), ``sex``, ``language``, ``corpus``, and where names or tables give them ``text``,
    ``intensity`` and ``age``; keys are ``CORPUS/NAME``. What is found twice under one name, as in some copies, counts
    once. ``conf/corpus/emotion.yaml`` explains every setting.

    Raises `InputError`, here or from `clips`, for an unknown setting, an absent corpus, or a file whose name does not
    fit.
    """

    root: str | Path
    sources: Mapping[str, Any]
    name: str = "emotion"
    corpora: Sequence[str] | None = None
    emotions: Sequence[str] | None = None
    merge: Mapping[str, str] | None = None
    valid: float = 0.15
    test: float = 0.15
    seed: int = 0
    download: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        several("corpus.corpora", self.corpora, self.sources, optional="for all")
        several("corpus.emotions", self.emotions, EMOTIONS, optional="for all")
        for emotion in [name for pair in (self.merge or {}).items() for name in pair]:
            choice("corpus.merge", emotion, EMOTIONS)
        number("corpus.valid", self.valid, low=0, below=1)
        number("corpus.test", self.test, low=0, below=1 - self.valid, hint="some speakers stay to train on")

    def clips(self) -> list[Clip]:
        """Every clip of the chosen corpora and emotions, sorted by key."""
        clips: dict[str, Clip] = {}
        sexes: dict[str, dict[str, str]] = {}
        for corpus, given in self.sources.items():
            if corpus not in (self.corpora or self.sources):
                continue
            try:
                source = Source(**given)
            except TypeError as error:
                raise InputError(f"corpus.sources.{corpus} is no description of a corpus ({error})") from None
            for name, path, read in self._read(corpus, source):
                emotion = (self.merge or {}).get(read["emotion"], read["emotion"])
                speaker = f"{corpus}-{read['speaker']}"
                sexes.setdefault(corpus, {})[speaker] = read["sex"]
                labels = {"labels": [emotion], "emotion": emotion, "speaker": speaker, "sex": read["sex"]}
                labels |= {"language": "en", "corpus": corpus}
                labels |= {label: value for label, value in read.items() if label not in labels}
                if emotion in (self.emotions or EMOTIONS):
                    clip = Clip(f"{corpus}/{name}", path, labels=labels, source=source.title, licence=source.licence)
                    clips.setdefault(clip.key, clip)
        splits = self._splits(sexes)
        return [replace(clip, split=splits[clip.labels["speaker"]]) for _, clip in sorted(clips.items())]

    def _read(self, corpus: str, source: Source) -> list[tuple[str, Path, dict[str, str]]]:
        root = Path(self.root).expanduser()
        folder = root / corpus
        if self.download and source.published:
            with fetching(root):
                if not any(_recordings(folder)):
                    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
                        raise InputError(
                            f"{folder} holds other things than {source.title}: move them away to download it"
                        )
                    partial = folder.with_name(f".{corpus}.part")
                    source.fetch(partial, self.limits)
                    partial.rename(folder)
        recordings = list(source.read(folder)) if any(_recordings(folder)) else []
        if not recordings:
            how = "give corpus.download=true, or put there" if source.published and not self.download else "put there"
            raise InputError(
                f"{folder} holds no {source.title}: {how} {source.obtain}, or leave {corpus} out of corpus.corpora"
            )
        return recordings

    def _splits(self, sexes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """The split of each speaker: shares of each corpus's speakers of each sex, of whom one stays in train."""
        splits: dict[str, str] = {}
        for speakers in sexes.values():
            for sex in ("female", "male"):
                of_sex = self._drawn(speaker for speaker in speakers if speakers[speaker] == sex)
                most = max(0, len(of_sex) - 1)
                valid = min(round(self.valid * len(of_sex)), most)
                test = min(round(self.test * len(of_sex)), most - valid)
                for place, speaker in enumerate(of_sex):
                    splits[speaker] = "valid" if place < valid else "test" if place < valid + test else "train"
        if self.valid and "valid" not in splits.values():  # TESS has two speakers, SAVEE four
            trained = self._drawn(speaker for speaker, split in splits.items() if split == "train")
            if len(trained) > 1:
                splits[trained[0]] = "valid"
        return splits

    def _drawn(self, speakers: Iterable[str]) -> list[str]:
        return sorted(speakers, key=lambda speaker: uniform(f"{self.seed}/{speaker}"))


def _recordings(folder: Path) -> Iterator[Path]:
    return (path for path in walk(folder) if path.suffix.lower() == ".wav") if folder.is_dir() else iter(())

"""The four corpora of acted emotion as one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from w2v_abx.audio.walking import walk
from w2v_abx.clips import Clip
from w2v_abx.corpora.emotion.crema_d import CREMA_D
from w2v_abx.corpora.emotion.inventory import EMOTIONS, Recording, Source
from w2v_abx.corpora.emotion.ravdess import RAVDESS
from w2v_abx.corpora.emotion.savee import SAVEE
from w2v_abx.corpora.emotion.tess import TESS
from w2v_abx.corpora.published import fetching
from w2v_abx.corpora.splits import uniform
from w2v_abx.errors import InputError
from w2v_abx.system.checks import choice, number, several

__all__ = ["Emotion"]

SOURCES = {source.name: source for source in (RAVDESS, CREMA_D, TESS, SAVEE)}


class Emotion:
    """RAVDESS, CREMA-D, TESS and SAVEE, or some of them, each in a folder of ``root``.

    Clips have the labels ``emotion`` (one of `EMOTIONS`), ``labels`` (the same, as a list), ``speaker`` (with its
    corpus's name before it), ``sex``, ``language``, ``corpus``, and where names or tables give them ``text``,
    ``intensity`` and ``age``; keys are ``CORPUS/NAME``. What is found twice under one name, as in some copies, counts
    once.

    Args:
        root: the folder of the folders ``ravdess``, ``crema_d``, ``tess`` and ``savee``.
        corpora: which of them; ``None``: all.
        emotions: which to keep; ``None``: all eight.
        merge: emotions that become another before that, ``{calm: neutral}``.
        valid, test: shares of each corpus's speakers of each sex, rounded, in these splits; no speaker is in two, and
            one of each corpus and sex stays to train on, at the cost of test first. Where this leaves valid empty, one
            speaker is valid (TESS has two, SAVEE four).
        seed: of the choice of speakers.
        download: fetch what is absent: RAVDESS as one archive, CREMA-D and TESS file by file (10,000 of them, which
            takes an hour); SAVEE takes a registration.

    Raises `InputError`, here or from `clips`, for an unknown setting, an absent corpus, or a file whose name does not
    fit.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "emotion",
        corpora: Sequence[str] | None = None,
        emotions: Sequence[str] | None = None,
        merge: Mapping[str, str] | None = None,
        valid: float = 0.15,
        test: float = 0.15,
        seed: int = 0,
        download: bool = False,
    ) -> None:
        self.name, self.root, self.seed, self.download = name, Path(root).expanduser(), seed, download
        self.sources = [SOURCES[chosen] for chosen in several("corpus.corpora", corpora, SOURCES, optional="for all")]
        self.emotions = several("corpus.emotions", emotions, EMOTIONS, optional="for all")
        self.merge = dict(merge or {})
        for emotion in (*self.merge, *self.merge.values()):
            choice("corpus.merge", emotion, EMOTIONS)
        self.valid = number("corpus.valid", valid, low=0, below=1)
        self.test = number("corpus.test", test, low=0, below=1 - valid, hint="some speakers stay to train on")

    def clips(self) -> list[Clip]:
        clips: dict[str, Clip] = {}
        sexes: dict[str, dict[str, str]] = {}
        for source in self.sources:
            speakers = sexes.setdefault(source.name, {})
            for recording in self._recordings(source):
                emotion = self.merge.get(recording.emotion, recording.emotion)
                speaker = f"{source.name}-{recording.speaker}"
                speakers[speaker] = recording.sex
                key = f"{source.name}/{recording.name}"
                if emotion in self.emotions and key not in clips:
                    clips[key] = _clip(source, recording, key, speaker, emotion)
        splits = self._splits(sexes)
        return [replace(clip, split=splits[clip.labels["speaker"]]) for _, clip in sorted(clips.items())]

    def _recordings(self, source: Source) -> Iterable[Recording]:
        folder = self.root / source.name
        if self.download and source.fetch is not None:
            with fetching(self.root):
                self._fetch(source, folder)
        recordings = list(source.read(folder)) if _has_audio(folder) else []
        if not recordings:
            how = "give corpus.download=true, or put there" if source.fetch and not self.download else "put there"
            raise InputError(
                f"{folder} holds no {source.title}: {how} {source.get_it}, or leave {source.name} out of corpus.corpora"
            )
        return recordings

    def _fetch(self, source: Source, folder: Path) -> None:
        if source.fetch is None or _has_audio(folder):
            return
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{folder} holds other things than {source.title}: move them away to download it")
        whole = folder.with_name(f".{source.name}.part")  # kept where it stopped
        source.fetch(whole)
        whole.rename(folder)

    def _splits(self, sexes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """The split of each speaker."""
        splits: dict[str, str] = {}
        for speakers in sexes.values():
            for sex in ("female", "male"):
                of_sex = self._drawn(speaker for speaker in speakers if speakers[speaker] == sex)
                most = max(0, len(of_sex) - 1)
                valid = min(round(self.valid * len(of_sex)), most)
                test = min(round(self.test * len(of_sex)), most - valid)
                for place, speaker in enumerate(of_sex):
                    splits[speaker] = "valid" if place < valid else "test" if place < valid + test else "train"
        if self.valid and "valid" not in splits.values():
            trained = self._drawn(speaker for speaker, split in splits.items() if split == "train")
            if len(trained) > 1:
                splits[trained[0]] = "valid"
        return splits

    def _drawn(self, speakers: Iterable[str]) -> list[str]:
        return sorted(speakers, key=lambda speaker: uniform(f"{self.seed}/{speaker}"))


def _has_audio(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() == ".wav" for path in walk(folder))


def _clip(source: Source, recording: Recording, key: str, speaker: str, emotion: str) -> Clip:
    labels = {
        "labels": [emotion],
        "emotion": emotion,
        "speaker": speaker,
        "sex": recording.sex,
        "language": "en",
        "corpus": source.name,
        **recording.labels,
    }
    return Clip(key, recording.path, labels=labels, source=source.title, licence=source.licence)

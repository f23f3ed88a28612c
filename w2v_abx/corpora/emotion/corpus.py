"""Emotional speech: several corpora, each in a folder, under one inventory of emotions."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from w2v_abx import audio
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.emotion.source import EMOTIONS, Source
from w2v_abx.corpora.published import fetching
from w2v_abx.corpora.splits import joined, share_out
from w2v_abx.errors import InputError
from w2v_abx.system.checks import choice, number, several
from w2v_abx.system.progress import tracked

__all__ = ["Emotion"]

GROUPED = {"speaker": "speakers", "text": "sentences", "published": "clips"}  # what a split draws

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Emotion:
    """RAVDESS, CREMA-D, TESS, SAVEE, ESD, MELD and JL-Corpus, or some of them, each in a folder of ``root``.

    Clips have the labels ``emotion`` (one of `EMOTIONS`), ``labels`` (the same, as a list), ``speaker`` (with its
    corpus's name before it), ``language``, ``corpus``, and where names or tables give them ``sex``, ``text`` (lower
    case, without punctuation), ``sentence``, ``intensity`` and ``age``; keys are ``CORPUS/NAME``. What is found twice
    under one name, as in some copies, counts once. ``conf/corpus/emotion.yaml`` explains every setting.

    Raises:
        InputError: here or from `clips`, for an unknown setting, an absent corpus, a file whose name does not fit, or
            a corpus without texts where the split is by text.
    """

    root: str | Path
    sources: Mapping[str, Any]
    name: str = "emotion"
    corpora: Sequence[str] | None = None
    emotions: Sequence[str] | None = None
    merge: Mapping[str, str] | None = None
    shortest: float | None = None
    split: str = "speaker"
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
        number("corpus.shortest", self.shortest, above=0, unit="seconds", optional="for any length")
        choice("corpus.split", self.split, GROUPED)
        number("corpus.valid", self.valid, low=0, below=1)
        number("corpus.test", self.test, low=0, below=1 - self.valid, hint="some clips stay to train on")

    def clips(self) -> list[Clip]:
        """Every clip of the chosen corpora and emotions, sorted by key."""
        found: dict[str, Clip] = {}
        for corpus in several("corpus.corpora", self.corpora, self.sources, optional="for all"):
            source = self._source(corpus)
            if self.split == "text" and "text" not in source.columns:
                raise InputError(f"corpus.split=text: {source.title} has no text; leave {corpus} out of corpus.corpora")
            for name, path, read in self._read(corpus, source):
                emotion = (self.merge or {}).get(read["emotion"], read["emotion"])
                labels: dict[str, Any] = read | {"labels": [emotion], "emotion": emotion, "corpus": corpus}
                labels |= {"speaker": f"{corpus}-{read['speaker']}", "language": "en"}
                clip = Clip(f"{corpus}/{name}", path, labels=labels, source=source.title, licence=source.licence)
                found.setdefault(clip.key, clip)
        splits = self._splits(list(found.values()))
        clips = [replace(clip, split=splits[key]) for key, clip in sorted(found.items())]
        clips = self._long_enough([clip for clip in clips if clip.labels["emotion"] in (self.emotions or EMOTIONS)])
        self._warn(clips)
        return clips

    def _source(self, corpus: str) -> Source:
        try:
            return Source(**self.sources[corpus])
        except TypeError as error:
            raise InputError(f"corpus.sources.{corpus} is no description of a corpus ({error})") from None

    def _read(self, corpus: str, source: Source) -> list[tuple[str, Path, dict[str, str]]]:
        root = Path(self.root).expanduser()
        folder = root / corpus
        if self.download and source.published:
            with fetching(root):
                if not any(source.files(folder)):
                    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
                        raise InputError(
                            f"{folder} holds other things than {source.title}: move them away to download it"
                        )
                    partial = folder.with_name(f".{corpus}.part")
                    source.fetch(partial, self.limits)
                    partial.rename(folder)
        recordings = list(source.read(folder))
        if not recordings:
            how = "give corpus.download=true, or put there" if source.published and not self.download else "put there"
            raise InputError(
                f"{folder} holds no {source.title}: {how} {source.obtain}, or leave {corpus} out of corpus.corpora"
            )
        return recordings

    def _splits(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Draw the split of each clip, by key."""
        # Sentences that share a wording or, where a corpus numbers its sentences, a number are one.
        groups = (
            joined(_names(clip) for clip in clips)
            if self.split == "text"
            else [clip.labels["speaker"] if self.split == "speaker" else clip.key for clip in clips]
        )
        strata: dict[str, tuple[Any, ...]] = {}
        for group, clip in zip(groups, clips, strict=True):
            sex = clip.labels.get("sex") if self.split == "speaker" else None
            strata.setdefault(group, (clip.labels["corpus"], sex))
        splits = share_out(strata, self.valid, self.test, self.seed)
        return {clip.key: splits[group] for group, clip in zip(groups, clips, strict=True)}

    def _warn(self, clips: Iterable[Clip]) -> None:
        """Name the corpora that the split leaves without clips to validate or test on."""
        there = Counter((clip.labels["corpus"], clip.split) for clip in clips)
        for corpus in sorted({corpus for corpus, _ in there}):
            held = [split for split in ("valid", "test") if getattr(self, split) and not there[corpus, split]]
            if held:
                log.warning(
                    "corpus.split=%s: %s has too few %s, so that none of its %d clips is for %s",
                    self.split, corpus, GROUPED[self.split],
                    sum(there[corpus, split] for split in SPLITS), " or ".join(held),
                )  # fmt: skip

    def _long_enough(self, clips: list[Clip]) -> list[Clip]:
        """Leave out what is shorter than ``shortest``; what cannot be read stays for `prepare` to count."""
        if self.shortest is None:
            return clips
        kept = [clip for clip in tracked("lengths", clips) if _seconds(clip) >= self.shortest]
        log.warning(
            "%d of %d clips are shorter than %g s, and left out", len(clips) - len(kept), len(clips), self.shortest
        )
        return kept


def _names(clip: Clip) -> list[str]:
    """What a clip says: its text and its sentence's number; its own key where neither is known."""
    labels, corpus = clip.labels, clip.labels["corpus"]
    text, sentence = labels.get("text"), labels.get("sentence")
    named = [*([f"text {text}"] if text else []), *([f"sentence {corpus} {sentence}"] if sentence else [])]
    return named or [clip.key]


def _seconds(clip: Clip) -> float:
    try:
        return audio.info(clip.path)[0]
    except audio.AudioError:
        return math.inf

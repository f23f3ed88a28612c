"""Recordings, each beside a synthesiser's reading of its transcript."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soxr

from w2v_abx import audio
from w2v_abx.audio.walking import AUDIO_ENDINGS, walk
from w2v_abx.clips import Clip, Corpus
from w2v_abx.corpora.espeak.library import SAMPLE_RATE, Synthesiser
from w2v_abx.corpora.wrapper import Wrapper
from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write
from w2v_abx.system.checks import whole
from w2v_abx.system.progress import tracked

__all__ = ["Twins"]

SHOWN = 3  # clips that a message names


class Twins(Wrapper):
    """Each clip of a corpus that has a transcript, and a reading of it, as a pair (for head=rewiring).

    Both bear the label ``pair``, the recording's key, and are in its split; the reading has ``synthetic`` and ``text``
    besides, and no other label of the recording. A clip without a transcript is left out, and counted in a warning.

    Args:
        corpus: the recordings, with the label ``text``.
        name: of the pairs.
        folder: of readings made elsewhere, ``KEY.wav`` or another kind of audio, anywhere below it; None: eSpeak NG
            makes them, in ``root``, each once.
        root: where eSpeak's readings lie.
        voice: eSpeak's, ``language`` or ``language+variant``.
        rate, pitch, span: see `Synthesiser.speak`; span 0 is flat.

    Raises:
        InputError: no clip has a transcript, a recording has no reading in ``folder``, or a reading no recording.
    """

    def __init__(
        self,
        corpus: Corpus,
        name: str,
        root: str | Path,
        folder: str | Path | None = None,
        voice: str = "en-us",
        rate: int = 150,
        pitch: int = 50,
        span: int = 0,
    ) -> None:
        super().__init__(corpus)
        self.name = name
        self.folder = None if folder is None else Path(folder)
        self.voice = voice
        self.manner = {
            "rate": whole("corpus.rate", rate, 80, 450),
            "pitch": whole("corpus.pitch", pitch, 0, 100),
            "span": whole("corpus.span", span, 0, 100),
        }
        made = json.dumps([voice, self.manner, version("espeakng-loader") if folder is None else ""])
        self.root = Path(root) / hashlib.sha256(made.encode()).hexdigest()[:12]

    def clips(self) -> list[Clip]:
        """Every recording with a transcript, and its reading, by key; makes the readings that are not there."""
        return self._clips

    @cached_property
    def _clips(self) -> list[Clip]:
        everything = self.corpus.clips()
        clips = [clip for clip in everything if str(clip.labels.get("text") or "").strip()]
        if not clips:
            raise InputError(
                f"corpus.corpus: {self.corpus.name} has no clip with a transcript (the label text) to read"
            )
        if without := [clip.key for clip in everything if clip not in clips]:
            named = ", ".join(without[:SHOWN])
            warnings.warn(f"{len(without)} clips have no transcript and so no twin, such as {named}", stacklevel=2)
        readings = self._spoken(clips) if self.folder is None else self._found(clips)
        pairs = [replace(clip, labels={**clip.labels, "pair": clip.key}) for clip in clips]
        for clip in clips:
            labels = {"pair": clip.key, "text": clip.labels["text"], "synthetic": True}
            pairs.append(Clip(f"{clip.key}_twin", readings[clip.key], split=clip.split, labels=labels))
        return sorted(pairs, key=lambda clip: clip.key)

    def _spoken(self, clips: list[Clip]) -> dict[str, Path]:
        """Have eSpeak read the transcripts that it has not read yet."""
        readings = {clip.key: self.root / f"{clip.key}.flac" for clip in clips}
        for clip in tracked("reading", [clip for clip in clips if not readings[clip.key].is_file()]):
            synthesiser = Synthesiser()  # a new one (14 ms): what it says depends on what it has said before
            phonemes = "|".join(synthesiser.transcribe(self.voice, str(clip.labels["text"])))
            speech = synthesiser.speak(self.voice, phonemes, **self.manner)
            samples = soxr.resample(speech.samples.astype(np.float32) / 32768, SAMPLE_RATE, audio.SAMPLE_RATE, "HQ")
            write(readings[clip.key], lambda path, samples=samples: audio.save(path, samples))  # type: ignore[misc]
        return readings

    def _found(self, clips: list[Clip]) -> Mapping[str, Path]:
        """Find the readings below ``folder``."""
        assert self.folder is not None
        readings = {
            path.stem: path for path in walk(self.folder, "corpus.folder") if path.suffix.lower() in AUDIO_ENDINGS
        }
        keys = {clip.key for clip in clips}
        if missing := sorted(keys - readings.keys()):
            raise InputError(
                f"corpus.folder={self.folder}: no reading of {len(missing)} recordings, such as {missing[0]}"
            )
        if alone := sorted(readings.keys() - keys):
            raise InputError(f"corpus.folder={self.folder}: no recording of {len(alone)} readings, such as {alone[0]}")
        return readings

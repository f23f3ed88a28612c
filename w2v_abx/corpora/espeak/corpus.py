"""Speech with exact phone times, spoken by eSpeak NG."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from w2v_abx import audio
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.espeak.library import SAMPLE_RATE, Phone, Synthesiser
from w2v_abx.corpora.espeak.styles import Style
from w2v_abx.corpora.espeak.voices import select, sex_of
from w2v_abx.corpora.espeak.words import TONES, Skew, Word, balanced, free, inventory, lexical
from w2v_abx.items.rows import COLUMNS, Row, neighboured, row_of, write_rows
from w2v_abx.system.atomic import write_folder
from w2v_abx.system.checks import choice, fail, whole
from w2v_abx.system.progress import tracked

__all__ = ["Espeak"]

_SOURCE = "eSpeak NG"
_LICENCE = "generated audio, free to use (the synthesiser is GPL-3.0)"
_FORMAT = 1  # raised when the same settings begin to give other clips
_PADDING = 0.1  # s of silence at either end
_SHORTEST = 0.02  # s: from here on, an item has a frame at 50 Hz
_PACE = (115, 155)  # words per minute: each speaker has an own, each utterance varies around it
_KINDS = ("balanced", "free", "lexicon")


@dataclass
class Espeak:
    """Words or pseudo-words in eSpeak's voices, written once to ``root/<name>-<fingerprint of the settings>``.

    ``conf/corpus/espeak.yaml`` explains every setting. Mandarin's balanced words have other tones at each repetition.

    Clips bear the labels ``phones`` (as spoken, after eSpeak's allophone rules), ``speaker``, ``sex`` ("female",
    "male", "unknown"), ``text`` (as spelt; of pseudo-words, eSpeak's mnemonics), ``language``, with styles ``emotion``,
    and for Mandarin ``tones`` (onset s, offset s, "1" to "4"). The item file has the phones that have both neighbours
    in their word and last 20 ms or more; ``manifest.json`` counts the shorter ones.
    Raises InputError for a value out of range.
    """

    root: str | Path
    name: str = "espeak"
    language: str = "en-us"
    voices: str | Sequence[str] = "train"
    speakers: int | None = None
    words: str = "balanced"
    consonants: int = 12
    vowels: int = 7
    repetitions: int = 2
    utterances: int = 40
    words_per_utterance: int = 6
    lexicon: Sequence[str] | None = None
    skew: Mapping[str, Any] | None = None
    styles: Mapping[str, Any] | None = None
    split: str = "train"
    valid_speakers: int = 0
    valid_utterances: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if not isinstance(self.voices, str):
            self.voices = [str(name) for name in self.voices]
        choice("corpus.words", self.words, _KINDS)
        choice("corpus.split", self.split, SPLITS)
        for key in ("repetitions", "utterances", "words_per_utterance"):
            whole(f"corpus.{key}", getattr(self, key), 1)
        whole("corpus.seed", self.seed, 0)
        self.language = self.language.lower()
        inventory(self.language)
        if (self.words == "lexicon") != bool(self.lexicon):
            raise fail("corpus.lexicon", self.lexicon, "a list of words with corpus.words=lexicon, else null")
        if self.lexicon and self._tonal:
            raise fail("corpus.words", self.words, "balanced or free where tones are labelled")
        if Skew.of(self.skew) and self.words != "free":
            raise fail("corpus.skew", self.skew, "null with other than corpus.words=free")
        Style.parse(self.styles)
        whole("corpus.valid_speakers", self.valid_speakers, 0, len(self._speakers) - 1)
        most = 0 if self.words == "balanced" else self.utterances - 1
        whole("corpus.valid_utterances", self.valid_utterances, 0, most, hint="words=balanced has each word in train")

    @property
    def folder(self) -> Path:
        """Where these settings' clips are, once made."""
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()
        return Path(self.root) / f"{self.name}-{digest[:12]}"

    @property
    def item_file(self) -> Path:
        """The ABX item file beside the clips; generates them if they are not there."""
        self._generate()
        return self.folder / "phones.item"

    def clips(self) -> list[Clip]:
        """Every clip, sorted by key; generates them if they are not there."""
        self._generate()
        with (self.folder / "clips.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        valid = {_speaker_name(voice) for voice in self._held_out}
        last = self.utterances - self.valid_utterances if self.valid_utterances else math.inf
        return [
            Clip(
                key=row["key"],
                path=self.folder / "clips" / f"{row['key']}.flac",
                split="valid" if row["labels"]["speaker"] in valid or int(row["key"][-5:]) >= last else self.split,
                labels=row["labels"],
                source=_SOURCE,
                licence=_LICENCE,
            )
            for row in rows
        ]

    @cached_property
    def _speakers(self) -> list[str]:
        voices = self.voices if isinstance(self.voices, str) else list(self.voices)
        return select(voices, self.speakers, self.seed)

    @property
    def _held_out(self) -> list[str]:
        order = np.random.default_rng(self.seed).permutation(len(self._speakers))
        return [self._speakers[index] for index in order[: self.valid_speakers]]

    @property
    def _settings(self) -> dict[str, Any]:
        settings = asdict(self)
        for key in ("root", "name", "split", "valid_speakers", "valid_utterances"):
            del settings[key]
        if self.skew is not None:  # which speakers are held out decides on what they say
            settings["held_out"] = sorted(self._held_out)
        for key in ("lexicon", "skew", "styles"):  # which came later: what has none of them stays as it was
            if settings[key] is None:
                del settings[key]
        return settings | {
            "voices": self._speakers,
            "format": _FORMAT,
            "espeakng_loader": version("espeakng-loader"),
        }

    def _generate(self) -> None:
        if not self.folder.exists():
            write_folder(self.folder, self._fill)

    def _fill(self, folder: Path) -> None:
        (folder / "clips").mkdir()
        rows, items = [], []
        for voice in tracked("speaking", self._speakers):
            for row, its_items in self._speak(voice, folder / "clips"):
                rows.append(row)
                items += its_items
        rows.sort(key=lambda row: row["key"])
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        columns = (*COLUMNS, "tone") if self._tonal else COLUMNS
        write_rows(folder / "phones.item", columns, [item for item in items if item])
        manifest = {
            "clips": len(rows),
            "items": sum(map(bool, items)),
            "items_too_short": items.count(None),
            "settings": self._settings,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    @property
    def _tonal(self) -> bool:
        return self.language in TONES

    def _speak(self, voice: str, folder: Path) -> list[tuple[dict[str, Any], list[Row | None]]]:
        """Speak and write one speaker's utterances; their rows and items."""
        # By the voice's name, so that a speaker says the same in a smaller or larger set.
        generator = np.random.default_rng([self.seed, *voice.encode()])
        pace, height = generator.integers(*_PACE), generator.integers(40, 61)
        synthesiser = Synthesiser()
        speaker = _speaker_name(voice)
        styles = Style.parse(self.styles)
        made = []
        for index, words in enumerate(self._utterances(generator, voice)):
            key = f"{self.language}_{speaker}_{index:05d}"
            rate, pitch = int(pace * generator.uniform(0.9, 1.1)), int(height + generator.integers(-5, 6))
            emotion = list(styles)[index % len(styles)] if styles else ""  # what is said was drawn before
            spoken = " ".join(word.mnemonics(self.language) for word in words)
            manner = styles.get(emotion, Style()).of(rate, pitch)
            speech = synthesiser.speak(f"{self.language}+{voice}", spoken, **manner)
            phones = speech.phones(inventory(self.language).nuclei)
            samples = soxr.resample(speech.samples.astype(np.float32) / 32768, SAMPLE_RATE, audio.SAMPLE_RATE, "HQ")
            audio.save(folder / f"{key}.flac", np.pad(samples, round(_PADDING * audio.SAMPLE_RATE)))
            tones = self._tones(words, phones)
            labels: dict[str, Any] = {
                "phones": [[_time(phone.onset), _time(phone.offset), phone.symbol] for phone in phones],
                "speaker": speaker,
                "sex": sex_of(voice),
                "text": " ".join(word.written(self.language) for word in words),
                "language": self.language,
            }
            if emotion:
                labels["emotion"] = emotion
            if self._tonal:
                labels["tones"] = [
                    [_time(syllable[0].onset), _time(syllable[-1].offset), syllable_tone]
                    for syllable_tone, syllable in tones
                ]
            made.append(({"key": key, "labels": labels}, self._items(key, speaker, phones, tones)))
        return made

    def _utterances(self, generator: np.random.Generator, voice: str) -> list[list[Word]]:
        size = self.words_per_utterance
        if self.words == "free":
            skew = None if voice in self._held_out else Skew.of(self.skew)
            return [free(self.language, size, generator, skew) for _ in range(self.utterances)]
        if self.words == "lexicon":
            known = lexical(self.language, tuple(self.lexicon or ()))
            return [
                [known[place] for place in generator.integers(len(known), size=size)] for _ in range(self.utterances)
            ]
        words = [
            word.with_tones(self.language, repetition)
            for repetition in range(self.repetitions)
            for word in balanced(self.language, self.consonants, self.vowels)
        ]
        order = generator.permutation(len(words))
        return [[words[place] for place in order[at : at + size]] for at in range(0, len(words), size)]

    def _tones(self, words: list[Word], phones: list[Phone]) -> list[tuple[str, list[Phone]]]:
        """(tone, phones) of each syllable; none for a language without tones."""
        if not self._tonal:
            return []
        sizes = [(tone, sum(map(bool, segments))) for word in words for *segments, tone in word.syllables]
        if sum(size for _, size in sizes) != len(phones):
            raise RuntimeError(f"eSpeak merged or added phones in {[word.mnemonics(self.language) for word in words]}")
        rest = iter(phones)
        return [(tone, list(islice(rest, size))) for tone, size in sizes]

    def _items(
        self, key: str, speaker: str, phones: list[Phone], tones: list[tuple[str, list[Phone]]]
    ) -> list[Row | None]:
        """An item for each phone that has both neighbours in its word, none where it is too short for one."""
        tone_of = {id(phone): tone for tone, syllable in tones for phone in syllable}
        items: list[Row | None] = []
        for place, reason in neighboured(phones, [phone.word for phone in phones]):
            if reason:
                continue
            before, phone, after = phones[place - 1 : place + 2]
            if phone.offset / SAMPLE_RATE - phone.onset / SAMPLE_RATE < _SHORTEST:
                items.append(None)
                continue
            labels = [phone.symbol, before.symbol, after.symbol, speaker, *([tone_of[id(phone)]] if tones else [])]
            items.append(row_of(key, _time(phone.onset), _time(phone.offset), *labels))
        return items


def _speaker_name(voice: str) -> str:
    return re.sub(r"\W", "-", voice)


def _time(sample: int) -> float:
    """Seconds into the file, to the microsecond, of a sample of eSpeak's."""
    return round(sample / SAMPLE_RATE + _PADDING, 6)

"""ABX item files of any corpus whose clips have phone times."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from w2v_abx.clips import SPLITS, Clip, Corpus
from w2v_abx.errors import InputError
from w2v_abx.items.items import Items
from w2v_abx.items.labels import Interval, intervals
from w2v_abx.items.rows import COLUMNS, Row, neighboured, row_of, table_of, write_rows
from w2v_abx.items.syllables import NOTHING, syllables_of
from w2v_abx.system.checks import choice, whole

__all__ = ["SILENCES", "ItemFile", "ItemSettings", "require_stops"]

# Silence, noise and unknown words under the names that TIMIT, Kaldi, MFA and others give them.
SILENCES = ("", "sil", "SIL", "SIL_S", "sp", "spn", "SPN", "nsn", "NSN", "pau", "epi", "h#", "<eps>", "<unk>", "unk")
# Letters that begin vowels: a Mandarin final, which bears the tone, begins with one (pinyin, IPA, X-SAMPA, eSpeak).
VOWELS = frozenset("aeiouvyüAEIOUY@ɑɐəɚɤɛɜɔɒæɨɯʉʊʌɪʏøœɵɿʅ")


@dataclass(frozen=True)
class ItemSettings:
    """Which phones become items, and how.

    - ``unit``: "phone": an item is the phone alone; "triphone": it is the span from the phone before to the phone
      after, as in the files of Libri-Light (Kahn et al., 2020) and ZeroSpeech 2021. ``#phone`` is the centre of both.
      "syllable": it is the span of a tone of the label ``tones``, from its first phone to its last; a column
      ``syllable`` has these phones, one ``tone`` the tone, and ``#phone`` both: tones are told apart by syllable.
    - A phone needs both neighbours: at a clip's edge, beside a pause longer than ``max_gap`` seconds or beside a symbol
      of ``exclude`` it is no item, nor is an excluded one (Libri-Light's files do without silence, too). With
      ``within_words`` neighbours belong to the same word, which takes the label ``words``.
    - ``min_duration``, ``max_duration``: of an item in seconds; ``None`` is no limit. From 20 ms on, an item has a
      frame at 50 Hz.
    - ``min_count``: a contrast is two phones in one context (``context="any"``: whatever the context) by one speaker,
      with so many items of each; items that belong to no contrast are left out. 2 is what an ABX cell within a speaker
      takes. ``min_speakers``: a contrast must be made by so many speakers; 2 is what a cell across speakers takes.
      With ``min_count=1`` and ``min_speakers=1`` every item stays. Of syllables a contrast is two tones of one (with
      ``context="any"``: of any), and neighbours are not needed.
    - ``max_count``: at most so many items of a phone in a context by a speaker, drawn by ``seed``.
    - ``columns``: more labels of the clips (``sex``, ``accent``) as columns. ``tone="column"``: a column ``tone`` from
      the label ``tones``, the one in which the phone's middle lies, else "-"; ``tone="phone"``: it is joined to
      ``#phone`` (``a4``) in the final of a syllable, while contexts stay without.
    - ``speaker``: the label that fills the column ``speaker``. ``splits``: of which clips (``None``: of all).
    - ``audio``: where `w2v-abx prepare` writes the clips that have items as ``KEY.flac`` (``None``: nowhere).

    Raises:
        InputError: a value out of range, naming it.
    """

    unit: str = "phone"
    context: str = "within"
    within_words: bool = False
    max_gap: float = 0.01
    exclude: Sequence[str] = SILENCES
    min_duration: float = 0.02
    max_duration: float | None = None
    min_count: int = 1
    min_speakers: int = 1
    max_count: int | None = None
    seed: int = 0
    columns: Sequence[str] = ()
    tone: str | None = None
    speaker: str = "speaker"
    splits: Sequence[str] | None = None
    audio: Path | str | None = None

    def __post_init__(self) -> None:
        choice("items.unit", self.unit, ("phone", "triphone", "syllable"))
        choice("items.context", self.context, ("within", "any"))
        choice("items.tone", self.tone, ("column", "phone"), optional="for none")
        for split in self.splits or ():
            choice("items.splits", split, SPLITS)
        whole("items.min_count", self.min_count, 1)
        whole("items.min_speakers", self.min_speakers, 1)
        whole("items.max_count", self.max_count, 1, optional="for all")
        if self.max_duration is not None and self.max_duration < self.min_duration:
            raise InputError(
                f"items.max_duration={self.max_duration} is below items.min_duration={self.min_duration}: no item fits"
            )
        if self.unit == "syllable" and (self.within_words or self.tone == "phone"):
            setting = "within_words=true" if self.within_words else "tone=phone"
            raise InputError(f"items.{setting} is of phones; leave it out with items.unit=syllable")
        if taken := set(self.columns) & {*COLUMNS, "syllable", "tone"}:
            raise InputError(f"items.columns: {min(taken)!r} is a column of its own; leave it out")

    @property
    def file(self) -> str:
        """The name of the item file: ``phone.item``, with other settings another, so that none is overwritten.

        Where the audio goes makes no other items.
        """
        own, usual = (asdict(replace(settings, audio=None)) for settings in (self, ItemSettings(unit=self.unit)))
        changed = {name: _plain(value) for name, value in own.items() if _plain(value) != _plain(usual[name])}
        if not changed:
            return f"{self.unit}.item"
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
        return f"{self.unit}-{digest[:8]}.item"


def _plain(value: Any) -> Any:
    """A list, whatever kind of sequence a configuration made."""
    return list(value) if isinstance(value, list | tuple) else value


class Found(NamedTuple):
    """An item: its row, and the symbols by which it is counted."""

    row: Row
    phone: str
    context: tuple[str, str]
    speaker: str


@dataclass
class ItemFile:
    """The items of a corpus.

    ``left_out`` counts phones (syllables) that are no item by reason: edge (of a clip or word), pause, excluded, empty
    (a tone without phones), too_short, too_long, few (in no contrast), surplus (over ``max_count``). ``clips`` have
    phones; ``without`` have none.
    """

    settings: ItemSettings
    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    clips: int = 0
    without: int = 0

    @classmethod
    def of(cls, clips: Iterable[Clip], settings: ItemSettings | None = None) -> "ItemFile":
        """The items of ``clips``.

        Raises:
            InputError: no clip has phones, a clip with phones lacks a label that a column needs, or no item is left.
        """
        made = cls(settings or ItemSettings())
        found: list[Found] = []
        for clip in clips:
            if made.settings.splits is not None and clip.split not in made.settings.splits:
                continue
            phones = intervals(clip, "phones")
            if not phones:
                made.without += 1
                continue
            made.clips += 1
            found += made._of_clip(clip, phones)
        if not made.clips:
            raise InputError(
                f"none of the {made.without} clips has the label phones, which items are made of: give their times "
                "with align=textgrid or align=ctc, or choose a corpus that has them"
            )
        made.rows = [item.row for item in made._drawn(made._in_contrasts(found))]
        if not made.rows:
            why = ", ".join(f"{reason}: {count}" for reason, count in sorted(made.left_out.items()))
            raise InputError(f"no phone of {made.clips} clips can be an item ({why}): widen the settings under items")
        return made

    @property
    def columns(self) -> tuple[str, ...]:
        tone = ["tone"] if self.settings.tone == "column" else []
        own = ["syllable", "tone"] if self.settings.unit == "syllable" else tone
        return (*COLUMNS, *own, *self.settings.columns)

    def items(self) -> Items:
        return table_of(self.columns, self.rows)

    def write(self, path: Path | str) -> None:
        """Write the item file, atomically."""
        write_rows(path, self.columns, self.rows)

    def _of_clip(self, clip: Clip, phones: Sequence[Interval]) -> Iterator[Found]:
        settings = self.settings
        words = _words(clip, phones) if settings.within_words else None
        missing = [name for name in (settings.speaker, *settings.columns) if name not in clip.labels]
        if missing:
            key = "items.columns" if missing[0] in settings.columns else "items.speaker"
            raise InputError(
                f"{clip.key} lacks the label {missing[0]!r} of {key}; its labels are: {', '.join(clip.labels)}"
            )
        syllables = settings.unit == "syllable"
        tones = intervals(clip, "tones") if settings.tone or syllables else []
        speaker = str(clip.labels[settings.speaker])
        others = [str(clip.labels[name]) for name in settings.columns]
        if syllables:
            for said in syllables_of(phones, tones, frozenset(settings.exclude), settings.max_gap):
                if self._lasts(said.onset, said.offset, said.reason):
                    labels = (said.segments + said.tone, said.before, said.after, speaker, said.segments, said.tone)
                    row = row_of(clip.key, said.onset, said.offset, *labels, *others)
                    yield Found(row, said.tone, (said.segments * (settings.context == "within"), ""), speaker)
            return
        for place, reason in neighboured(phones, words, settings.exclude, settings.max_gap):
            before, phone, after = phones[place - 1 : place + 2] if not reason else [phones[place]] * 3
            first, last = (before, after) if settings.unit == "triphone" else (phone, phone)
            if not self._lasts(first.onset, last.offset, reason):
                continue
            tone = _tone(phone, tones)
            symbol = phone.symbol
            if settings.tone == "phone" and _bears_tone(phone, tone, phones):
                symbol += tone.symbol if tone else ""
            extra = [tone.symbol if tone else NOTHING] if settings.tone == "column" else []
            context = (before.symbol, after.symbol)
            row = row_of(clip.key, first.onset, last.offset, symbol, *context, speaker, *extra, *others)
            yield Found(row, symbol, context if settings.context == "within" else ("", ""), speaker)

    def _lasts(self, onset: float, offset: float, reason: str) -> bool:
        """Whether an item is as long as asked; if it is not, or is none for another ``reason``, that is counted."""
        seconds, longest = round(offset - onset, 6), self.settings.max_duration
        if not reason and seconds < self.settings.min_duration:
            reason = "too_short"
        elif not reason and longest is not None and seconds > longest:
            reason = "too_long"
        if reason:
            self.left_out[reason] += 1
        return not reason

    def _in_contrasts(self, found: list[Found]) -> list[Found]:
        least, speakers = self.settings.min_count, self.settings.min_speakers
        if least == 1 and speakers == 1:
            return found
        counts = Counter((item.context, item.phone, item.speaker) for item in found)
        able: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(dict)
        for (context, phone, speaker), count in counts.items():
            if count >= least:
                able[context].setdefault(phone, set()).add(speaker)
        kept: set[tuple[tuple[str, str], str, str]] = set()
        for context, phones in able.items():
            for phone, by in phones.items():
                for other, others in phones.items():
                    shared = by & others
                    if phone != other and len(shared) >= speakers:
                        kept.update((context, phone, speaker) for speaker in shared)
        inside = [item for item in found if (item.context, item.phone, item.speaker) in kept]
        self.left_out["few"] += len(found) - len(inside)
        return inside

    def _drawn(self, found: list[Found]) -> list[Found]:
        most = self.settings.max_count
        if most is None:
            return found
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for place, item in enumerate(found):
            groups[item.context, item.phone, item.speaker].append(place)
        kept: list[int] = []
        for group, places in groups.items():
            # By the group's name, so that the draw in one does not depend on the others.
            kept += random.Random(f"{self.settings.seed}/{group}").sample(places, min(most, len(places)))
        self.left_out["surplus"] += len(found) - len(kept)
        return [found[place] for place in sorted(kept)]


def require_stops(corpus: Corpus, settings: ItemSettings) -> None:
    """Raise InputError where ``settings`` exclude a symbol that a corpus also writes for the closures of its stops.

    Such a corpus names it as ``closure_as_silence``; its stops would all be items beside a pause, which are none.
    """
    symbol = getattr(corpus, "closure_as_silence", None)
    if symbol is not None and symbol in settings.exclude:
        raise InputError(
            f"{corpus.name} with fold=39 writes the closures of stops as {symbol!r}, like the pauses that "
            "items.exclude leaves out, so no stop would be an item: set the corpus's fold to 48 or 61"
        )


def _words(clip: Clip, phones: Sequence[Interval]) -> list[int]:
    """The place of the word in which each phone's middle lies; an own one for a phone outside of all."""
    words = intervals(clip, "words")
    if not words:
        raise InputError(f"{clip.key} lacks the label words, which items.within_words needs")
    found, place = [], 0
    for number, phone in enumerate(phones):
        middle = (phone.onset + phone.offset) / 2
        while place < len(words) - 1 and words[place].offset <= middle:
            place += 1
        found.append(place if words[place].onset <= middle < words[place].offset else -1 - number)
    return found


def _tone(phone: Interval, tones: Sequence[Interval]) -> Interval | None:
    middle = (phone.onset + phone.offset) / 2
    return next((tone for tone in tones if tone.onset <= middle < tone.offset), None)


def _bears_tone(phone: Interval, tone: Interval | None, phones: Sequence[Interval]) -> bool:
    """Whether it belongs to the final of its syllable: from the first vowel on."""
    return tone is not None and any(
        other.symbol[:1] in VOWELS and other.onset <= phone.onset and _tone(other, [tone]) for other in phones
    )

"""eSpeak NG's shared library: phonemes in, samples and the time of each phone out."""

import ctypes
import shutil
import tempfile
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from w2v_abx.errors import InputError
from w2v_abx.system.atomic import scratch_folder
from w2v_abx.system.extras import extra

__all__ = ["SAMPLE_RATE", "Phone", "Speech", "Synthesiser", "data_folder"]

SAMPLE_RATE = 22_050

# The numbers of speak_lib.h.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 0x0001, 0x8000
_CHARACTERS_UTF8, _READ_PHONEMES = 0x0001, 0x0100
_EVENT_LIST_END, _EVENT_PHONEME = 0, 7
_IPA = 0x02
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4

_STRESS = "',%="
_WINDOW = SAMPLE_RATE // 500  # samples: 2 ms
_SILENT = 0.1  # of the loudest window of the phone before: −20 dB


class Phone(NamedTuple):
    """A phone, or a pause (its symbol begins with ``_``): its first sample, and the sample after its last.

    ``word`` is the place of its word in the text.
    """

    onset: int
    offset: int
    symbol: str
    word: int


@dataclass(frozen=True)
class Speech:
    """One utterance. ``samples``: (T,) int16 at ``SAMPLE_RATE``; ``events``: phones and pauses as eSpeak reports them,
    in order, a stress mark leading a vowel's symbol."""

    samples: np.ndarray
    events: tuple[Phone, ...]

    def phones(self, vowels: Collection[str]) -> list[Phone]:
        """The phones in order, stress marks and pauses left off; ``vowels`` are the language's.

        eSpeak reports a consonant when its sound begins, so that the silence of a closure falls to the phone before.
        Here a closure belongs to its consonant, as in TIMIT or a forced alignment.
        """
        phones: list[Phone] = []
        for event in self.events:
            if event.symbol.startswith("_") or event.offset <= event.onset:
                continue
            onset, symbol = event.onset, event.symbol.lstrip(_STRESS)
            if phones and phones[-1].offset == onset and symbol not in vowels:
                onset -= _silence(self.samples[phones[-1].onset : onset])
                phones[-1] = phones[-1]._replace(offset=onset)
            phones.append(event._replace(onset=onset, symbol=symbol))
        return phones


def _silence(samples: np.ndarray) -> int:
    """Length of the near-silence at the end of a phone, in samples, never more than half of it."""
    count = len(samples) // _WINDOW
    windows = samples[len(samples) - count * _WINDOW :].astype(np.float64).reshape(count, _WINDOW)
    loudness = np.sqrt(np.mean(np.square(windows), axis=1))
    loud = np.flatnonzero(loudness > _SILENT * loudness.max(initial=0.0))
    quiet = (count - 1 - int(loud[-1])) * _WINDOW if len(loud) else 0
    return min(quiet, len(samples) // 2)


class _RawEvent(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),  # of the union, its longest member
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_RawEvent))


def data_folder() -> Path:
    """Where eSpeak's voices, dictionaries and phoneme tables are."""
    with extra("espeak"):
        import espeakng_loader
    return Path(espeakng_loader.get_data_path())


class Synthesiser:
    """A private copy of eSpeak NG, so that what it speaks depends on nothing but the calls made to it.

    The library keeps its voice, and much of its signal generator, in the process's globals, and the sound of an
    utterance depends on those before it. A copy of the file is loaded as another library, with globals of its own: each
    instance starts from the same state. Threads may share one, which serves one at a time.
    """

    def __init__(self) -> None:
        with extra("espeak"):
            import espeakng_loader
        with scratch_folder(Path(tempfile.gettempdir()), "espeak") as folder:
            copy = shutil.copy(espeakng_loader.get_library_path(), folder)
            self._library = ctypes.CDLL(str(copy))
        self._lock = threading.Lock()
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        unsigned = ctypes.c_uint
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, size, unsigned, ctypes.c_int, unsigned, unsigned, pointer, pointer
        ]  # fmt: skip
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        options = _PHONEME_EVENTS | _DO_NOT_EXIT
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data_folder()).encode(), options)
        if rate != SAMPLE_RATE:
            raise InputError(
                f"eSpeak NG did not start from {data_folder()} (it answered {rate}); reinstall espeakng-loader"
            )
        self._library.espeak_ng_SetRandSeed(1)  # breath and flutter are random
        self._voice = ""
        self._chunks: list[np.ndarray] = []
        self._events: list[tuple[int, str, int]] = []
        self._callback = _Callback(self._receive)  # C holds no reference
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_RawEvent]"
    ) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_LIST_END:
            if events[index].type == _EVENT_PHONEME:
                event = events[index]
                self._events.append((event.sample, event.id.decode("latin-1"), event.text_position))
            index += 1
        return 0

    def _become(self, voice: str) -> None:
        if voice != self._voice:  # it reads the language's dictionary anew
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise InputError(f"eSpeak NG has no voice {voice!r}")
            self._voice = voice

    def transcribe(self, voice: str, text: str) -> list[str]:
        """The mnemonics with which a voice reads a line of text, stress and tones on them, pauses among them."""
        return self._phonemes(voice, text, ord("|") << 8, "latin-1")

    def pronounce(self, voice: str, text: str) -> list[str]:
        """The same in the International Phonetic Alphabet."""
        return self._phonemes(voice, text, ord("|") << 8 | _IPA, "utf-8")

    def _phonemes(self, voice: str, text: str, mode: int, encoding: str) -> list[str]:
        with self._lock:
            self._become(voice)
            rest = ctypes.c_char_p(text.encode())
            said = ""
            while rest.value:
                part = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARACTERS_UTF8, mode)
                said += part.decode(encoding) + "|"
        return [symbol for symbol in said.replace(" ", "|").split("|") if symbol]

    def speak(
        self, voice: str, phonemes: str, *, rate: int = 175, pitch: int = 50, span: int = 50, volume: int = 100
    ) -> Speech:
        """Speak phoneme mnemonics (``b|'a|t``; a space ends a word) as ``language`` or ``language+variant``.

        Args:
            rate: words per minute, 80 to 450; 175 is eSpeak's own.
            pitch: 0 to 100, the voice's own at 50.
            span: how far the pitch moves, 0 (monotonous) to 100, the voice's own at 50.
            volume: amplitude, 0 to 200 % of the voice's own.

        Raises InputError for an unknown voice.
        """
        with self._lock:
            self._become(voice)
            self._library.espeak_SetParameter(_RATE, rate, 0)
            self._library.espeak_SetParameter(_PITCH, pitch, 0)
            self._library.espeak_SetParameter(_RANGE, span, 0)
            self._library.espeak_SetParameter(_VOLUME, volume, 0)
            self._chunks.clear()
            self._events.clear()
            text = f"[[{phonemes}]]".encode()
            flags = _CHARACTERS_UTF8 | _READ_PHONEMES
            status = self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, flags, None, None)
            samples = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
            events = list(self._events)
        if status != 0:
            raise InputError(f"eSpeak NG could not speak {phonemes!r} as {voice!r} (status {status})")
        ends = [start for start, _, _ in events[1:]] + [len(samples)]
        return Speech(
            samples,
            tuple(Phone(start, end, symbol, word) for (start, symbol, word), end in zip(events, ends, strict=True)),
        )

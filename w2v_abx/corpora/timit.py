"""TIMIT: phonetically rich English sentences with phone times set by hand."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from w2v_abx.audio.walking import walk
from w2v_abx.clips import Clip
from w2v_abx.corpora.tables import read_lines
from w2v_abx.errors import InputError
from w2v_abx.items.labels import UNTIMED, fitted
from w2v_abx.system.checks import choice

__all__ = ["Timit", "fold"]

RATE = 16_000  # Hz of the sample numbers in .PHN, .WRD and .TXT
# Core test set: two men and one woman of each dialect region (TIMIT's DOC/TESTSET.DOC).
CORE_TEST = """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0
    mnjm0 fdhc0 mjln0 mpam0 fmld0
""".split()  # noqa: SIM905
# Development set of Halberstadt (1998), as Kaldi's recipe lists it (egs/timit/s5/conf/dev_spk.list).
DEVELOPMENT = """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 mrtk0
    mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0
    fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
""".split()  # noqa: SIM905
REGIONS = {
    "dr1": "New England",
    "dr2": "Northern",
    "dr3": "North Midland",
    "dr4": "South Midland",
    "dr5": "Southern",
    "dr6": "New York City",
    "dr7": "Western",
    "dr8": "Army Brat",
}
SYMBOLS = """
    aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl l
    m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh
""".split()  # noqa: SIM905
SIZES = (61, 48, 39)
# Lee & Hon (1989), "Speaker-independent phone recognition using hidden Markov models", tables 1 and 3: what each symbol
# becomes among 48, and what those become among 39. Symbols that keep their name are left out.
TO_48 = {
    **dict.fromkeys(["bcl", "dcl", "gcl"], "vcl"),
    **dict.fromkeys(["kcl", "pcl", "tcl"], "cl"),
    **dict.fromkeys(["h#", "pau"], "sil"),
    **{"ax-h": "ax", "axr": "er", "em": "m", "eng": "ng", "hv": "hh", "nx": "n", "ux": "uw"},
}
TO_39 = {
    **dict.fromkeys(["cl", "epi", "vcl"], "sil"),
    **{"ao": "aa", "ax": "ah", "el": "l", "en": "n", "ix": "ih", "zh": "sh"},
}
SENTENCE = re.compile(r"(s[aix])\d+")
ENDINGS = ("wav", "wav.wav", "flac", "phn", "wrd", "txt")
LICENSED = (
    "the Linguistic Data Consortium licenses TIMIT (catalog.ldc.upenn.edu/LDC93S1); give the folder of TRAIN and TEST, "
    "or of the sample that NLTK distributes, with corpus=timit_sample"
)


def fold(symbol: str, size: int) -> str | None:
    """One of ``SYMBOLS`` in the set of 61, 48 or 39; ``None`` for ``q``, a glottal stop, which the smaller drop."""
    if size == 61:
        return symbol
    if symbol == "q":
        return None
    folded = TO_48.get(symbol, symbol)
    return folded if size == 48 else TO_39.get(folded, folded)


@dataclass(frozen=True, eq=False)
class Timit:
    """TIMIT (Garofolo et al. 1993, LDC93S1), in the layout of its disc.

    That is ``TRAIN|TEST/DRn/SPEAKER/SENTENCE.WAV`` (NIST sphere; ``.WAV.wav`` or ``.flac`` copies are preferred) with
    ``.PHN``, ``.WRD`` and ``.TXT`` beside it, in capitals or not. Clips have the labels ``speaker``, ``sex``,
    ``accent`` (the dialect region's name), ``sentence``, ``text``, ``language``, and ``phones`` and ``words`` with
    times; the key is ``SPEAKER_SENTENCE``.

    Where phones are folded, ``q`` is dropped: no phone covers it, and its neighbours do not become neighbours of each
    other. Segments that fold to the same symbol are not joined. Times that are not of the audio, or cannot be
    read, are left out, with the reason as the label ``untimed``. ``conf/corpus/timit.yaml`` explains every setting.

    Raises `InputError`, here or from `clips`, naming the file and line that do not fit.
    """

    root: str | Path
    name: str = "timit"
    fold: int = 48
    test: str = "core"
    sa: bool = False
    valid_speakers: Sequence[str] = ()
    test_speakers: Sequence[str] = ()

    def __post_init__(self) -> None:
        choice("corpus.fold", self.fold, SIZES)
        choice("corpus.test", self.test, ("core", "complete"))
        if len(self._held_out) < len(self.valid_speakers) + len(self.test_speakers):
            raise InputError("corpus.valid_speakers and corpus.test_speakers name a speaker twice: leave it to one")

    @cached_property
    def _held_out(self) -> dict[str, str]:
        """The split of each speaker whom the settings name."""
        named = {"valid": self.valid_speakers, "test": self.test_speakers}
        return {speaker.lower(): split for split, speakers in named.items() for speaker in speakers}

    @property
    def closure_as_silence(self) -> str | None:
        """The symbol that stands for the closures of stops as well as for pauses."""
        return "sil" if self.fold == 39 else None

    def clips(self) -> list[Clip]:
        """Every clip of the splits, sorted by key."""
        found = self._utterances()
        clips = [
            self._clip(speaker, region, sentence, split, files)
            for (part, region, speaker, sentence), files in found.items()
            if (self.sa or not sentence.startswith("sa")) and (split := self._split(part, speaker))
        ]
        if not clips:
            raise InputError(
                f"corpus.root={self.root} holds no TRAIN|TEST/DRn/SPEAKER/*.WAV of these splits: {LICENSED}"
            )
        if missing := sorted(set(self._held_out) - {speaker for _, _, speaker, _ in found}):
            key = f"corpus.{self._held_out[missing[0]]}_speakers"
            raise InputError(f"{key}: {missing[0].upper()} is no speaker in {self.root}")
        return sorted(clips, key=lambda clip: clip.key)

    def _utterances(self) -> dict[tuple[str, str, str, str], dict[str, Path]]:
        """The files of each utterance by their ending, by part (train or test), region, speaker and sentence."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(f"corpus.root={self.root} is not a folder: {LICENSED}")
        found: dict[tuple[str, str, str, str], dict[str, Path]] = {}
        for path in walk(root):
            stem, _, ending = path.name.lower().partition(".")
            part, region, speaker = ("", "", "", *(name.lower() for name in path.parts[-4:-1]))[-3:]
            if part not in ("train", "test") or region not in REGIONS or ending not in ENDINGS:
                continue  # documents, other programs' lists
            if not SENTENCE.fullmatch(stem):
                raise InputError(f"{path}: {stem!r} is no sentence of TIMIT (SA1, SI1027, SX37 …): move the file away")
            other = found.setdefault((part, region, speaker, stem), {}).setdefault(ending, path)
            if other != path:
                raise InputError(f"{path} and {other} are the same sentence: move one away")
        return found

    def _split(self, part: str, speaker: str) -> str | None:
        if speaker in self._held_out:
            return self._held_out[speaker]
        if part == "train":
            return "train"
        if self.test == "complete" or speaker in CORE_TEST:
            return "test"
        return "valid" if speaker in DEVELOPMENT else None

    def _clip(self, speaker: str, region: str, sentence: str, split: str, files: Mapping[str, Path]) -> Clip:
        any_file = next(iter(files.values()))
        audio = files.get("wav.wav") or files.get("flac") or files.get("wav") or any_file.with_suffix(".WAV")
        labels: dict[str, Any] = {
            "speaker": speaker.upper(),
            "sex": "female" if speaker.startswith("f") else "male",
            "accent": REGIONS[region],
            "sentence": sentence.upper(),
            "language": "en",
        }
        try:
            if "txt" in files:
                labels["text"] = " ".join(text for _, _, text in _spans(files["txt"]))
            if "wrd" in files:
                labels["words"] = [[onset, offset, word] for onset, offset, word in _spans(files["wrd"])]
            if "phn" in files:
                labels["phones"] = list(self._phones(files["phn"]))
        except InputError as error:
            labels[UNTIMED] = ["bad_labels", str(error)]
        key = f"{labels['speaker']}_{labels['sentence']}"
        clip = Clip(key, audio, split=split, labels=labels, source="TIMIT (LDC93S1)", licence="LDC User Agreement")
        return fitted(clip)

    def _phones(self, path: Path) -> Iterator[list[Any]]:
        for onset, offset, symbol in _spans(path):
            if symbol not in SYMBOLS:
                raise InputError(f"{path}: {symbol!r} is none of TIMIT's 61 phones")
            if folded := fold(symbol, self.fold):
                yield [onset, offset, folded]


def _spans(path: Path) -> Iterator[tuple[float, float, str]]:
    """Onset and offset in seconds and the label of lines ``0 3050 h#``."""
    for number, line in read_lines(path):
        fields = line.split(maxsplit=2)
        if len(fields) < 3 or not (fields[0].isdecimal() and fields[1].isdecimal()) or int(fields[0]) > int(fields[1]):
            raise InputError(f"{path}, line {number}: {line[:40]!r} is not two sample numbers in order and a label")
        # Seven digits hold a multiple of 1/16000 s exactly.
        yield round(int(fields[0]) / RATE, 7), round(int(fields[1]) / RATE, 7), fields[2]

"""AISHELL-1: read Mandarin, 400 speakers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from w2v_abx.clips import Clip
from w2v_abx.corpora.alignments import read_alignment, require_alignments
from w2v_abx.corpora.published import Archive, fetching, locate
from w2v_abx.corpora.tables import parse_lines
from w2v_abx.errors import InputError
from w2v_abx.system.archives import Limits, unpack
from w2v_abx.system.checks import several
from w2v_abx.system.extras import extra

__all__ = ["Aishell1", "pinyin", "split_tone"]

ARCHIVES = (  # checksums as the PaddleSpeech recipes verify them
    Archive("https://www.openslr.org/resources/33/resource_aishell.tgz", md5="957d480a0fcac85fc18e550756f624e5"),
    Archive("https://www.openslr.org/resources/33/data_aishell.tgz", md5="2f494334227864a8a8fec932999db9d8"),
)
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
SEXES = {"F": "female", "M": "male"}
TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"
NAME = re.compile(r"BAC009(S\d{4})W\d{4}")
# Chao's tone letters, as the Mandarin dictionaries of the Montreal Forced Aligner end a phone.
TONE_LETTERS = {"˥": "1", "˥˥": "1", "˧˥": "2", "˨˩˦": "3", "˨˩": "3", "˥˩": "4"}
TONE = re.compile(r"(?<=.)([1-5]|[˥˦˧˨˩]+)$")


@dataclass(frozen=True, eq=False)
class Aishell1:
    """AISHELL-1 (Bu et al. 2017) as https://www.openslr.org/33 publishes it.

    Its layout is ``data_aishell/wav/train|dev|test/SPEAKER/UTTERANCE.wav`` with
    ``data_aishell/transcript/aishell_transcript_v0.8.txt`` and ``resource_aishell/speaker.info`` (speaker, F or M).
    Clips have the labels ``speaker``, ``sex`` (where ``speaker.info`` is there), ``language``, ``text`` (without the
    spaces between words) and ``pinyin`` (see :func:`pinyin`), but a few recordings that have no transcript; from
    TextGrids ``phones``, ``words`` and ``tones``. The key is the utterance's name.

    TextGrids lie in ``train|dev|test/SPEAKER/UTTERANCE.TextGrid`` of ``alignments`` and have the tiers ``words`` and
    ``phones``. A phone that ends in a tone, as a digit (``ang4``) or in tone letters (``a˥˩``), is divided into the
    phone and an entry of ``tones`` that lasts as long. ``conf/corpus/aishell1.yaml`` explains every setting.

    Raises `InputError`, here or from `clips`, for what is absent, naming it, and for a line that does not fit.
    """

    root: str | Path
    name: str = "aishell1"
    subsets: Sequence[str] | None = None
    alignments: str | Path | None = None
    download: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        several("corpus.subsets", self.subsets, SPLITS, optional="for all")

    def clips(self) -> list[Clip]:
        """Every clip of the subsets, sorted by key."""
        data = self._data()
        texts = _transcripts(data / TRANSCRIPT)
        sexes = _sexes(data.parent / "resource_aishell" / "speaker.info")
        alignments = None if self.alignments is None else Path(self.alignments).expanduser()
        clips = []
        for subset in self.subsets or SPLITS:
            folder = data / "wav" / subset
            paths = set(folder.glob("*/*.wav"))
            if not paths:
                raise InputError(
                    f"{folder} holds no SPEAKER/*.wav: unpack the archives in {folder.parent}, or give "
                    "corpus.download=true"
                )
            # What the transcript names and its speaker's folder lacks is missing.
            speakers = {path.parent.name for path in paths}
            paths |= {folder / name[6:11] / f"{name}.wav" for name in texts if name[6:11] in speakers}
            clips += [self._clip(path, subset, texts, sexes, alignments) for path in paths]
        require_alignments(alignments, clips)
        return sorted(clips, key=lambda clip: clip.key)

    def _clip(
        self,
        path: Path,
        subset: str,
        texts: dict[str, list[str]],
        sexes: dict[str, str],
        alignments: Path | None,
    ) -> Clip:
        match = NAME.fullmatch(path.stem)
        if not match:
            raise InputError(f"{path} is not named BAC009SnnnnWnnnn.wav: move the file away")
        labels: dict[str, Any] = {"speaker": match[1], "language": "zh"}
        if match[1] in sexes:
            labels["sex"] = sexes[match[1]]
        if words := texts.get(path.stem):
            labels |= {"text": "".join(words), "pinyin": pinyin(words)}
        if alignments:
            labels |= _with_tones(read_alignment(alignments, Path(subset, match[1], path.stem), path))
        source, licence = "AISHELL-1 (openslr.org/33)", "Apache 2.0"
        return Clip(path.stem, path, split=SPLITS[subset], labels=labels, source=source, licence=licence)

    def _data(self) -> Path:
        layout = "data_aishell/wav/train|dev|test/SPEAKER/*.wav, resource_aishell/speaker.info, 15 GB"
        root = Path(self.root).expanduser()
        data = locate(
            root, TRANSCRIPT, ["data_aishell"], ARCHIVES, download=self.download, layout=layout, limits=self.limits
        )
        inside = data / "wav"  # each speaker lies in an archive of its own
        if self.download and any(inside.glob("*.tar.gz")):
            with fetching(root):
                for archive in sorted(inside.glob("*.tar.gz")):  # another process may just have done it
                    unpack(archive, inside, Limits(**self.limits))
                    archive.unlink(missing_ok=True)
        return data


def pinyin(words: Sequence[str]) -> list[str]:
    """The syllables of Chinese words with their tone, 5 for the neutral one: ``["shang4", "hai3"]``.

    ``words`` are read one by one, so that a character with several readings takes the one that it has in its word.
    ü is written v. Tones are those of pypinyin's dictionary, whose phrases give 一 and 不 as spoken (``yi4 qi3``);
    beyond that tone sandhi is not applied: in runs of third tones it depends on the phrasing, which text does not tell.
    What is no Chinese character stays as it is.
    """
    return [syllable for word in words for syllable in _word(word)]


@cache
def _word(word: str) -> list[str]:
    with extra("mandarin"):
        from pypinyin import Style, lazy_pinyin
    return lazy_pinyin([word], style=Style.TONE3, neutral_tone_with_five=True)


def split_tone(phone: str) -> tuple[str, str | None]:
    """A phone without its tone, and the tone, 1 to 5: ``ang4`` is ``ang`` and 4, ``a˥˩`` is ``a`` and 4.

    Tone letters other than those of the four tones are the neutral one, 5, whose pitch depends on the tone before.
    """
    match = TONE.search(phone)
    if not match:
        return phone, None
    return phone[: match.start()], match[1] if match[1].isdecimal() else TONE_LETTERS.get(match[1], "5")


def _with_tones(labels: dict[str, Any]) -> dict[str, Any]:
    divided = [(onset, offset, *split_tone(phone)) for onset, offset, phone in labels.get("phones", [])]
    tones = [[onset, offset, tone] for onset, offset, _, tone in divided if tone]
    if not tones:
        return labels
    return labels | {"phones": [[onset, offset, phone] for onset, offset, phone, _ in divided], "tones": tones}


def _transcripts(path: Path) -> dict[str, list[str]]:
    return dict(parse_lines(path, _utterance))


def _utterance(line: str) -> tuple[str, list[str]]:
    utterance, *words = line.split()
    if not NAME.fullmatch(utterance) or not words:
        raise InputError(f"{line[:40]!r} is not an utterance and its words")
    return utterance, words


def _sexes(path: Path) -> dict[str, str]:
    """Speaker to sex, from lines ``0002 F``."""
    return dict(parse_lines(path, _speaker)) if path.exists() else {}


def _speaker(line: str) -> tuple[str, str]:
    fields = line.split()
    if len(fields) < 2 or fields[1] not in SEXES:
        raise InputError(f"{line[:40]!r} is not a speaker and F or M")
    return "S" + fields[0].removeprefix("S"), SEXES[fields[1]]

"""LibriSpeech: read English books, 960 hours to train on and four held-out sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from w2v_abx.clips import Clip
from w2v_abx.corpora.alignments import read_alignment, require_alignments
from w2v_abx.corpora.published import Archive, find_tree, locate
from w2v_abx.corpora.tables import parse_lines
from w2v_abx.errors import InputError
from w2v_abx.system.checks import several

__all__ = ["LibriSpeech"]

URL = "https://www.openslr.org/resources/12/{}.tar.gz"
SHA256 = {  # as torchaudio.datasets.LIBRISPEECH verifies them
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
SUBSETS = tuple(SHA256)
# Phone and word times by the Montreal Forced Aligner (L. Lugosch et al. 2019), CC BY 4.0.
ALIGNMENTS = Archive(
    "https://zenodo.org/records/2619474/files/librispeech_alignments.zip", md5="2bab567d0ace651a4ba254e813629f46"
)
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
SEXES = {"F": "female", "M": "male"}


@dataclass(frozen=True, eq=False)
class LibriSpeech:
    """LibriSpeech (Panayotov et al. 2015) as https://www.openslr.org/12 publishes it.

    Its layout is ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac`` with ``SPEAKER-CHAPTER.trans.txt`` beside the
    audio and ``SPEAKERS.TXT`` at the top. Clips have the labels ``speaker``, ``sex`` (where ``SPEAKERS.TXT`` is there),
    ``text``, ``subset``, ``language``, and from TextGrids ``phones`` and ``words``; their key is the utterance's name,
    which item files also use. Subsets train-* are the split train, dev-* valid, test-* test.

    TextGrids lie in ``SUBSET/SPEAKER/CHAPTER/UTTERANCE.TextGrid`` of ``alignments``, or of its ``LibriSpeech``, and
    have the tiers ``words`` and ``phones``. An utterance without one (a few could not be aligned) has no times.
    ``conf/corpus/librispeech.yaml`` explains every setting.

    Raises `InputError`, here or from `clips`, for an unknown or absent subset and for a file that breaks the layout.
    """

    root: str | Path
    name: str = "librispeech"
    subsets: Sequence[str] | None = ("train-clean-100", "dev-clean", "test-clean")
    alignments: str | Path | None = None
    stress: bool = False
    download: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        several("corpus.subsets", self.subsets, SUBSETS, optional="for those that are there")

    def clips(self) -> list[Clip]:
        """Every clip of the subsets, sorted by key."""
        folders = self._folders()
        sexes = _sexes({folder.parent / "SPEAKERS.TXT" for folder in folders.values()})
        alignments = self._alignments(list(folders))
        clips = []
        for subset, folder in folders.items():
            texts = _transcripts(folder)
            names = sorted(texts.keys() | {path.stem for path in folder.glob("*/*/*.flac")})
            if not names:
                raise InputError(f"{folder} holds no SPEAKER/CHAPTER/*.flac: delete it and give corpus.download=true")
            for utterance in names:
                speaker, chapter, _ = _parts(folder, utterance)
                labels: dict[str, Any] = {"speaker": speaker, "subset": subset, "language": "en"}
                if speaker in sexes:
                    labels["sex"] = sexes[speaker]
                if utterance in texts:
                    labels["text"] = texts[utterance]
                place = Path(speaker, chapter, utterance)
                audio = folder / place.with_suffix(".flac")
                if alignments:
                    labels |= read_alignment(alignments, subset / place, audio, keep_stress=self.stress)
                clips.append(
                    Clip(
                        utterance,
                        audio,
                        split=SPLITS[subset.partition("-")[0]],
                        labels=labels,
                        source="LibriSpeech (openslr.org/12)",
                        licence="CC BY 4.0",
                    )
                )
        require_alignments(alignments, clips)
        return sorted(clips, key=lambda clip: clip.key)

    def _folders(self) -> dict[str, Path]:
        folders, root = {}, Path(self.root).expanduser()
        for subset in [subset for subset in SUBSETS if subset in (self.subsets or SUBSETS)]:
            archive = Archive(URL.format(subset), SHA256[subset])
            if self.subsets:
                layout = f"LibriSpeech/{subset}/SPEAKER/CHAPTER/*.flac"
                tree = locate(
                    root, subset, ["LibriSpeech"], [archive], download=self.download, layout=layout, limits=self.limits
                )
                folders[subset] = tree / subset
            elif found := find_tree(root, subset, ["LibriSpeech"]):
                folders[subset] = found / subset
        if not folders:
            raise InputError(f"corpus.root={self.root} holds no subset of LibriSpeech: name some with corpus.subsets")
        return folders

    def _alignments(self, subsets: Sequence[str]) -> Path | None:
        """The folder of the TextGrids' subsets."""
        if self.alignments is None:
            return None
        root, layout = Path(self.alignments).expanduser(), "SUBSET/SPEAKER/CHAPTER/*.TextGrid"
        settings: dict[str, Any] = {
            "download": self.download,
            "layout": layout,
            "limits": self.limits,
            "setting": "corpus.alignments",
        }
        trees = {locate(root, subset, ["LibriSpeech"], [ALIGNMENTS], **settings) for subset in subsets}
        if len(trees) > 1:
            raise InputError(
                f"corpus.alignments={self.alignments} holds subsets beside its LibriSpeech: put them there"
            )
        return trees.pop()


def _parts(folder: Path, utterance: str) -> list[str]:
    parts = utterance.split("-")
    if len(parts) != 3:
        raise InputError(f"{folder}: the utterance {utterance!r} is not named SPEAKER-CHAPTER-NNNN")
    return parts


def _transcripts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("*/*/*.trans.txt")):
        texts |= parse_lines(path, partial(_utterance, path.name.removesuffix(".trans.txt")))
    return texts


def _utterance(chapter: str, line: str) -> tuple[str, str]:
    utterance, _, text = line.partition(" ")
    if not text or "/" in utterance or not utterance.startswith(chapter):
        raise InputError(f"{line[:40]!r} is not an utterance of it and its text")
    return utterance, text.strip()


def _sexes(tables: set[Path]) -> dict[str, str]:
    """Speaker to sex, from lines ``14 | F | train-clean-360 | 25.03 | Kristin LeMoine``; ``;`` opens a comment."""
    found = (parse_lines(table, _speaker) for table in sorted(tables) if table.exists())
    return {speaker: sex for speakers in found for speaker, sex in speakers}


def _speaker(line: str) -> tuple[str, str] | None:
    fields = [field.strip() for field in line.split("|")]
    if line.startswith(";"):
        return None
    if len(fields) < 3 or fields[1] not in SEXES:
        raise InputError(f"{line[:40]!r} is not ID | F or M | subset | …")
    return fields[0], SEXES[fields[1]]

"""Speech Commands: one second of audio for each of 35 spoken words."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from w2v_abx import audio
from w2v_abx.clips import Clip
from w2v_abx.corpora.published import Archive, choose, locate
from w2v_abx.corpora.tables import read_lines
from w2v_abx.errors import InputError

__all__ = ["SpeechCommands"]

ARCHIVE = Archive(  # checksum as torchaudio.datasets.SPEECHCOMMANDS verifies it
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
NOISE = "_background_noise_"
LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}


class SpeechCommands:
    """Google Speech Commands (Warden 2018, arXiv:1804.03209), version 1 or 2, as its archive unpacks.

    Its layout is ``WORD/SPEAKER_nohash_N.wav`` with ``validation_list.txt`` and ``testing_list.txt``, which name what
    is in the splits valid and test; no speaker is in two. Clips have the labels ``labels`` (the word), ``text``,
    ``speaker`` and ``language``; the key is the path without its ending.

    Args:
        root: the folder of the words' folders.
        words: which to keep; ``None``: all.
        background: keep the recordings of ``_background_noise_`` too, cut into stretches of 1 s (what is left of each
            is shorter and is left out), under that name as their label. Of each recording the first eight tenths are
            the split train, the ninth valid, the last test.
        download: fetch version 2, 2.4 GB, when absent.

    Raises `InputError`, here or from `clips`, for what is absent or is not named so.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "speech_commands",
        words: Sequence[str] | None = None,
        background: bool = False,
        download: bool = False,
    ) -> None:
        self.name, self.root, self.words = name, Path(root).expanduser(), words
        self.background, self.download = background, download

    def clips(self) -> list[Clip]:
        tree = locate(
            self.root,
            "testing_list.txt",
            ["SpeechCommands/speech_commands_v0.0*"],
            [ARCHIVE],
            download=self.download,
            layout="WORD/*.wav, validation_list.txt and testing_list.txt, 2.4 GB",
        )
        folders = [path.name for path in tree.iterdir() if path.is_dir() and path.name[0] not in "._"]
        words = set(choose("corpus.words", self.words, sorted(folders)))
        splits = {name: split for table, split in LISTS.items() for name in _listed(tree / table)}
        # What a list names and the disk lacks is missing.
        names = splits.keys() | {f"{word}/{path.name}" for word in words for path in (tree / word).glob("*.wav")}
        clips = [_clip(tree, name, splits.get(name, "train")) for name in names if name.partition("/")[0] in words]
        if self.background:
            clips += list(_background(tree))
        return sorted(clips, key=lambda clip: clip.key)


def _clip(tree: Path, name: str, split: str) -> Clip:
    word, _, file = name.partition("/")
    speaker, _, take = file.removesuffix(".wav").partition("_nohash_")
    if not speaker or not take.isdecimal():
        raise InputError(f"{tree / name} is not named WORD/SPEAKER_nohash_N.wav: move the file away")
    labels: dict[str, Any] = {"labels": [word], "text": word, "speaker": speaker, "language": "en"}
    return Clip(
        name.removesuffix(".wav"),
        tree / name,
        split=split,
        labels=labels,
        source="Speech Commands",
        licence="CC BY 4.0",
    )


def _listed(table: Path) -> Iterator[str]:
    for number, line in read_lines(table):
        if line.count("/") != 1 or not line.endswith(".wav"):
            raise InputError(f"{table}, line {number}: {line!r} is not WORD/FILE.wav")
        yield line


def _background(tree: Path) -> Iterator[Clip]:
    for path in sorted((tree / NOISE).glob("*.wav")):
        whole = int(audio.info(path)[0])
        for second in range(whole):
            tenth = second * 10 // whole
            yield Clip(
                f"{NOISE}/{path.stem}-{second:04d}",
                path,
                start=float(second),
                end=float(second + 1),
                split="train" if tenth < 8 else "valid" if tenth == 8 else "test",
                labels={"labels": [NOISE]},
                source="Speech Commands",
                licence="CC BY 4.0",
            )

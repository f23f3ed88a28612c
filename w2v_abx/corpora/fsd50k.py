"""FSD50K: 51,197 sounds of Freesound in 200 classes of the AudioSet ontology."""

import json
from pathlib import Path

from w2v_abx.clips import Clip
from w2v_abx.corpora.published import LOCK, Archive, fetch, fetching, find_tree
from w2v_abx.corpora.split_zip import join
from w2v_abx.corpora.tables import plain_name, read_lines, read_rows
from w2v_abx.errors import InputError
from w2v_abx.system import downloads
from w2v_abx.system.archives import unpack

__all__ = ["Fsd50k"]

URL = "https://zenodo.org/records/4060432/files/{}"
MD5 = {  # as Zenodo publishes them, and soundata verifies them
    "FSD50K.dev_audio.z01": "faa7cf4cc076fc34a44a479a5ed862a3",
    "FSD50K.dev_audio.z02": "8f9b66153e68571164fb1315d00bc7bc",
    "FSD50K.dev_audio.z03": "1196ef47d267a993d30fa98af54b7159",
    "FSD50K.dev_audio.z04": "d088ac4e11ba53daf9f7574c11cccac9",
    "FSD50K.dev_audio.z05": "81356521aa159accd3c35de22da28c7f",
    "FSD50K.dev_audio.zip": "c480d119b8f7a7e32fdb58f3ea4d6c5a",
    "FSD50K.eval_audio.z01": "3090670eaeecc013ca1ff84fe4442aeb",
    "FSD50K.eval_audio.zip": "6fa47636c3a3ad5c7dfeba99f2637982",
    "FSD50K.ground_truth.zip": "ca27382c195e37d2269c4c866dd73485",
    "FSD50K.metadata.zip": "b9ea0c829a411c1d42adb9da539ed237",
}
TABLES = ("FSD50K.ground_truth", "FSD50K.metadata")
AUDIO = {"dev": "FSD50K.dev_audio", "eval": "FSD50K.eval_audio"}
FOLDERS = (*TABLES, *AUDIO.values())
SPLITS = {"train": "train", "val": "valid"}
# The licences of clips, as FSD50K.metadata gives their addresses.
LICENCES = {
    "publicdomain/zero": "CC0",
    "licenses/by/": "CC BY",
    "licenses/by-nc/": "CC BY-NC",
    "licenses/sampling+": "CC Sampling+",
}


class Fsd50k:
    """FSD50K (Fonseca et al. 2022) as https://zenodo.org/records/4060432 publishes it.

    Its layout is ``FSD50K.dev_audio/*.wav``, ``FSD50K.eval_audio/*.wav`` and ``FSD50K.ground_truth/dev.csv`` (train
    or val), ``eval.csv`` (the split test) and ``vocabulary.csv``. Clips have the labels ``labels`` (classes, their
    ancestors among them) and ``mids`` (the same as machine identifiers of AudioSet); the key is the Freesound number.
    Where ``FSD50K.metadata`` is there, each clip carries its own licence.

    Args:
        root: the folder of those folders.
        download: fetch what is absent from Zenodo, 24 GB in zips of several parts. Joining and unpacking them takes
            three times the room for a while.

    Raises `InputError`, here or from `clips`, for what is absent and for a row that does not fit, naming its line.
    """

    def __init__(self, root: str | Path, *, name: str = "fsd50k", download: bool = False) -> None:
        self.name, self.root, self.download = name, Path(root).expanduser(), download

    def clips(self) -> list[Clip]:
        tree = self._tree()
        classes = _vocabulary(tree / "FSD50K.ground_truth" / "vocabulary.csv")
        clips = [clip for part in AUDIO for clip in _read(tree, part, classes)]
        return sorted(clips, key=lambda clip: clip.key)

    def _tree(self) -> Path:
        if self.download:
            root = find_tree(self.root, "FSD50K.ground_truth", ["FSD50K"]) or self.root
            if any(_lacking(root, folder) for folder in FOLDERS) or (root / LOCK).exists():
                with fetching(root):
                    for folder in FOLDERS:
                        _fetch(root, folder)
        tree = find_tree(self.root, "FSD50K.ground_truth", ["FSD50K"])
        if tree is None:
            raise InputError(
                f"corpus.root={self.root} holds no FSD50K.ground_truth: give corpus.download=true (24 GB), or fetch "
                f"{URL.format('')} by hand and unpack it there; join an archive of several parts before, as with "
                "`zip -s 0 FSD50K.dev_audio.zip --out dev.zip`"
            )
        return tree


def _names(folder: str) -> list[str]:
    return sorted(name for name in MD5 if name.startswith(f"{folder}.z"))  # .zip, the last part, sorts last


def _lacking(root: Path, folder: str) -> bool:
    """Whether a folder is not there, or what it was made from is not all deleted."""
    return not (root / folder).exists() or any((root / name).exists() for name in (*_names(folder), _joined(folder)))


def _joined(folder: str) -> str:
    return f"{folder}.joined.zip"


def _fetch(root: Path, folder: str) -> None:
    names, whole = _names(folder), root / _joined(folder)
    parts = [root / name for name in names]
    every = all(part.exists() for part in parts)
    # Parts are deleted once they are unpacked to the end, and what they were joined to comes last.
    if (root / folder).exists() and not every:
        if whole.exists():
            _delete(*parts, whole)
        return
    archives = [Archive(URL.format(name), md5=MD5[name]) for name in names]
    if len(archives) == 1:
        fetch(archives, root)
        return
    for archive, part in zip(archives, parts, strict=True):
        downloads.download(archive.url, part, md5=archive.md5)
    unpack(join(parts, whole), root)
    _delete(*parts, whole)


def _delete(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _read(tree: Path, part: str, classes: set[str]) -> list[Clip]:
    table = tree / "FSD50K.ground_truth" / f"{part}.csv"
    licences = _licences(tree / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json")
    clips = []
    for line, row in read_rows(table, ["fname", "labels", "mids", *(["split"] if part == "dev" else [])]):
        labels, mids = row["labels"].split(","), row["mids"].split(",")
        if len(labels) != len(mids) or set(labels) - classes:
            raise InputError(
                f"{table}, line {line}: {row['labels']!r} are not classes of vocabulary.csv with a mid each"
            )
        if part == "dev" and row["split"] not in SPLITS:
            raise InputError(f"{table}, line {line}: the split {row['split']!r} is neither train nor val")
        clips.append(
            Clip(
                row["fname"],
                tree / AUDIO[part] / f"{plain_name(row['fname'], table, line)}.wav",
                split=SPLITS[row["split"]] if part == "dev" else "test",
                labels={"labels": labels, "mids": mids},
                source="FSD50K",
                licence=licences.get(row["fname"], "CC (see FSD50K.metadata)"),
            )
        )
    return clips


def _vocabulary(table: Path) -> set[str]:
    """The classes, from lines ``0,Accelerating_and_revving_and_vroom,/m/07q2z82``."""
    classes = set()
    for number, line in read_lines(table):
        fields = line.split(",")
        if len(fields) != 3:
            raise InputError(f"{table}, line {number}: {line[:40]!r} is not a number, a class and its identifier")
        classes.add(fields[1])
    return classes


def _licences(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        infos = json.loads(path.read_text(encoding="utf-8"))
        addresses = {name: str(info["license"]) for name, info in infos.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not JSON with the license of each clip ({error!r}): unpack it again") from error
    return {
        name: next((short for piece, short in LICENCES.items() if piece in address), address)
        for name, address in addresses.items()
    }

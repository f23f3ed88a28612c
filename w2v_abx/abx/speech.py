"""Speech to measure on: audio files and the items in them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from w2v_abx import audio
from w2v_abx.alignment.timed import Timed
from w2v_abx.audio.walking import AUDIO_ENDINGS, walk
from w2v_abx.clips import Corpus
from w2v_abx.errors import InputError
from w2v_abx.items.files import ItemFile, ItemSettings, require_stops
from w2v_abx.items.items import Items
from w2v_abx.items.names import bare
from w2v_abx.system.progress import tracked
from w2v_abx.system.text import nfc

if TYPE_CHECKING:
    from w2v_abx.corpora.espeak.corpus import Espeak

__all__ = ["Speech", "find_audio", "from_clips", "from_corpus", "from_item_file", "from_phones"]


NONE = "-"  # a label that a file lacks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """Items and, for every ``#file`` they name, its audio."""

    items: Items
    files: Mapping[str, Path]


def from_item_file(items: Path | str | None, root: Path | str | None) -> Speech:
    """Items from ``items`` over the audio anywhere below ``root``; see :func:`find_audio`.

    Raises:
        InputError: a path is missing, or an item names a file that is not below ``root``, or is there twice.
    """
    advice = "name the item file with abx.items and its audio with abx.root"
    path = _existing("abx.items", items, advice)
    _existing("abx.root", root, advice)
    read = Items.read(path)
    return Speech(read, find_audio(read, root))


def find_audio(items: Items, root: Path | str | None) -> dict[str, Path]:
    """The audio of each ``#file``, anywhere below ``root``.

    Files are named by their path below ``root`` or by their name alone, both with or without the ending: one that the
    audio does not have is passed over, where there is but one such file.

    Raises:
        InputError: ``root`` is missing, or a file is not below it, or is there twice.
    """
    folder = _existing("abx.root", root, "name the folder with the audio of the items")
    names = items.frame["#file"]
    wanted = set(names.unique())
    paths = [path for path in walk(folder, "abx.root") if path.suffix.lower() in AUDIO_ENDINGS]
    files = _named(paths, folder, {name: name for name in wanted})
    files |= _named(paths, folder, {bare(name): name for name in wanted - files.keys() if bare(name) != name})
    if missing := sorted(wanted - files.keys()):
        first = items.where(int(names.index_of(missing[0]) or 0))
        raise InputError(f"{first}: no audio below {root} for {len(missing)} files, the first being {missing[0]!r}")
    return files


def _named(paths: Sequence[Path], folder: Path, wanted: Mapping[str, str]) -> dict[str, Path]:
    """The audio of the names that items have for it, by what it may be called."""
    files: dict[str, Path] = {}
    for path in paths:
        whole = nfc(path.relative_to(folder).as_posix())
        calls = ({name, name.removesuffix(path.suffix)} & wanted.keys() for name in (whole, nfc(path.name)))
        for name in map(wanted.__getitem__, next(filter(None, calls), ())):
            if name in files:
                raise InputError(f"{path} and {files[name]} share a name; the items cannot tell them apart")
            files[name] = path
    return files


def _existing(key: str, path: Path | str | None, advice: str) -> Path:
    if path is None:
        raise InputError(f"{key} is missing; {advice}")
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"{key}={path} does not exist; {advice}")
    return found


def from_corpus(corpus: "Espeak") -> Speech:
    """The clips of a corpus and the item file that it writes."""
    files = {clip.key: clip.path for clip in corpus.clips()}
    return Speech(Items.read(corpus.item_file), files)


def from_clips(corpus: Corpus, columns: Sequence[str] | None = None) -> Speech:
    """Every clip as one item, whole words for instance, with the labels ``columns``.

    ``None``: every label that some clip has a single value of. What a clip lacks, or has empty, is written "-".

    Raises:
        InputError: a clip without one of the ``columns``, naming the labels it has; a span; no clip has a label.
        AudioError: a clip that cannot be read.
    """
    clips = corpus.clips()
    found = (label for clip in clips for label, value in clip.labels.items() if isinstance(value, str | int | float))
    names = list(dict.fromkeys(found)) if columns is None else columns
    if not names:
        raise InputError(f"the files of {corpus.name} have no labels: give abx.pattern, or abx.table and abx.columns")
    rows: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    for clip in tracked("lengths", clips):
        if clip.start or clip.end is not None:
            raise InputError(f"{clip.key} is a span of {clip.path}; whole files can be items, spans cannot")
        if missing := [column for column in columns or () if column not in clip.labels]:
            raise InputError(
                f"{clip.path}: no label {missing[0]!r} for abx.speech.columns; it has {', '.join(clip.labels)}"
            )
        seconds, _ = audio.info(clip.path)
        labels = {name: str(clip.labels.get(name, "")).strip() or NONE for name in names}
        rows.append({"#file": clip.key, "onset": "0", "offset": f"{seconds:.4f}", **labels})
        files[clip.key] = clip.path
    return Speech(Items(pl.DataFrame(rows)), files)


def from_phones(
    corpus: Corpus, items: ItemSettings | None = None, align: Callable[[Corpus], Timed] | None = None
) -> Speech:
    """The phones of a corpus's clips, or their triphones, as ``items`` says; their times from ``align``, if given.

    Raises:
        InputError: a clip with phones is a span of a file, no clip has phones, or none of them can be an item.
    """
    settings = items or ItemSettings()
    if settings.audio:
        raise InputError(f"items.audio={settings.audio} is for `w2v-abx prepare`; here the corpus's own files are read")
    timed = align(corpus) if align else Timed(corpus)
    require_stops(timed, settings)
    clips = timed.clips()
    for reason, whys in groupby(sorted(timed.untimed.values()), key=lambda why: why.reason):
        messages = [why.message for why in whys]
        log.warning("without phone times: %d clips, %s, the first: %s", len(messages), reason, messages[0])
    for clip in clips:
        if clip.labels.get("phones") and (clip.start or clip.end is not None):
            raise InputError(
                f"{clip.key} is a span of {clip.path}; only whole files can be measured on: let `w2v-abx prepare` "
                f"of {corpus.name} cut them with items.audio=FOLDER, and measure with abx=item_file"
            )
    found = ItemFile.of(clips, settings).items()
    named = set(found.frame["#file"].unique())
    return Speech(found, {clip.key: clip.path for clip in clips if clip.key in named})

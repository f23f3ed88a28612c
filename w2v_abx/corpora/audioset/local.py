"""AudioSet recordings that others downloaded: loose files, tar shards, parquet tables."""

import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import polars as pl

from w2v_abx import audio
from w2v_abx.audio.walking import AUDIO_ENDINGS, walk
from w2v_abx.corpora.audioset.source import FetchError, Recording, Segment
from w2v_abx.errors import InputError

__all__ = ["Local"]

ALREADY_CUT = 0.5  # s that a file may be longer than the segment and still be taken for the segment


class _Place(NamedTuple):
    """A loose file, ``size`` bytes at ``offset`` of a tar, or row ``offset`` of a parquet table."""

    file: Path
    ending: str
    start: float | None  # as the name says, in its own unit
    kind: str = "file"
    offset: int = 0
    size: int = 0


class Local:
    """Recordings below folders, or in single files, that others downloaded.

    Found are loose files, members of uncompressed tars (WebDataset shards among them) and rows of parquet tables in the
    layout of https://huggingface.co/datasets/agkphysics/AudioSet (``video_id``, ``audio`` with ``bytes`` and ``path``).
    A file is named ``ID`` or ``YID``, with ``_START`` and perhaps ``_END`` behind it, in seconds or milliseconds. One
    with a start holds that segment; one without holds the segment when it is as long as one, and else the whole video.

    The folders or files ``roots`` are listed once; of videos others than ``wanted`` nothing is remembered.

    Raises `InputError` for a root that is not there, a tar that is compressed or damaged, and a parquet table without
    these columns.
    """

    name = "local"

    def __init__(self, roots: Sequence[Path], wanted: set[str]) -> None:
        self.places: defaultdict[str, list[_Place]] = defaultdict(list)
        for root in roots:
            if not root.exists():
                raise InputError(f"corpus.fetching.local={root} does not exist: give a folder, a tar or a parquet file")
            for path in [root] if root.is_file() else walk(root, "corpus.fetching.local"):
                for video, place in _inside(path, wanted):
                    self.places[video].append(place)

    def copies(self, segment: Segment) -> Sequence[str]:
        """What there is of a segment, in the order of preference: each text changes when that copy does."""
        return [f"{place} {_state(place.file)}" for place in self._places(segment)]

    def open(self, segment: Segment, scratch: Path, copy: int) -> Recording:
        """Give the segment in one of its `copies`; raises `FetchError`. ``scratch`` is an empty folder to use."""
        place = [*self._places(segment)][copy]
        try:
            path = self._file(place, scratch)
            seconds, _ = audio.info(path)
        except audio.AudioError as error:
            raise FetchError("undecodable", str(error)) from error
        except OSError as error:
            raise FetchError("undecodable", f"{place.file} cannot be read ({error.strerror or error})") from error
        length = segment.end - segment.start
        if place.start is not None or seconds <= length + ALREADY_CUT:
            return Recording(path, 0.0, min(length, seconds))
        return Recording(path, segment.start, segment.end)

    def _places(self, segment: Segment) -> Iterator[_Place]:
        for place in self.places.get(segment.video, ()):
            if place.start is None or place.start in (segment.start, round(segment.start * 1000)):
                yield place

    def _file(self, place: _Place, scratch: Path) -> Path:
        if place.kind == "file":
            return place.file
        path = scratch / f"local{place.ending}"
        if place.kind == "tar":
            with place.file.open("rb") as tar:
                tar.seek(place.offset)
                path.write_bytes(tar.read(place.size))
            return path
        column = pl.scan_parquet(place.file, glob=False).select(pl.col("audio").struct.field("bytes"))
        content = column.slice(place.offset, 1).collect().item()
        if content is None:
            raise FetchError("missing", f"{place.file} holds no audio for it")
        path.write_bytes(content)
        return path


def _state(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size} {status.st_mtime_ns}"


def _inside(path: Path, wanted: set[str]) -> Iterator[tuple[str, _Place]]:
    ending = path.suffix.lower()
    if ending in AUDIO_ENDINGS:
        for video, start in _named(path.name, wanted):
            yield video, _Place(path, ending, start)
    elif ending == ".parquet":
        yield from _table(path, wanted)
    elif ending == ".tar":
        yield from _members(path, wanted)
    elif path.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise InputError(f"{path} is compressed, so that no clip can be taken out of its midst: unpack it to a .tar")


def _members(path: Path, wanted: set[str]) -> Iterator[tuple[str, _Place]]:
    """Only the bytes of plain files are ever read: names decide nothing about where anything is written."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                ending = PurePosixPath(member.name).suffix.lower()
                if member.isreg() and ending in AUDIO_ENDINGS:
                    for video, start in _named(PurePosixPath(member.name).name, wanted):
                        yield video, _Place(path, ending, start, "tar", member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined] # else every header stays in memory
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{path} is damaged or no plain tar ({error}): fetch it again or move it away") from error


def _table(path: Path, wanted: set[str]) -> Iterator[tuple[str, _Place]]:
    try:
        table = pl.scan_parquet(path, glob=False)
        schema = table.collect_schema()
        kind = schema.get("audio")
        if schema.get("video_id") != pl.String or not isinstance(kind, pl.Struct) or "bytes" not in kind.to_schema():
            raise InputError(
                f"{path} has the columns {', '.join(schema)}, not video_id and audio (bytes, path) as the Hugging Face "
                "mirror of AudioSet: move it away"
            )
        rows = table.select("video_id").with_row_index("row").filter(pl.col("video_id").is_in(list(wanted))).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is damaged or no parquet table ({error}): fetch it again or move it away") from error
    for row, video in rows.iter_rows():
        yield video, _Place(path, ".flac", None, "parquet", row)


def _named(name: str, wanted: set[str]) -> Iterator[tuple[str, float | None]]:
    """The wanted video that a file's name speaks of, if any, and the start in it. Ids may hold ``_`` and ``-``."""
    stem = name[: -len(PurePosixPath(name).suffix)]
    for numbers in range(3):
        video, *times = stem.rsplit("_", numbers)
        if len(times) < numbers or not all(re.fullmatch(r"\d+(\.\d+)?", time) for time in times):
            return
        for candidate in (video, video.removeprefix("Y")):
            if candidate in wanted:
                yield candidate, float(times[0]) if times else None
                return

"""`align=textgrid`: phone times from TextGrids; and the times of any corpus written to TextGrids."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from w2v_abx.alignment.timed import Timed
from w2v_abx.audio.walking import walk
from w2v_abx.clips import Clip, Corpus, Failure
from w2v_abx.errors import InputError
from w2v_abx.items.labels import TIERS, Interval, intervals, seconds_of
from w2v_abx.items.textgrids import ENDINGS, ROUNDING, SLACK_SECONDS, pick_tier, read_tiers, write_tiers
from w2v_abx.system.text import nfc, on_disk

__all__ = ["Annotated", "inside", "write_textgrids"]


class Annotated(Timed):
    """A corpus whose clips get their labels from TextGrids, in place of any that they had.

    A TextGrid belongs to a clip when its path below ``folder``, without ending, is the clip's key: then its times are
    the clip's. Or when it is the end of the audio file's path, as the Montreal Forced Aligner lays its output out
    (``SPEAKER/NAME.TextGrid``), or its name alone in a flat folder; then its times are the file's, and the intervals
    that lie wholly inside the clip are its. ``folder=None``: they lie beside the audio.

    ``tiers``: the tier of each label, or several names of which the first that is there is read. That of ``phones``
    must be there.

    A clip without a TextGrid (no_textgrid), with one that cannot be used (bad_textgrid) or that is not of its audio
    (labels_outside) stays as it is, with the reason in ``untimed``.

    Raises:
        InputError: the folder does not exist, no clip has a TextGrid that can be used, or two audio files share one.
    """

    closure_as_silence = None  # the corpus's own phones are replaced

    def __init__(
        self,
        corpus: Corpus,
        folder: Path | str | None = None,
        tiers: Mapping[str, str | Sequence[str] | None] | None = None,
    ) -> None:
        super().__init__(corpus)
        self.folder = None if folder is None else Path(folder).expanduser()
        if self.folder is not None and not self.folder.is_dir():
            raise InputError(
                f"align.folder={folder} is not a folder: give that of the TextGrids, or null for those beside the audio"
            )
        chosen = {label: label for label in TIERS} if tiers is None else tiers
        self.tiers = {
            label: [names] if isinstance(names, str) else list(names) for label, names in chosen.items() if names
        }
        if "phones" not in self.tiers:
            raise InputError("align.tiers lacks phones: name the tier that holds them")

    def labels(self, clips: Sequence[Clip]) -> Mapping[str, Mapping[str, Any] | Failure]:
        index = self._index()
        owners: dict[Path, Path] = {}
        found: dict[str, Mapping[str, Any] | Failure] = {}
        for clip in clips:
            path, own = self._textgrid(clip, index)
            if path is None:
                found[clip.key] = Failure("no_textgrid", f"{clip.key} has no TextGrid {self._place}")
                continue
            if owners.setdefault(path, clip.path) != clip.path:
                raise InputError(
                    f"{path} fits both {owners[path]} and {clip.path}: lay the TextGrids out as the audio is"
                )
            try:
                found[clip.key] = self._read(path, clip, whole_file=not own)
            except InputError as error:
                found[clip.key] = Failure("bad_textgrid", str(error))
        failures = [why for why in found.values() if isinstance(why, Failure)]
        if failures and len(failures) == len(found):
            raise InputError(
                f"no clip of {self.name} has a TextGrid that can be used; of the first: {failures[0].message}"
            )
        return found

    @property
    def _place(self) -> str:
        return "beside its audio" if self.folder is None else f"below {self.folder}"

    def _index(self) -> dict[str, list[Path]]:
        """The TextGrids below the folder, relative to it and without ending, by name."""
        index: dict[str, list[Path]] = {}
        if self.folder is not None:
            for path in sorted(walk(self.folder, "align.folder")):
                if path.suffix in ENDINGS:
                    index.setdefault(nfc(path.stem), []).append(path)
        return index

    def _textgrid(self, clip: Clip, index: Mapping[str, list[Path]]) -> tuple[Path | None, bool]:
        """The TextGrid of a clip, and whether it is named by the clip's key."""
        if self.folder is None:
            beside = [on_disk(clip.path.with_suffix(ending)) for ending in ENDINGS]
            return next((path for path in beside if path.exists()), None), False
        key = Path(nfc(clip.key))
        of_key = [path for path in index.get(key.name, []) if self._bare(path) == key]
        if of_key:
            return of_key[0], True
        wanted = Path(nfc(str(clip.path))).with_suffix("").parts
        fitting = [
            path
            for path in index.get(wanted[-1], [])
            if (parts := self._bare(path).parts) == wanted[len(wanted) - len(parts) :]
        ]
        return max(fitting, key=lambda path: len(path.parts), default=None), False

    def _bare(self, path: Path) -> Path:
        assert self.folder is not None
        return Path(nfc(str(path.relative_to(self.folder).with_suffix(""))))

    def _read(self, path: Path, clip: Clip, *, whole_file: bool) -> dict[str, Any] | Failure:
        tiers = read_tiers(path)
        seconds = seconds_of(clip.path) if whole_file else seconds_of(clip.path, clip.start, clip.end)
        if why := tiers.misfit(path, seconds):
            return why
        labels: dict[str, Any] = {}
        for label, names in self.tiers.items():
            rows = pick_tier(tiers, names)
            if rows is not None:
                labels[label] = inside(rows, clip) if whole_file else rows
        if "phones" not in labels:
            raise InputError(
                f"{path} has no tier {' or '.join(map(repr, self.tiers['phones']))} of intervals (align.tiers.phones); "
                f"its tiers are: {', '.join(tiers) or 'none'}"
            )
        return labels


def write_textgrids(clips: Iterable[Clip], folder: Path | str) -> tuple[int, int, int]:
    """Write ``FOLDER/KEY.TextGrid`` with the tiers words, phones and tones that a clip has.

    Clips with none of these labels get no file. A tier holds neither overlaps nor empty intervals, both of which TIMIT
    has: an interval is cut where the next one begins, and one that is shorter than 0.1 ms, or becomes so, is
    dropped.

    Returns:
        TextGrids written, intervals that were cut, and those that were dropped.

    Raises:
        InputError: no clip has any, or a label is no list of intervals; names the clip.
    """
    folder = Path(folder).expanduser()
    written = cut = dropped = 0
    for clip in clips:
        tiers: dict[str, list[Interval]] = {}
        for label in TIERS:
            rows = intervals(clip, label)
            apart, shortened = _apart(rows)
            cut, dropped = cut + shortened, dropped + len(rows) - len(apart)
            if apart:
                tiers[label] = apart
        if not tiers:
            continue
        path = folder / f"{clip.key}.TextGrid"
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"the key {clip.key!r} of {clip.path} leads out of textgrids={folder}")
        last = max(row.offset for rows in tiers.values() for row in rows)
        write_tiers(path, tiers, max(last, seconds_of(clip.path, clip.start, clip.end) or 0.0))
        written += 1
    if not written:
        raise InputError("no clip has phones, words or tones to write to TextGrids: choose align=ctc or align=textgrid")
    return written, cut, dropped


def _apart(rows: Sequence[Interval]) -> tuple[list[Interval], int]:
    """The intervals without overlaps and empty ones, and how many of them were cut."""
    apart: list[Interval] = []
    cut = 0
    end = float("inf")
    for row in reversed([row for row in rows if row.offset - row.onset >= ROUNDING]):
        shorter = row._replace(offset=end) if row.offset - end >= ROUNDING else row
        if shorter.offset - shorter.onset >= ROUNDING:
            cut += shorter != row
            apart.append(shorter)
            end = row.onset
    return apart[::-1], cut


def inside(rows: list[list[Any]], clip: Clip) -> list[list[Any]]:
    """Those wholly inside the clip, with times from its start."""
    if not clip.start and clip.end is None:
        return rows
    length = float("inf") if clip.end is None else clip.end - clip.start
    moved = [(onset - clip.start, offset - clip.start, symbol) for onset, offset, symbol in rows]
    return [
        [round(max(0.0, onset), 6), round(min(length, offset), 6), symbol]
        for onset, offset, symbol in moved
        if onset >= -SLACK_SECONDS and offset <= length + SLACK_SECONDS
    ]

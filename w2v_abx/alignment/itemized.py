"""`align=items`: phone times from ABX item files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w2v_abx.alignment.annotations import inside
from w2v_abx.alignment.timed import Timed
from w2v_abx.clips import Clip, Corpus, Failure
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.items.labels import misfit, seconds_of
from w2v_abx.items.textgrids import SLACK_SECONDS
from w2v_abx.system.text import nfc

__all__ = ["Itemized"]


class Itemized(Timed):
    """A corpus whose clips get the phones that item files list, in place of any that they had.

    An item belongs to a clip when its ``#file`` is the clip's key: then its times are the clip's. Or when it is the
    name of the audio file: then its times are the file's, and the items that lie wholly inside the clip are its. Either
    may have the audio's ending. Phones that are no items, such as those at the edges of pauses in some files, are not
    known from there.

    A clip without items (no_items), or with some that are not of its audio (labels_outside), stays as it is, with the
    reason in ``untimed``.

    Args:
        files: the item files.
        column: that holds the phone.

    Raises:
        InputError: a file cannot be read, lacks the column, or lists spans that overlap, as triphones do; or no
            clip has an item.
    """

    closure_as_silence = None  # the corpus's own phones are replaced

    def __init__(
        self, corpus: Corpus, files: str | os.PathLike[str] | Sequence[str] | None = None, column: str = "#phone"
    ) -> None:
        super().__init__(corpus)
        if not files:
            raise InputError("align.files is missing; give align.files=FILE or align.files=[FILE,FILE]")
        self.files = [files] if isinstance(files, str | os.PathLike) else list(files)
        self.column = column

    def labels(self, clips: Sequence[Clip]) -> Mapping[str, Mapping[str, Any] | Failure]:
        phones = self._phones()
        found: dict[str, Mapping[str, Any] | Failure] = {}
        for clip in clips:
            rows, of_file = (
                phones.get(name) or phones.get(name + clip.path.suffix, [])
                for name in map(nfc, (clip.key, clip.path.stem))
            )
            if not rows and of_file:
                last = of_file[-1][1]
                if why := misfit(f"the items of {clip.path.stem}", of_file[0][0], last, seconds_of(clip.path)):
                    found[clip.key] = why
                    continue
                rows = inside(of_file, clip)
            missing = Failure("no_items", f"{clip.key} has no items in {', '.join(map(str, self.files))}")
            found[clip.key] = {"phones": rows} if rows else missing
        if found and all(isinstance(why, Failure) for why in found.values()):
            raise InputError(
                f"no clip of {self.name} has items in {', '.join(map(str, self.files))}: their {FILE} is to be the "
                f"clip's key, such as {clips[0].key!r}, or its audio file's name"
            )
        return found

    def _phones(self) -> dict[str, list[list[Any]]]:
        """By file, ``[onset s, offset s, phone]`` in order; an item that is listed twice counts once."""
        phones: dict[str, dict[tuple[float, float, str], str]] = {}
        for path in self.files:
            items = Items.read(Path(path).expanduser())
            if self.column not in items.frame.columns:
                raise InputError(
                    f"{path} has no column {self.column!r} (align.column); its labels are: {', '.join(items.labels)}"
                )
            columns = (items.frame[name].to_list() for name in (FILE, ONSET, OFFSET, self.column))
            for row, (file, onset, offset, phone) in enumerate(zip(*columns, strict=True)):
                phones.setdefault(file, {}).setdefault((float(onset), float(offset), phone), items.where(row))
        return {file: self._ordered(found) for file, found in phones.items()}

    @staticmethod
    def _ordered(found: Mapping[tuple[float, float, str], str]) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for (onset, offset, phone), where in sorted(found.items()):
            if rows and onset < rows[-1][1] - SLACK_SECONDS:
                raise InputError(
                    f"{where}: the item at {onset:g} s begins before the one before it ends, at {rows[-1][1]:g} s: "
                    f"phone times need an item file of phones, and this may be one of triphones"
                )
            rows.append([onset if not rows else max(onset, rows[-1][1]), offset, phone])
        return rows

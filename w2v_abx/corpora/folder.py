"""Any folder of audio, labelled by a table, by its folders' names or by its files' names."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from w2v_abx.audio.walking import AUDIO_ENDINGS, walk
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.splits import held_out, hold_out
from w2v_abx.corpora.tables import read_rows
from w2v_abx.errors import InputError

__all__ = ["Folder"]


class Folder:
    """A corpus that needs no code: one YAML file says where labels come from.

    Args:
        name: of the corpus; names its shards' folder.
        root: folder of the audio, searched through all its folders. Hidden files are passed over.
        table: CSV or TSV (``,``, ``;`` or tab between columns, with a header), absolute or relative to ``root``.
            Its rows are the clips; without it, every audio file is one.
        file_column: the table's column of paths, relative to ``root``.
        label_column: the table's column of categories, several joined by ``|`` or ``;``. ``None``: not from the table.
        columns: more labels from the table, as ``{label: column}`` (``{speaker: speaker_id}``).
        label_pattern: regular expression on the name of the folder that a file lies in; its first group is the
            category. Without it the folder's name is. Used where neither table nor ``name_pattern`` gives ``labels``.
        name_pattern: regular expression on file names without ending; each named group becomes a label
            (``^(?P<digit>\\d)_(?P<speaker>[^_]+)_``).
        split_column: the table's column that holds train, valid or test.
        valid: the held-out clips, when no column says: ``{label: fold, values: ["4"]}``, or ``{fraction: 0.2,
            seed: 0}`` by a hash of each clip's key, so that new clips move no others (one clip at least is held out).
            ``fraction`` with ``label`` keeps clips of equal label, such as a speaker, together.
        source, licence: kept with every clip.

    Raises `InputError`, here or from `clips`, for a setting, column, label or pattern that does not fit, naming it and
    the valid choices. Audio that is missing or cannot be read is left to `w2v_abx.shards.prepare`, which counts it.
    """

    def __init__(
        self,
        name: str,
        root: str | Path,
        *,
        table: str | Path | None = None,
        file_column: str = "file",
        label_column: str | None = "label",
        columns: Mapping[str, str] | None = None,
        label_pattern: str | None = None,
        name_pattern: str | None = None,
        split_column: str | None = None,
        valid: Mapping[str, Any] | None = None,
        source: str = "",
        licence: str = "",
    ) -> None:
        self.name, self.source, self.licence = name, source, licence
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(
                f"{root} is not a folder: give the folder of {name}'s audio, with corpus.root=… for what is trained on "
                "or abx.root=… for what is measured"
            )
        self.table = None if table is None else self.root / Path(table).expanduser()
        self.file_column, self.label_column = file_column, label_column
        self.columns = dict(columns or {})
        self.label_pattern = _regex("label_pattern", label_pattern)
        self.name_pattern = _regex("name_pattern", name_pattern)
        self.split_column = split_column
        self.valid = held_out(valid)
        if self.label_pattern and not self.label_pattern.groups:
            raise InputError(f"corpus.label_pattern={label_pattern!r} needs a group, such as '^\\d+ - (.+)$'")
        if self.name_pattern and not self.name_pattern.groupindex:
            raise InputError(f"corpus.name_pattern={name_pattern!r} needs named groups, such as '(?P<speaker>[^_]+)'")
        if split_column and "values" not in self.valid:
            self.valid = {}  # a share is but the default
        if split_column and self.valid:
            raise InputError("corpus.split_column and corpus.valid both say what is held out: set one of them to null")
        if self.table is None and (split_column or self.columns):
            raise InputError("corpus.columns and corpus.split_column are columns of corpus.table: set it too")

    def clips(self) -> list[Clip]:
        """Every clip, sorted by key: its path below ``root`` without the ending (with it, where two would be alike)."""
        found = list(self._from_table()) if self.table else [(path, {}, "train") for path in self._files()]
        keys = _keys(self.root, [path for path, _, _ in found])
        labels_by_folder = self._labels_by_folder([path for path, _, _ in found])
        clips = []
        for path, given, split in found:
            labels = self._from_name(path) | given
            if "labels" not in labels and labels_by_folder:
                labels["labels"] = [self._folder_label(path)]
            clips.append(Clip(keys[path], path, split=split, labels=labels, source=self.source, licence=self.licence))
        return hold_out(sorted(clips, key=lambda clip: clip.key), self.valid)

    def _files(self) -> list[Path]:
        files = [path for path in walk(self.root) if path.suffix.lower() in AUDIO_ENDINGS]
        if not files:
            raise InputError(
                f"corpus.root={self.root} holds no audio: no file there or below ends in {' '.join(AUDIO_ENDINGS)}"
            )
        return files

    def _from_table(self) -> Iterator[tuple[Path, dict[str, Any], str]]:
        assert self.table is not None
        lines: dict[Path, int] = {}
        wanted = [self.file_column, self.label_column, self.split_column, *self.columns.values()]
        for line, row in read_rows(self.table, [column for column in wanted if column], setting="corpus.table"):
            if not row[self.file_column]:
                raise InputError(f"{self.table}, line {line}: the column {self.file_column!r} is empty")
            path = self.root / row[self.file_column]
            if path in lines:
                raise InputError(
                    f"{self.table}: lines {lines[path]} and {line} name the same file {row[self.file_column]}: "
                    f"give each file one row, with its labels joined by |"
                )
            lines[path] = line
            labels: dict[str, Any] = {field: row[column] for field, column in self.columns.items() if row[column]}
            if self.label_column:
                labels["labels"] = _categories(row[self.label_column])
            split = row[self.split_column] if self.split_column else "train"
            if split not in SPLITS:
                raise InputError(
                    f"{self.table}, line {line}: {self.split_column}={split!r} is no split: use {', '.join(SPLITS)}"
                )
            yield path, labels, split
        if not lines:
            raise InputError(f"{self.table} has a header but no rows")

    def _from_name(self, path: Path) -> dict[str, Any]:
        if not self.name_pattern:
            return {}
        match = self.name_pattern.search(path.stem)
        if not match:
            raise InputError(
                f"{path}: its name does not match corpus.name_pattern={self.name_pattern.pattern!r}: widen the pattern "
                f"or move the file away"
            )
        groups: dict[str, Any] = {field: value for field, value in match.groupdict().items() if value is not None}
        if "labels" in groups:
            groups["labels"] = _categories(groups["labels"])
        return groups

    def _labels_by_folder(self, paths: Iterable[Path]) -> bool:
        """Whether folders name categories: not where something else does, nor where all files lie in one heap."""
        if self.label_pattern:
            return True
        return self.table is None and any(path.parent != self.root for path in paths)

    def _folder_label(self, path: Path) -> str:
        if path.parent == self.root:
            raise InputError(f"{path} lies in no folder that names its category: move it into one of {self.root}'s")
        if not self.label_pattern:
            return path.parent.name
        match = self.label_pattern.search(path.parent.name)
        if not match or not match[1]:
            raise InputError(
                f"{path.parent}: the folder's name does not match corpus.label_pattern={self.label_pattern.pattern!r}"
            )
        return match[1]


def _keys(root: Path, paths: list[Path]) -> dict[Path, str]:
    named = {path: (path.relative_to(root) if path.is_relative_to(root) else path) for path in paths}
    bare = [str(name.with_suffix("")) for name in named.values()]
    count = Counter(bare)
    return {
        path: name.as_posix() if count[key] > 1 else Path(key).as_posix()
        for (path, name), key in zip(named.items(), bare, strict=True)
    }


def _regex(setting: str, pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"corpus.{setting}={pattern!r} is not a regular expression ({error})") from error


def _categories(value: str) -> list[str]:
    return [category.strip() for category in re.split(r"[|;]", value) if category.strip()]

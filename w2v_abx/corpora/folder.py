"""Any folder of audio, labelled by tables, by its folders' names or by its files' names."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from w2v_abx import audio
from w2v_abx.audio.walking import counted, recordings
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.columns import Column, Row, regex
from w2v_abx.corpora.listing import read_lists, read_tables
from w2v_abx.corpora.published import Archive, locate
from w2v_abx.corpora.splits import HeldOut, hold_out
from w2v_abx.corpora.tables import read_lines
from w2v_abx.errors import InputError
from w2v_abx.system.checks import boolean, choice, fail, number, several
from w2v_abx.system.progress import tracked
from w2v_abx.system.text import nfc

__all__ = ["Folder"]

SEPARATORS = "|;"  # between the categories of one clip


@dataclass(frozen=True, eq=False)
class Folder:
    """A corpus that needs no code: one YAML file says where files and labels are.

    ``conf/corpus/folder.yaml`` explains every setting.

    Raises `InputError`, here or from `clips`, for a setting, column, label or pattern that does not fit, naming it and
    the valid choices. Audio that is missing or cannot be read is left to `w2v_abx.shards.prepare`, which counts it.
    """

    name: str
    root: str | Path
    table: str | Path | Mapping[str, str | None] | None = None
    file_column: str | Mapping[str, Any] = "file"
    label_column: str | Mapping[str, Any] | None = "label"
    columns: Mapping[str, str | Sequence[str] | Mapping[str, Any]] | None = None
    quotes: bool = True
    details: str | None = None
    vocabulary: str | None = None
    label_pattern: str | None = None
    name_pattern: str | None = None
    language: str | None = None
    key: str = "path"
    only: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)
    cut: Mapping[str, float | None] = field(default_factory=dict)
    split_column: str | Mapping[str, Any] | None = None
    split_lists: Mapping[str, str] = field(default_factory=dict)
    valid: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    more: str | None = None
    apart: str | None = None
    below: Sequence[str] = ()
    archives: Sequence[Mapping[str, Any]] = ()
    download: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    obtain: str = ""
    source: str = ""
    licence: str | Mapping[str, Any] = ""

    def __post_init__(self) -> None:
        choice("corpus.key", self.key, ("path", "name"))
        boolean("corpus.quotes", self.quotes)
        for folder, seconds in self.cut.items():
            number(f"corpus.cut.{folder}", seconds, above=0, unit="seconds", optional="to leave the folder out")
        for setting, splits in (("corpus.table", self._files), ("corpus.split_lists", self.split_lists)):
            for file, split in splits.items():
                choice(f"{setting}.{file}", split, SPLITS, optional="for what split_column or valid say")
        if not self._files and (self.split_column or self.columns or self.more):
            raise InputError("corpus.columns, split_column and more are columns of corpus.table: set it too")
        if self._files and self.split_lists:
            raise InputError("corpus.split_lists and corpus.table both list the files: set one of them to null")
        if self.split_column and self._valid:
            raise InputError("corpus.split_column and corpus.valid both say what is held out: set one of them to null")
        if self._label_pattern and not self._label_pattern.groups:
            raise InputError(f"corpus.label_pattern={self.label_pattern!r} needs a group, such as '^\\d+ - (.+)$'")
        if self._name_pattern and not self._name_pattern.groupindex:
            raise InputError(
                f"corpus.name_pattern={self.name_pattern!r} needs named groups, such as '(?P<speaker>[^_]+)'"
            )
        if boolean("corpus.download", self.download) and not self.archives:
            raise fail("corpus.download", True, "false", self.obtain or f"{self.name} has no corpus.archives")
        if not (self.archives or self.below) and not self._root.is_dir():
            raise InputError(
                f"{self.root} is not a folder: give the folder of {self.name}'s audio, with corpus.root=… for what is "
                "trained on or abx.root=… for what is measured"
            )

    def clips(self) -> list[Clip]:
        """Every clip, sorted by key; see ``key`` and, for what is left out, ``only``, ``cut`` and ``apart``."""
        tree = self._tree()
        listed = self._listed(tree)
        keys = self._keys(tree, [file.path for file in listed])
        found = self._apart(self._only(list(zip(listed, self._labels(tree, listed), strict=True))))
        clips = [self._clip(keys[file.path], file, labels) for file, labels in found]
        clips = hold_out(sorted(clips, key=lambda clip: clip.key), self._valid, HeldOut.parse("corpus.test", self.test))
        return sorted([*clips, *self._cut(tree)], key=lambda clip: clip.key)

    @property
    def passed_over(self) -> dict[str, int]:
        """How many files of the folder are not audio, by ending; none where tables say which files are clips."""
        return {} if self._files else self._recordings[1]

    @cached_property
    def _recordings(self) -> tuple[list[Path], dict[str, int]]:
        return recordings(self._tree())

    @cached_property
    def _root(self) -> Path:
        return Path(self.root).expanduser()

    @cached_property
    def _files(self) -> Mapping[str, str | None]:
        """The tables, and the split of all that each lists."""
        if self.table is None or isinstance(self.table, Mapping):
            return self.table or {}
        return {str(self.table): None}

    @cached_property
    def _valid(self) -> HeldOut | None:
        valid = HeldOut.parse("corpus.valid", self.valid)
        said = self.split_column or self.split_lists or any(self._files.values())
        return None if said and valid and valid.values is None else valid  # a fraction is but the default

    @cached_property
    def _columns(self) -> dict[str, Column]:
        columns = {}
        if self._files and self.label_column:
            columns["labels"] = Column.parse("corpus.label_column", self.label_column, SEPARATORS)
        return columns | {
            label: Column.parse(f"corpus.columns.{label}", given) for label, given in (self.columns or {}).items()
        }

    @cached_property
    def _licence(self) -> Column | None:
        return Column.parse("corpus.licence", self.licence) if isinstance(self.licence, Mapping) else None

    @cached_property
    def _label_pattern(self) -> re.Pattern[str] | None:
        return None if self.label_pattern is None else regex("corpus.label_pattern", self.label_pattern)

    @cached_property
    def _name_pattern(self) -> re.Pattern[str] | None:
        return None if self.name_pattern is None else regex("corpus.name_pattern", self.name_pattern)

    def _tree(self) -> Path:
        if not (self.archives or self.below):
            return self._root
        archives = [Archive.parse("corpus.archives", archive) for archive in self.archives]
        holds = next(iter([*self._files, *self.split_lists]), ".")
        return locate(
            self._root, holds, self.below, archives, download=self.download, layout=self.obtain, limits=self.limits
        )

    def _listed(self, tree: Path) -> list[Row]:
        if self._files:
            split = Column.parse("corpus.split_column", self.split_column) if self.split_column else None
            file = Column.parse("corpus.file_column", self.file_column)
            read = [*self._columns.values(), *filter(None, [self._licence])]
            needed = [name for column in read for name in column.needed]
            return read_tables(
                tree, self._files, file, split, needed, quotes=self.quotes, more=self.more, details=self.details
            )
        found = {file.path: file for file in read_lists(tree, self.split_lists)}
        for path in self._recordings[0]:
            if not any(path.is_relative_to(tree / part) for part in self.cut):
                found.setdefault(path, Row({}, str(path), path))
        if not found and not self.cut:
            files = counted(self.passed_over) if self.passed_over else "there is no file"
            raise InputError(f"corpus.root={tree} holds no audio: {files}")
        return list(found.values())

    def _keys(self, tree: Path, paths: list[Path]) -> dict[Path, str]:
        if self.key == "name":
            keys = {path: nfc(path.stem) for path in paths}
            if len(set(keys.values())) < len(keys):
                key, _ = Counter(keys.values()).most_common(1)[0]
                raise InputError(f"several files of {tree} are named {key!r}: set corpus.key=path")
            return keys
        names = {path: (path.relative_to(tree) if path.is_relative_to(tree) else path) for path in paths}
        count = Counter(name.with_suffix("") for name in names.values())
        # Where two would be alike, the endings tell them apart.
        return {
            path: nfc((name if count[name.with_suffix("")] > 1 else name.with_suffix("")).as_posix())
            for path, name in names.items()
        }

    def _clip(self, key: str, file: Row, labels: Mapping[str, Any]) -> Clip:
        licence = self._licence.read(file) if self._licence else str(self.licence)
        return Clip(key, file.path, split=file.split or "train", labels=labels, source=self.source, licence=licence)

    def _labels(self, tree: Path, files: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """The labels of each file."""
        # Folders name categories: not where tables do, nor where all files lie in one.
        in_folders = self._label_pattern or (not self._files and any(file.path.parent != tree for file in files))
        known = {part.strip() for _, line in self._vocabulary(tree) for part in line.split(",")}
        for file in files:
            labels: dict[str, Any] = {"language": self.language} if self.language else {}
            labels |= self._from_name(tree, file)
            for label, column in self._columns.items():
                value = column.read_list(file) if column.separators else column.read(file)
                if value or label == "labels":
                    labels[label] = value
            if in_folders and "labels" not in labels:
                labels |= self._from_folder(tree, file)
            if known and (strange := set(labels.get("labels", ())) - known):
                raise InputError(f"{file.where}: {min(strange)!r} is not in {tree / (self.vocabulary or '')}")
            yield labels

    def _vocabulary(self, tree: Path) -> Iterator[tuple[int, str]]:
        return read_lines(tree / self.vocabulary) if self.vocabulary else iter(())

    def _from_name(self, tree: Path, file: Row) -> dict[str, Any]:
        if not self._name_pattern:
            return {}
        path = file.path.with_suffix("")
        whole = "/" in self._name_pattern.pattern and path.is_relative_to(tree)
        match = self._name_pattern.search(nfc(path.relative_to(tree).as_posix() if whole else path.name))
        if not match:
            raise InputError(
                f"{file.path}: its name does not match corpus.name_pattern={self.name_pattern!r}: widen the pattern or "
                "move the file away"
            )
        groups: dict[str, Any] = {label: value for label, value in match.groupdict().items() if value is not None}
        if "labels" in groups:
            groups["labels"] = Column(separators=SEPARATORS).split(groups["labels"])
        return groups

    def _from_folder(self, tree: Path, file: Row) -> dict[str, Any]:
        folder = file.path.parent
        if folder == tree:
            raise InputError(f"{file.where}: {file.path.name} lies in no folder that names its category: move it")
        if not self._label_pattern:
            return {"labels": [nfc(folder.name)]}
        match = self._label_pattern.search(nfc(folder.name))
        if not match or not match[1]:
            raise InputError(f"{folder}: the folder's name does not match corpus.label_pattern={self.label_pattern!r}")
        return {"labels": [match[1]]} | {label: value for label, value in match.groupdict().items() if value}

    def _only(self, found: list[tuple[Row, dict[str, Any]]]) -> list[tuple[Row, dict[str, Any]]]:
        """Those that have one of the values asked for, in a label or a column."""
        for name, wanted in self.only.items():
            if wanted is None:
                continue
            held = [labels.get(name, file.values.get(name, ())) for file, labels in found]
            values = [{value} if isinstance(value, str) else set(value) for value in held]
            given = [nfc(str(value)) for value in wanted] if isinstance(wanted, list | tuple) else wanted
            chosen = set(several(f"corpus.only.{name}", given, sorted(set().union(*values)), optional="for all"))
            found = [one for one, its in zip(found, values, strict=True) if its & chosen]
        return found

    def _apart(self, found: list[tuple[Row, dict[str, Any]]]) -> list[tuple[Row, dict[str, Any]]]:
        """All but those of ``more`` that share the label ``apart`` with a clip that is not for training."""
        if self.apart is None:
            return found
        for file, labels in found:
            if self.apart not in labels:
                raise InputError(f"{file.where}: there is no {self.apart}, by which corpus.apart keeps splits apart")
        held = {labels[self.apart] for file, labels in found if file.split in ("valid", "test")}
        return [(file, labels) for file, labels in found if not file.more or labels[self.apart] not in held]

    def _cut(self, tree: Path) -> Iterator[Clip]:
        """Clips of the recordings in the folders that ``cut`` names, in the order train, valid, test."""
        lengths = [(tree / folder, float(seconds)) for folder, seconds in self.cut.items() if seconds]
        found = [(path, seconds) for folder, seconds in lengths for path in recordings(folder)[0]]
        for path, seconds in tracked("lengths", found):
            key, row = nfc(path.relative_to(tree).with_suffix("").as_posix()), Row({}, str(path), path)
            try:
                count = int(audio.info(path)[0] / seconds)
            except audio.AudioError:  # for `prepare` to count
                yield self._clip(key, row, {})
                continue
            for place in range(count):
                split = SPLITS[max(0, place * 10 // count - 7)]  # the last two tenths are valid and test
                clip = self._clip(f"{key}-{place:04d}", row._replace(split=split), {"labels": [path.parent.name]})
                yield replace(clip, start=place * seconds, end=(place + 1) * seconds)

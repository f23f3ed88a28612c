"""Any folder of audio, labelled by a table, by its folders' names or by its files' names."""

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from w2v_abx.corpora.clip import SPLITS, Clip
from w2v_abx.errors import InputError

__all__ = ["AUDIO_ENDINGS", "Folder"]

AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")


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
        self.valid = _held_out(valid)
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
        return self._hold_out(sorted(clips, key=lambda clip: clip.key))

    def _files(self) -> list[Path]:
        files = [path for path in _walk(self.root) if path.suffix.lower() in AUDIO_ENDINGS]
        if not files:
            raise InputError(
                f"corpus.root={self.root} holds no audio: no file there or below ends in {' '.join(AUDIO_ENDINGS)}"
            )
        return files

    def _from_table(self) -> Iterator[tuple[Path, dict[str, Any], str]]:
        assert self.table is not None
        lines: dict[Path, int] = {}
        wanted = [self.file_column, self.label_column, self.split_column, *self.columns.values()]
        for line, row in _rows(self.table, [column for column in wanted if column]):
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

    def _hold_out(self, clips: list[Clip]) -> list[Clip]:
        if not self.valid:
            return clips
        label = self.valid.get("label")
        if label:
            without = next((clip for clip in clips if not isinstance(clip.labels.get(label), str)), None)
            if without:
                known = ", ".join(sorted(key for key, value in without.labels.items() if isinstance(value, str)))
                raise InputError(
                    f"corpus.valid.label={label!r}: {without.path} has no such label (single labels: {known or 'none'})"
                )
        groups = {clip.key: clip.labels[label] if label else clip.key for clip in clips}
        present = sorted(set(groups.values()))
        if "values" in self.valid:
            held = {str(value) for value in self.valid["values"]}
            if unknown := sorted(held.difference(present)):
                raise InputError(
                    f"corpus.valid.values: no clip has {label}={unknown[0]!r} (values: {', '.join(present[:20])})"
                )
        else:
            rank = {group: _uniform(f"{self.valid.get('seed', 0)}/{group}") for group in present}
            held = {group for group in present if rank[group] < self.valid["fraction"]}
            # A handful of clips may fall on one side altogether, and training needs both.
            held = held or {min(present, key=rank.__getitem__)}
            if len(held) == len(present) > 1:
                held.remove(max(present, key=rank.__getitem__))
        if len(held) == len(present):
            raise InputError(f"corpus.valid={self.valid} holds out every clip: leave some to train on")
        return [replace(clip, split="valid") if groups[clip.key] in held else clip for clip in clips]


def _walk(folder: Path) -> Iterator[Path]:
    """What lies in a folder and below, sorted, hidden entries left out, linked folders followed once.

    A folder that is named like audio is given as if it were a file: reading it fails, and so it is counted.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}): check corpus.root and its permissions")

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        like_audio = [name for name in folders if Path(name).suffix.lower() in AUDIO_ENDINGS]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in like_audio)
        yield from (Path(parent) / name for name in sorted(files + like_audio) if not name.startswith("."))


def _rows(table: Path, wanted: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and values of each row, spaces around them removed."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = "\t" if table.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for column in wanted:
                if header.count(column) != 1:
                    problem = "has twice" if column in header else "lacks"
                    raise InputError(
                        f"{table} {problem} the column {column!r}; its columns are: {', '.join(header) or 'none'}"
                    )
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise InputError(
                        f"{table}, line {reader.line_num}: {len(values)} values where the header has {len(header)}"
                    )
                yield reader.line_num, dict(zip(header, (value.strip() for value in values), strict=True))
    except FileNotFoundError:
        raise InputError(f"corpus.table={table} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"corpus.table={table} cannot be read as a UTF-8 CSV or TSV ({error})") from error


def _keys(root: Path, paths: list[Path]) -> dict[Path, str]:
    named = {path: (path.relative_to(root) if path.is_relative_to(root) else path) for path in paths}
    bare = [str(name.with_suffix("")) for name in named.values()]
    count = Counter(bare)
    return {
        path: name.as_posix() if count[key] > 1 else Path(key).as_posix()
        for (path, name), key in zip(named.items(), bare, strict=True)
    }


def _held_out(valid: Mapping[str, Any] | None) -> dict[str, Any]:
    settings = {key: value for key, value in (valid or {}).items() if value is not None}
    if "values" in settings:  # a share is but the default
        settings = {key: value for key, value in settings.items() if key not in ("fraction", "seed")}
    form = set(settings)
    if settings and not (form == {"label", "values"} or {"fraction"} <= form <= {"fraction", "seed", "label"}):
        raise InputError(
            f"corpus.valid has the keys {', '.join(sorted(form))}: give label and values, or fraction (with "
            f"seed and label if wanted), and set the others to null"
        )
    fraction = settings.get("fraction", 0.5)
    if not isinstance(fraction, int | float) or not 0 < fraction < 1:
        raise InputError(f"corpus.valid.fraction={fraction!r} must lie between 0 and 1")
    if isinstance(settings.get("values", []), str):
        raise InputError(f"corpus.valid.values={settings['values']!r} must be a list, such as [{settings['values']}]")
    return settings


def _regex(setting: str, pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"corpus.{setting}={pattern!r} is not a regular expression ({error})") from error


def _categories(value: str) -> list[str]:
    return [category.strip() for category in re.split(r"[|;]", value) if category.strip()]


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48

"""Read and fetch one corpus of emotional speech, as a description of it says."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

from w2v_abx.audio.walking import walk
from w2v_abx.corpora.columns import Column, Row, regex
from w2v_abx.corpora.published import Archive, fetch, fetch_files
from w2v_abx.corpora.tables import parse_lines, read_rows
from w2v_abx.errors import InputError
from w2v_abx.system.checks import choice
from w2v_abx.system.downloads import download
from w2v_abx.system.text import read_text

__all__ = ["EMOTIONS", "Source"]

# RAVDESS's eight, which cover all corpora but JL-Corpus, and the six secondary ones of that. "surprised" holds
# RAVDESS's surprised, the surprise of SAVEE, ESD and MELD, and TESS's pleasant surprise; only RAVDESS has calm.
# fmt: off
EMOTIONS = (
    "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised",
    "anxious", "apologetic", "assertive", "concerned", "encouraging", "excited",
)
# fmt: on
POINTER, POINTER_BYTES = b"version https://git-lfs", 200  # how a Git LFS pointer begins, and its greatest size
# All that is no letter, digit, or apostrophe within a word.
UNSPOKEN = re.compile(r"(?:[^\w']|_|(?<!\w)'|'(?!\w))+")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Tables whose rows say more of the files; see ``conf/corpus/emotion.yaml``."""

    file: str
    key: str
    of: str
    line: str | None = None
    encoding: str = ""

    def rows(self, path: Path) -> dict[str, dict[str, str]]:
        """Read one table: its rows by their key."""
        if self.line is None:
            wanted = re.findall(r"\{(\w+)\}", self.key)
            found = [row for _, row in read_rows(path, wanted)]
        else:
            found = parse_lines(path, self._parse, otherwise=self.encoding)
        return {self.key.format(**row): row for row in found}

    def _parse(self, line: str) -> dict[str, str]:
        if not (match := re.fullmatch(self.line or "", line)):
            raise InputError(f"{line!r} does not fit {self.line!r}")
        return match.groupdict()


@dataclass(frozen=True)
class Source:
    """One corpus: how its files are named and labelled, and how it is fetched; see ``conf/corpus/emotion.yaml``."""

    title: str
    licence: str
    obtain: str
    pattern: str
    example: str
    key: str
    columns: Mapping[str, Any]
    endings: Sequence[str] = (".wav",)
    table: Mapping[str, str] | None = None
    sentences: int | None = None
    archives: Sequence[Mapping[str, Any]] = ()
    listed: Mapping[str, Any] = field(default_factory=dict)
    dataverse: str | None = None
    doi: str | None = None
    _tables: dict[str, tuple[Path, dict[str, dict[str, str]]]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        groups = regex("corpus.sources.pattern", self.pattern).groupindex
        if not {"speaker", "emotion"} <= set(self.columns):
            raise InputError(f"corpus.sources: {self.title} needs the columns speaker and emotion")
        if self.sentences is not None and "number" not in groups:
            raise InputError(f"corpus.sources: {self.title} counts sentences, so its pattern needs the group number")
        _ = self._table  # TypeError for a key that is none of its

    @property
    def published(self) -> bool:
        """Whether it can be fetched."""
        return bool(self.archives or self.listed or self.dataverse)

    def files(self, folder: Path) -> Iterator[Path]:
        """The audio below ``folder``, which need not be there."""
        found = walk(folder) if folder.is_dir() else iter(())
        return (path for path in found if path.suffix.lower() in self.endings)

    def read(self, folder: Path) -> Iterator[tuple[str, Path, dict[str, str]]]:
        """Read name, path and labels of each recording below ``folder`` that has an emotion; a warning counts others.

        Raises:
            InputError: a name that does not fit, a missing table, a speaker of unknown name or sex, a Git LFS pointer.
        """
        files, without = list(self.files(folder)), []
        for path in files:
            match = re.fullmatch(f"(?:.*/)?{self.pattern}", path.relative_to(folder).with_suffix("").as_posix())
            if not match:
                raise InputError(f"{path} is not named as {self.title} is ({self.example}): move it away")
            values = {name: value or "" for name, value in match.groupdict().items()} | {"name": path.stem}
            values |= {"emotion": values.get("emotion", "").lower()}
            table, row = self._row(folder, values)
            labels = self._labels(Row(row | values, str(path)))
            if "emotion" not in labels:
                without.append(path)
                continue
            choice(f"{path.name} of {self.title}: emotion", labels["emotion"], EMOTIONS)
            if "speaker" not in labels or ("sex" in self.columns and labels.get("sex") not in ("female", "male")):
                lacks = "sex" if "speaker" in labels else "speaker"
                raise InputError(f"{table or self.title} does not give the {lacks} of {path.name}")
            if path.is_file() and path.stat().st_size < POINTER_BYTES and path.read_bytes().startswith(POINTER):
                raise InputError(f"{path} only points to its audio: run `git lfs pull` in {folder}")
            if self.sentences is not None:
                labels["sentence"] = str((int(values["number"]) - 1) % self.sentences + 1)
            yield self.key.format(**values | {"speaker": labels["speaker"]}), path, labels
        if without:
            log.warning(
                "%d of %d recordings of %s have no emotion that counts here, and are left out: %s%s",
                len(without), len(files), self.title, without[0].name, ", …" if len(without) > 1 else "",
            )  # fmt: skip

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return {label: Column.parse(f"corpus.sources.{label}", given) for label, given in self.columns.items()}

    @cached_property
    def _table(self) -> Table | None:
        return Table(**self.table) if self.table else None

    def _row(self, folder: Path, values: Mapping[str, str]) -> tuple[Path | None, dict[str, str]]:
        """The table that a file stands in, and its row."""
        if (table := self._table) is None:
            return None, {}
        name = table.file.format(**{key: escape(value) for key, value in values.items()})
        if name not in self._tables:
            path = next(iter(sorted(folder.glob(name))), None)
            if path is None:
                raise InputError(f"{folder / name} does not exist: {self.title} is {self.obtain}")
            self._tables[name] = path, table.rows(path)
        path, rows = self._tables[name]
        return path, rows.get(table.of.format(**values), {})

    def _labels(self, row: Row) -> dict[str, str]:
        labels = {label: column.read(row) for label, column in self._columns.items()}
        if "text" in labels:
            straight = labels["text"].lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
            labels["text"] = UNSPOKEN.sub(" ", straight).strip()
        return {label: value for label, value in labels.items() if value}

    def fetch(self, folder: Path, limits: Mapping[str, Any]) -> None:
        """Fill ``folder``, going on where it stopped."""
        fetch([Archive.parse("corpus.sources.archives", archive) for archive in self.archives], folder, limits)
        if self.listed:
            form = self.listed
            for table in filter(None, (form["table"], (self.table or {}).get("file"))):
                download(form["tables"].format(name=table), folder / table)
            rows = read_rows(folder / form["table"], [form["column"]])
            named = {name for _, row in rows if (name := row[form["column"]])}
            names = named.difference(form["without"]).union(form["besides"])
            files = {f"{name}.wav": Archive(form["url"].format(name=name)) for name in names}
            fetch_files(files, folder / form["folder"])
        if self.dataverse:
            self._fetch_dataset(folder)

    def _fetch_dataset(self, folder: Path) -> None:
        """Every recording that the Dataverse API lists."""
        listing = download(f"{self.dataverse}/datasets/:persistentId/?persistentId={self.doi}", folder / "files.json")
        try:
            entries = json.loads(read_text(listing))["data"]["latestVersion"]["files"]
            files = {
                str(file["filename"]): Archive(
                    f"{self.dataverse}/access/datafile/{int(file['id'])}", md5=file.get("md5")
                )
                for file in (entry["dataFile"] for entry in entries)
                if re.fullmatch(self.pattern, Path(file["filename"]).stem)
            }
        except (ValueError, KeyError, TypeError) as error:
            listing.unlink()
            problem = f"{self.dataverse} does not list the files of {self.doi} ({error!r}): fetch {self.title} by hand"
            raise InputError(problem) from error
        fetch_files(files, folder)

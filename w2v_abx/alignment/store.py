"""What was computed for a clip, stored from one run to the next."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from w2v_abx.errors import InputError

__all__ = ["Store"]

FLUSH_SECONDS = 2.0  # of work that a kill can lose
MAX_VARIABLES = 500  # SQLite takes at least 999 variables in one statement


class Store:
    """JSON values by digest in one SQLite file, which several processes may share.

    As a context: what is put is written every two seconds and at the end. Raises InputError where the file cannot be
    read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: dict[str, str] = {}
        self._written = time.monotonic()
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60)
            self._database.execute("CREATE TABLE IF NOT EXISTS results (digest TEXT PRIMARY KEY, result TEXT NOT NULL)")
            self._database.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._write()
        finally:
            self._database.close()

    def get(self, digests: Iterable[str]) -> dict[str, Any]:
        """The values that there are."""
        return {digest: json.loads(result) for digest, result in self._rows("digest, result", digests)}

    def has(self, digests: Iterable[str]) -> set[str]:
        """Those that there are."""
        return {digest for (digest,) in self._rows("digest", digests)}

    def _rows(self, columns: str, digests: Iterable[str]) -> Iterator[tuple[str, ...]]:
        wanted = list(digests)
        with self._explained():
            for start in range(0, len(wanted), MAX_VARIABLES):
                some = wanted[start : start + MAX_VARIABLES]
                marks = ",".join("?" * len(some))
                yield from self._database.execute(f"SELECT {columns} FROM results WHERE digest IN ({marks})", some)

    def put(self, digest: str, value: Any) -> None:
        self._waiting[digest] = json.dumps(value, ensure_ascii=False)
        if time.monotonic() - self._written > FLUSH_SECONDS:
            self._write()

    def _write(self) -> None:
        with self._explained(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", self._waiting.items())
        self._waiting.clear()
        self._written = time.monotonic()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"{self.path} cannot be used as the store of results ({error}): make room, or remove it if damaged"
            ) from error

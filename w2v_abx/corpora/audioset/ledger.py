"""The status of each clip, in an SQLite file that outlives a kill and that several processes share."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from w2v_abx.errors import InputError
from w2v_abx.system.locks import alone

__all__ = ["Ledger"]

VERSION = 1
DAY = 86_400.0  # s
# fate: the status. attempts: tries over all runs. time: of the last, s since 1970. settings: stands for what decides
# which clips can be had.
SCHEMA = """
CREATE TABLE IF NOT EXISTS clips (
    key TEXT PRIMARY KEY, video TEXT NOT NULL, fate TEXT NOT NULL, source TEXT NOT NULL, attempts INTEGER NOT NULL,
    time REAL NOT NULL, message TEXT NOT NULL, settings TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clocks (name TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""


class Ledger:
    """The rows of a ledger file, made when absent; use it in a ``with`` statement. Its methods may be called from any
    thread, and other processes may use the file at the same time (SQLite's write-ahead log, which needs a local disk).

    Raises `InputError` where the file cannot be opened or is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self.connection.row_factory = sqlite3.Row
            with alone(path.with_name(f".{path.name}.lock")):  # SQLite does not wait for who else switches its log on
                self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise InputError(
                    f"{path} was written by another version of w2v-abx: move it away to begin a new ledger"
                )
            self.connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"{path} cannot be used as a ledger ({error}): move it away, or set corpus.ledger to "
                "a file on a local disk"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self.connection.close()

    def rows(self, keys: Iterable[str]) -> dict[str, sqlite3.Row]:
        """The rows that there are of these keys."""
        query = "SELECT * FROM clips WHERE key IN (SELECT value FROM json_each(?))"
        with self.lock:
            return {row["key"]: row for row in self.connection.execute(query, [json.dumps(list(keys))])}

    def note(
        self, key: str, video: str, status: str, source: str, settings: str, message: str = "", *, attempts: int = 0
    ) -> None:
        """Note the status of a clip, and so many more ``attempts``."""
        with self.lock:
            self.connection.execute(
                "INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET fate=excluded.fate, "
                "source=excluded.source, attempts=attempts+excluded.attempts, time=excluded.time, "
                "message=excluded.message, settings=excluded.settings",
                (key, video, status, source, attempts, time.time(), message, settings),
            )

    def next_request(self, interval: float) -> float:
        """Reserve the next moment for a request among all threads and processes; seconds from now until it comes.

        The one after it comes ``interval`` seconds later.
        """
        with self.lock:
            now = time.time()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                clocks = [row["time"] for row in self.connection.execute("SELECT time FROM clocks")]
                # A clock that was set back would hold everyone up.
                mine = max([now, *(clock for clock in clocks if clock < now + DAY)])
                self.connection.execute("REPLACE INTO clocks VALUES ('request', ?)", [mine + interval])
            finally:
                self.connection.execute("COMMIT")
        return mine - now

    def paused(self) -> float:
        """Seconds from now until requests may go on."""
        with self.lock:
            row = self.connection.execute("SELECT time FROM clocks WHERE name='pause'").fetchone()
        left = row["time"] - time.time() if row else 0.0
        return max(0.0, left) if left < DAY else 0.0

    def pause(self, seconds: float) -> None:
        """Let no thread and no process make a request for so long; a longer pause stays."""
        with self.lock:
            self.connection.execute(
                "INSERT INTO clocks VALUES ('pause', ?) ON CONFLICT (name) DO UPDATE SET time=max(time, excluded.time)",
                [time.time() + seconds],
            )

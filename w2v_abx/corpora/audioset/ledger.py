"""What became of each clip, in an SQLite file that outlives a kill and that several processes share."""

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from w2v_abx.errors import InputError

__all__ = ["BEGUN", "Ledger", "Row"]

BEGUN = "begun"  # its audio may or may not be there: the process ended in between
VERSION = 1
DAY = 86_400.0  # s
SCHEMA = """
CREATE TABLE IF NOT EXISTS clips (
    key TEXT PRIMARY KEY, video TEXT NOT NULL, fate TEXT NOT NULL, source TEXT NOT NULL, attempts INTEGER NOT NULL,
    time REAL NOT NULL, message TEXT NOT NULL, settings TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clocks (name TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """``attempts`` counts tries over all runs; ``time`` is the last one's (s since 1970); ``settings`` stands for those
    that decide what can be had."""

    key: str
    video: str
    fate: str
    source: str
    attempts: int
    time: float
    message: str
    settings: str


class Ledger:
    """The rows of a ledger file, made when absent; use it in a ``with`` statement. Its methods may be called from any
    thread, and other processes may use the file at the same time (SQLite's write-ahead log, which needs a local disk).

    Raises `InputError` where the file cannot be opened or is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            _write_ahead(self.connection)
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

    def rows(self, keys: Iterable[str]) -> dict[str, Row]:
        """The rows that there are of these keys."""
        found: dict[str, Row] = {}
        keys = list(keys)
        with self.lock:
            for place in range(0, len(keys), 500):
                part = keys[place : place + 500]
                marks = ",".join("?" * len(part))
                for row in self.connection.execute(f"SELECT * FROM clips WHERE key IN ({marks})", part):
                    found[row[0]] = Row(*row)
        return found

    def begin(self, key: str, video: str, source: str, settings: str) -> None:
        """Note that a source is about to be asked: one more attempt."""
        with self.lock:
            self.connection.execute(
                "INSERT INTO clips VALUES (?, ?, ?, ?, 1, ?, '', ?) ON CONFLICT (key) DO UPDATE SET "
                "fate=excluded.fate, source=excluded.source, attempts=attempts+1, time=excluded.time, "
                "settings=excluded.settings",
                (key, video, BEGUN, source, time.time(), settings),
            )

    def settle(self, key: str, video: str, fate: str, source: str, message: str, settings: str) -> None:
        """Note what became of a clip; its number of attempts stays."""
        with self.lock:
            self.connection.execute(
                "INSERT INTO clips VALUES (?, ?, ?, ?, 0, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET fate=excluded.fate, "
                "source=excluded.source, time=excluded.time, message=excluded.message, settings=excluded.settings",
                (key, video, fate, source, time.time(), message, settings),
            )

    def turn(self, interval: float) -> float:
        """Take the next turn among all threads and processes; seconds from now until it comes."""
        with self.lock:
            now = time.time()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                clocks = dict(self.connection.execute("SELECT name, time FROM clocks"))
                # A clock that was set back would hold everyone up.
                mine = max([now, *(value for value in clocks.values() if value < now + DAY)])
                self._set("turn", mine + interval)
            finally:
                self.connection.execute("COMMIT")
        return mine - now

    def paused(self) -> float:
        """Seconds from now until requests may go on."""
        with self.lock:
            row = self.connection.execute("SELECT time FROM clocks WHERE name='pause'").fetchone()
        left = row[0] - time.time() if row else 0.0
        return max(0.0, left) if left < DAY else 0.0

    def pause(self, seconds: float) -> None:
        """Let no thread and no process take a turn for so long; a longer pause stays."""
        with self.lock:
            self.connection.execute(
                "INSERT INTO clocks VALUES ('pause', ?) ON CONFLICT (name) DO UPDATE SET time=max(time, excluded.time)",
                (time.time() + seconds,),
            )

    def _set(self, name: str, value: float) -> None:
        self.connection.execute(
            "INSERT INTO clocks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET time=excluded.time", (name, value)
        )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the log on. SQLite does not wait for another process that is at it too."""
    for attempt in range(100):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == 99:
                raise
            time.sleep(0.05)

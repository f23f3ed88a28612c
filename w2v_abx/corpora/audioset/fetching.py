"""Fetch segments to their files, from the sources in the order of preference, and note the status of each."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from filelock import FileLock, Timeout

from w2v_abx import audio
from w2v_abx.clips import Failure
from w2v_abx.corpora.audioset.ledger import Ledger
from w2v_abx.corpora.audioset.local import Local
from w2v_abx.corpora.audioset.options import Fetching
from w2v_abx.corpora.audioset.source import BEGUN, OK, STATUSES, VERDICTS, FetchError, Recording, Segment
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system.locks import alone

if TYPE_CHECKING:
    from w2v_abx.corpora.audioset.youtube import Youtube

    Source: TypeAlias = Local | Youtube

__all__ = ["Fetcher", "cached"]

LOCK = ".lock"
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def cached(root: Path, key: str) -> Path:
    """Where a clip's audio goes. Folders are hashes: ids differ by capitals, which some disks do not tell apart."""
    return root / "clips" / hashlib.blake2b(key.encode(), digest_size=2).hexdigest()[:3] / f"{key}.flac"


class Fetcher:
    """Fetch segments to `cached`, several at a time. ``stop`` is set when the run ends early."""

    def __init__(
        self, root: Path, sources: "Sequence[Source]", ledger: Ledger, options: Fetching, stop: threading.Event
    ) -> None:
        self.root, self.sources, self.ledger, self.options, self.stop = root, sources, ledger, options, stop
        self.settings = options.fingerprint
        self.refused = 0  # clips in a row
        self.lock = threading.Lock()

    def fetch(self, segments: Sequence[Segment]) -> dict[str, Failure]:
        """Fetch every segment as 16 kHz mono FLAC; the failures by key.

        What the ledger has as fetched, and what it has as failed in a way that nothing has changed about, is not tried
        again. Raises `InputError` when going on makes no sense: the site cannot be reached at all, refuses everything,
        asks for a longer pause than ``longest_wait``, or the disk is full. What was fetched until then stays.
        """
        rows = self.ledger.rows(segment.key for segment in segments)
        failures: dict[str, Failure] = {}
        missing = []
        for segment in segments:
            row = rows.get(segment.key)
            if self._stands(segment, row):
                continue
            again = STATUSES[row["fate"]].again if row and row["fate"] in STATUSES else "now"
            if row and again == "changed" and row["settings"] == self._deciding(segment):
                failures[segment.key] = Failure(row["fate"], row["message"])
            else:
                missing.append(segment)
        with _scratch_folder(self.root) as scratch, ThreadPoolExecutor(self.options.workers, "fetch") as pool:
            tasks = {pool.submit(self._fetch, segment, scratch, rows.get(segment.key)): segment for segment in missing}
            try:
                done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
                for task in done:
                    task.result()
            except BaseException as ended:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                errors = [task.exception() for task in tasks if not task.cancelled()]
                raise next((error for error in errors if isinstance(error, InputError)), ended) from None
        return failures | {segment.key: failure for task, segment in tasks.items() if (failure := task.result())}

    def _stands(self, segment: Segment, row: sqlite3.Row | None) -> bool:
        """Whether the audio is there: files are renamed when whole, so that one which is there is right."""
        if not cached(self.root, segment.key).is_file():
            return False
        if row is None or row["fate"] != OK:
            source = row["source"] if row and row["fate"] == BEGUN else "cache"
            self.ledger.note(segment.key, segment.video, OK, source, self.settings)
        return True

    def _deciding(self, segment: Segment) -> str:
        """Changes with whatever may change this clip's status: the settings, and what the sources have of it."""
        copies = [list(source.copies(segment)) for source in self.sources]
        return f"{self.settings}-{hashlib.sha256(json.dumps(copies).encode()).hexdigest()[:16]}"

    def _fetch(self, segment: Segment, scratch: Path, before: sqlite3.Row | None) -> Failure | None:
        """Try all that each source has; the failure of the last that had anything to say."""
        if self.stop.is_set():
            raise CancelledError
        try:
            return self._fetch_from_sources(segment, scratch, before)
        except InputError:
            self.stop.set()  # here, so that this worker does not begin another clip before it is told
            raise

    def _fetch_from_sources(self, segment: Segment, scratch: Path, before: sqlite3.Row | None) -> Failure | None:
        status, messages, asked = "missing", [], ""
        deciding = self._deciding(segment)  # before they are read, should they change meanwhile
        for source in self.sources:
            for copy in range(len(source.copies(segment))):
                asked = source.name
                error = self._try(source, segment, scratch, copy, before)
                if error is None:
                    self.ledger.note(segment.key, segment.video, OK, source.name, deciding)
                    return None
                status = error.status
                messages.append(f"{source.name}: {error}")
        message = "; ".join(messages) or STATUSES[status].meaning
        self.ledger.note(segment.key, segment.video, status, asked, deciding, message)
        return Failure(status, message)

    def _try(
        self, source: "Source", segment: Segment, scratch: Path, copy: int, before: sqlite3.Row | None
    ) -> FetchError | None:
        """One copy of one source, as often as is worth it."""
        remote = source.name != "local"
        failure: FetchError | None = None
        for attempt in range(1, self.options.attempts + 1):
            if remote:
                self._await_request()
            self.ledger.note(segment.key, segment.video, BEGUN, source.name, self.settings, attempts=1)
            try:
                self._take(source, segment, scratch, copy)
                failure = None
            except FetchError as error:
                failure = error
            if self.stop.is_set():
                raise CancelledError
            if failure is None or not self._again(failure, attempt):
                break
        if remote:
            self._count(failure, before)
        return failure

    def _take(self, source: "Source", segment: Segment, scratch: Path, copy: int) -> None:
        try:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                samples = self._load(source.open(segment, Path(folder), copy))
                fresh = Path(folder) / "clip.flac"
                audio.save(fresh, samples)
                target = cached(self.root, segment.key)
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh.replace(target)
        except OSError as error:
            if error.errno in WRITE_ERRORS:
                raise NotWritten(
                    f"{self.root} cannot be written ({os.strerror(error.errno)}): make room, then run again"
                ) from None
            raise FetchError("failed", str(error)) from error

    def _load(self, recording: Recording) -> np.ndarray:
        try:
            seconds, _ = audio.info(recording.path)
            end = min(recording.end, seconds)
            found = max(0.0, end - recording.start)
            if found < recording.at_least:
                problem = f"{found:.2f} s came where {recording.at_least:.2f} s or more were announced"
                raise FetchError("broken_off", problem)
            if found < self.options.shortest:
                raise FetchError("too_short", f"has {found:.2f} s of audio")
            return audio.load(recording.path, recording.start, end)
        except audio.AudioError as error:
            short = error.reason in ("too_short", "empty", "outside")
            status = "silent" if error.reason == "silent" else "too_short" if short else "undecodable"
            raise FetchError(status, str(error).removeprefix(f"{recording.path}: ")) from error

    def _await_request(self) -> None:
        limit = self.options.requests_per_minute
        delay = self.ledger.next_request(60 / limit if limit else 0.0)
        while delay > 0 and not self.stop.wait(delay):
            delay = self.ledger.paused()  # a pause may begin meanwhile
        if self.stop.is_set():
            raise CancelledError

    def _again(self, error: FetchError, attempt: int) -> bool:
        """Whether to try again, after a wait: alone, or all together where there were too many requests."""
        if not error.passing:
            return False
        delay = self.options.backoff * 2 ** (attempt - 1) if error.wait is None else error.wait
        if error.status == "rate_limited" and delay > self.options.longest_wait:
            raise InputError(
                f"the server refuses ({error}) and asks to come back in {delay:.0f} s: run the same command then, it "
                "goes on where it stopped"
            )
        last = attempt == self.options.attempts or (error.wait or 0.0) > self.options.longest_wait
        if last and error.site:
            raise InputError(
                f"{self.options.url} cannot be reached ({error}): check the network and corpus.fetching.proxy, and "
                "run the same command again; it goes on where it stopped"
            )
        if error.status == "rate_limited":
            self.ledger.pause(delay)
        elif not last and self.stop.wait(delay):
            raise CancelledError
        return not last

    def _count(self, error: FetchError | None, before: sqlite3.Row | None) -> None:
        """Count the clips in a row that a site did not give, for reasons that need not be theirs."""
        if error and error.status in VERDICTS:
            return
        # Else a run of nothing but clips that are never given could not come to its end.
        if error and not error.passing and before and before["fate"] == error.status:
            return
        with self.lock:
            self.refused = self.refused + 1 if error else 0
            if error and self.refused >= self.options.refusals:
                raise InputError(
                    f"{self.refused} clips in a row were refused (the last: {error}): wait some hours, lower "
                    "corpus.fetching.requests_per_minute, update yt-dlp, or give corpus.fetching.cookies or proxy; "
                    "then run the same command, which goes on where it stopped"
                )


@contextmanager
def _scratch_folder(root: Path) -> Iterator[Path]:
    """Make a folder for half-done files, and remove those of processes that were killed: their locks died with them."""
    parent = root / "unfinished"
    with contextlib.ExitStack() as stack:
        with alone(parent / LOCK):  # while folders come and go
            for left in parent.glob("*/"):
                with contextlib.suppress(Timeout), FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
            stack.enter_context(FileLock(folder / LOCK))
        yield folder

"""Fetch segments into the cache, from the sources in the order of preference, and note the status of each."""

import errno
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from w2v_abx import audio
from w2v_abx.clips import Failure
from w2v_abx.corpora.audioset.cache import cached, scratch_folder
from w2v_abx.corpora.audioset.fates import (
    AGAIN,
    FAILED,
    MEANING,
    MISSING,
    OK,
    SILENT,
    TOO_SHORT,
    UNDECODABLE,
    VERDICTS,
    FetchError,
    FetchStatus,
    SiteUnreachable,
)
from w2v_abx.corpora.audioset.ledger import BEGUN, Ledger, Row
from w2v_abx.corpora.audioset.options import Fetching
from w2v_abx.corpora.audioset.source import Recording, Segment, Source
from w2v_abx.errors import InputError

__all__ = ["fetch"]


def fetch(
    segments: Sequence[Segment],
    root: Path,
    sources: Sequence[Source],
    ledger: Ledger,
    fetching: Fetching,
    stop: threading.Event,
) -> dict[str, Failure]:
    """Fetch every segment to `cached` as 16 kHz mono FLAC; the failures by key.

    What the ledger has as fetched, and what it has as failed in a way that nothing has changed about, is not tried
    again. Raises `InputError` when going on makes no sense: the site cannot be reached at all, refuses everything, asks
    for a longer pause than ``longest_wait``, or the disk is full. What was fetched until then is kept.
    """
    work = _Work(root, sources, ledger, fetching, stop)
    rows = ledger.rows(segment.key for segment in segments)
    failures: dict[str, Failure] = {}
    missing = []
    for segment in segments:
        row = rows.get(segment.key)
        if work.stands(segment, row):
            continue
        if row and AGAIN.get(row.fate) == "changed" and row.settings == work.deciding(segment):
            failures[segment.key] = Failure(row.fate, row.message)
        else:
            missing.append(segment)
    with scratch_folder(root) as scratch, ThreadPoolExecutor(fetching.workers, "fetch") as pool:
        tasks = {pool.submit(work.fetch, segment, scratch, rows.get(segment.key)): segment for segment in missing}
        try:
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            broken = next((task.exception() for task in done if task.exception()), None)
            if broken:
                raise broken
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    for task, segment in tasks.items():
        if failure := task.result():
            failures[segment.key] = failure
    return failures


class _Stopped(Exception):
    """Another thread ended the run."""


class _Work:
    """What the threads share."""

    def __init__(
        self, root: Path, sources: Sequence[Source], ledger: Ledger, fetching: Fetching, stop: threading.Event
    ) -> None:
        self.root, self.sources, self.ledger, self.fetching, self.stop = root, sources, ledger, fetching, stop
        self.settings = fetching.settings
        self.refused = 0  # clips in a row
        self.lock = threading.Lock()

    def stands(self, segment: Segment, row: Row | None) -> bool:
        """Whether the audio is there: files are renamed when whole, so that one which is there is right."""
        if not cached(self.root, segment.key).is_file():
            return False
        if row is None or row.fate != OK:
            source = row.source if row and row.fate == BEGUN else "cache"
            self.ledger.settle(segment.key, segment.video, OK, source, "", self.settings)
        return True

    def deciding(self, segment: Segment) -> str:
        """Changes with whatever may change this clip's fate: the settings, and what the sources have of it."""
        copies = [list(source.copies(segment)) for source in self.sources]
        return f"{self.settings}-{hashlib.sha256(json.dumps(copies).encode()).hexdigest()[:16]}"

    def fetch(self, segment: Segment, scratch: Path, before: Row | None) -> Failure | None:
        """Try all that each source has; the failure of the last that had anything to say."""
        fate, messages, asked = MISSING, [], ""
        deciding = self.deciding(segment)  # before they are read, should they change meanwhile
        for source in self.sources:
            for copy in range(len(source.copies(segment))):
                asked = source.name
                error = self._try(source, segment, scratch, copy, before)
                if error is None:
                    self.ledger.settle(segment.key, segment.video, OK, source.name, "", deciding)
                    return None
                fate = error.fate
                messages.append(f"{source.name}: {error}")
        message = "; ".join(messages) or MEANING[MISSING.name]
        self.ledger.settle(segment.key, segment.video, fate.name, asked, message, deciding)
        return Failure(fate.name, message)

    def _try(self, source: Source, segment: Segment, scratch: Path, copy: int, before: Row | None) -> FetchError | None:
        """One copy of one source, as often as is worth it."""
        remote = source.name != "local"
        for attempt in range(1, self.fetching.attempts + 1):
            if remote:
                self._wait_for_turn()
            self.ledger.begin(segment.key, segment.video, source.name, self.settings)
            failure = None
            try:
                self._take(source, segment, scratch, copy)
            except FetchError as error:
                failure = error
            if self.stop.is_set():
                raise _Stopped
            passing = failure is not None and failure.fate.again == "now"
            too_long = failure is not None and (failure.wait or 0.0) > self.fetching.longest_wait
            last = attempt == self.fetching.attempts or not passing or too_long
            if failure is not None and passing:
                self._ease(failure, attempt, last)
            if remote and last:
                self._count(failure, before)
            if last:
                return failure
        raise AssertionError("attempts is at least 1")

    def _take(self, source: Source, segment: Segment, scratch: Path, copy: int) -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as folder, _full_disk(self.root):
            with source.open(segment, Path(folder), copy) as recording:
                samples = self._load(recording)
            fresh = Path(folder) / "clip.flac"
            audio.save(fresh, samples)
            target = cached(self.root, segment.key)
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh.replace(target)

    def _load(self, recording: Recording) -> Any:
        try:
            seconds, _ = audio.info(recording.path)
            end = min(recording.end, seconds)
            found = max(0.0, end - recording.start)
            if found < recording.at_least:
                fate = FetchStatus("broken_off", "now")
                raise FetchError(fate, f"{found:.2f} s came where {recording.at_least:.2f} s or more were announced")
            if found < self.fetching.shortest:
                raise FetchError(TOO_SHORT, f"has {found:.2f} s of audio")
            return audio.load(recording.path, recording.start, end)
        except audio.AudioError as error:
            short = error.reason in ("too_short", "empty", "outside")
            fate = SILENT if error.reason == "silent" else TOO_SHORT if short else UNDECODABLE
            raise FetchError(fate, str(error).removeprefix(f"{recording.path}: ")) from error

    def _wait_for_turn(self) -> None:
        limit = self.fetching.requests_per_minute
        delay = self.ledger.turn(60 / limit if limit else 0.0)
        while delay > 0:  # a pause may begin meanwhile
            if self.stop.wait(delay):
                raise _Stopped
            delay = self.ledger.paused()
        if self.stop.is_set():
            raise _Stopped

    def _ease(self, error: FetchError, attempt: int, last: bool) -> None:
        """Wait before the next attempt: alone, or all together where there were too many requests."""
        delay = self.fetching.backoff * 2 ** (attempt - 1) if error.wait is None else error.wait
        if error.fate.name == "rate_limited" and delay > self.fetching.longest_wait:
            raise InputError(
                f"the server refuses ({error}) and asks to come back in {delay:.0f} s: run the same command then, it "
                "goes on where it stopped"
            )
        if last and isinstance(error, SiteUnreachable):
            raise InputError(
                f"{self.fetching.url} cannot be reached ({error}): check the network and corpus.fetching.proxy, and "
                "run the same command again; it goes on where it stopped"
            )
        if error.fate.name == "rate_limited":
            self.ledger.pause(delay)
        elif not last and self.stop.wait(delay):
            raise _Stopped

    def _count(self, error: FetchError | None, before: Row | None) -> None:
        """Clips in a row that a site did not give, for reasons that need not be theirs."""
        if error and error.fate.name in VERDICTS:
            return
        # Else a run of nothing but clips that are never given could not come to its end.
        if error and error.fate.again != "now" and before and before.fate == error.fate.name:
            return
        with self.lock:
            self.refused = self.refused + 1 if error else 0
            if error and self.refused >= self.fetching.refusals:
                raise InputError(
                    f"{self.refused} clips in a row were refused (the last: {error}): wait some hours, lower "
                    "corpus.fetching.requests_per_minute, update yt-dlp, or give corpus.fetching.cookies or proxy; "
                    "then run the same command, which goes on where it stopped"
                )


@contextmanager
def _full_disk(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise InputError(
                f"{root} cannot be written ({os.strerror(error.errno)}): make room, then run again"
            ) from None
        raise FetchError(FAILED, str(error)) from error

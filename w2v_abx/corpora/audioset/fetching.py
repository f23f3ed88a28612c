"""Bring segments into the cache: from the sources in the order of preference, noting each one's fate."""

import errno
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from w2v_abx import audio
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
    Fate,
    FetchError,
    SiteUnreachable,
)
from w2v_abx.corpora.audioset.ledger import BEGUN, Ledger, Row
from w2v_abx.corpora.audioset.source import Recording, Segment, Source
from w2v_abx.corpora.clip import Failure
from w2v_abx.errors import InputError

__all__ = ["Fetching", "fetch"]

SOURCES = ("local", "youtube")


@dataclass(frozen=True)
class Fetching:
    """Where clips come from, and how politely.

    Args:
        sources: of "local" and "youtube", asked in this order.
        local: a folder, tar or parquet file, or several, as `Local` takes them.
        url: address of a video, ``{id}`` being its id.
        workers: clips under way at a time.
        requests_per_minute: videos asked for in a minute, by all workers and all processes of one ledger; ``null``: no
            limit.
        sections: fetch only the segment's seconds where the server allows it.
        timeout: seconds of silence that a connection may keep.
        attempts: tries of a clip in one run, where an error may pass.
        backoff: seconds before the second try, doubled each time, where the server names no time.
        longest_wait: a server that asks for a longer pause (s) ends the run.
        refusals: so many clips in a row that fail in a way which may pass (too many requests, silence, a failing
            server) end the run, rather than leave out all that follow.
        shortest: clips with less audio (s) are left out.
        cookies: a file of cookies in Netscape's format.
        proxy: ``http://…`` or ``socks5://…``; ``null``: the environment's; "" for none.
        yt_dlp: more options of yt-dlp's ``YoutubeDL``.
    """

    sources: Sequence[str] = SOURCES
    local: str | Sequence[str] | None = None
    url: str = "https://www.youtube.com/watch?v={id}"
    workers: int = 4
    requests_per_minute: float | None = 60.0
    sections: bool = True
    timeout: float = 30.0
    attempts: int = 3
    backoff: float = 2.0
    longest_wait: float = 900.0
    refusals: int = 10
    shortest: float = 1.0
    cookies: str | None = None
    proxy: str | None = None
    yt_dlp: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source in self.sources:
            if source not in SOURCES:
                raise InputError(f"corpus.fetching.sources holds {source!r}: choose from {', '.join(SOURCES)}")
        if not self.sources or ("local" in self.sources and not self.places and len(self.sources) == 1):
            raise InputError("corpus.fetching has no source: give corpus.fetching.local=… or sources=[youtube]")
        if "youtube" in self.sources and "{id}" not in self.url:
            raise InputError(f"corpus.fetching.url={self.url!r} needs {{id}} where the video's id goes")
        for key in ("workers", "attempts", "refusals", "timeout", "shortest", "requests_per_minute"):
            if (value := getattr(self, key)) is not None and not value > 0:
                raise InputError(f"corpus.fetching.{key}={value} must be more than 0")

    @property
    def places(self) -> list[Path]:
        paths = [self.local] if isinstance(self.local, str) else list(self.local or ())
        return [Path(path).expanduser() for path in paths]

    def read_cookies(self) -> str | None:
        if self.cookies is None:
            return None
        try:
            return Path(self.cookies).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"corpus.fetching.cookies={self.cookies} cannot be read ({error})") from error

    @property
    def settings(self) -> str:
        """Changes with whatever may change a clip's fate."""
        deciding = [list(self.sources), [str(path) for path in self.places], self.url, self.proxy, dict(self.yt_dlp)]
        content = json.dumps([*deciding, self.read_cookies(), self.shortest], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def fetch(
    segments: Sequence[Segment],
    root: Path,
    sources: Sequence[Source],
    ledger: Ledger,
    fetching: Fetching,
    stop: threading.Event,
) -> dict[str, Failure]:
    """Bring every segment to `cached` as 16 kHz mono FLAC; the failures by key.

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
        if row and AGAIN.get(row.fate) == "changed" and row.settings == work.settings:
            failures[segment.key] = Failure(row.fate, row.message)
        else:
            missing.append(segment)
    with scratch_folder(root) as scratch, ThreadPoolExecutor(fetching.workers, "fetch") as pool:
        tasks = {pool.submit(work.bring, segment, scratch): segment for segment in missing}
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

    def bring(self, segment: Segment, scratch: Path) -> Failure | None:
        """Try each source; the failure of the last that had anything to say."""
        fate, told, asked = MISSING, [], ""
        for source in self.sources:
            if not source.has(segment):
                continue
            asked = source.name
            error = self._try(source, segment, scratch)
            if error is None:
                self.ledger.settle(segment.key, segment.video, OK, source.name, "", self.settings)
                return None
            fate = error.fate
            told.append(f"{source.name}: {error}")
        message = "; ".join(told) or MEANING[MISSING.name]
        self.ledger.settle(segment.key, segment.video, fate.name, asked, message, self.settings)
        return Failure(fate.name, message)

    def _try(self, source: Source, segment: Segment, scratch: Path) -> FetchError | None:
        """One source, as often as is worth it."""
        remote = source.name != "local"
        for attempt in range(1, self.fetching.attempts + 1):
            if remote:
                self._wait_for_turn()
            self.ledger.begin(segment.key, segment.video, source.name, self.settings)
            failure = None
            try:
                self._take(source, segment, scratch)
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
                self._count(failure if passing else None)
            if last:
                return failure
        raise AssertionError("attempts is at least 1")

    def _take(self, source: Source, segment: Segment, scratch: Path) -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as folder, _full_disk(self.root):
            with source.open(segment, Path(folder)) as recording:
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
                fate = Fate("broken_off", "now")
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

    def _count(self, error: FetchError | None) -> None:
        """Clips in a row that a site did not give, for reasons that may pass."""
        with self.lock:
            self.refused = self.refused + 1 if error else 0
            if error and self.refused >= self.fetching.refusals:
                raise InputError(
                    f"{self.refused} clips in a row were refused (the last: {error}): wait some hours, lower "
                    "corpus.fetching.requests_per_minute, or give corpus.fetching.cookies or proxy; then run the same "
                    "command, which goes on where it stopped"
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

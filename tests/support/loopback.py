"""A real HTTP server on loopback that serves a folder, and misbehaves where a test tells it to."""

import email.utils
import hashlib
import os
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".webm": "audio/webm", ".m4a": "audio/mp4"}


@dataclass(frozen=True)
class Answer:
    """What one request gets instead of the file.

    ``status`` is sent without a body (``retry_after`` in seconds or as a date beside it). With status 200 the file is
    announced whole, and only its first ``share`` comes: then the connection closes, or, with ``stall``, stays silent.
    """

    status: int = 200
    retry_after: str | int | None = None
    share: float = 1.0
    stall: bool = False


HALF = Answer(share=0.5)
STALL = Answer(share=0.5, stall=True)
SILENCE = Answer(share=0.0, stall=True)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    host: str | None
    cookie: str | None


class Loopback:
    """``with Loopback(folder) as server``: files at ``server.url("a/b.wav")``, with ranges, ETag and Last-Modified.

    ``server.answers[path]`` is a list of `Answer`, one for each coming request of that path, used up in turn;
    ``always`` holds one for all requests of a path. ``server.requests`` lists what came, ``server.count(path)`` counts
    it, and ``server.sent[path]`` counts bytes of content. ``ranges=False``: a server that only knows whole files.
    """

    def __init__(self, folder: Path, *, ranges: bool = True) -> None:
        self.folder, self.ranges = folder, ranges
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.always: dict[str, Answer] = {}
        self.headers: dict[str, dict[str, str]] = {}  # more headers, by path
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.loopback = self
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def url(self, path: str = "") -> str:
        return f"{self.base}/{path}"

    def count(self, path: str, method: str = "GET") -> int:
        with self.lock:
            return sum(request.path == path and request.method == method for request in self.requests)

    def __enter__(self) -> Self:
        self.environment = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
        os.environ |= dict.fromkeys(self.environment, "127.0.0.1")  # whatever proxy this machine has
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, value in self.environment.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    loopback: Loopback

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        loopback = self.server.loopback
        path = unquote(urlsplit(self.path).path.lstrip("/"))  # a proxy is asked for whole addresses
        headers = (self.headers.get(name) for name in ("Range", "Host", "Cookie"))
        with loopback.lock:
            loopback.requests.append(Request(self.command, path, *headers))
            waiting = loopback.answers.get(path)
            answer = waiting.pop(0) if waiting else loopback.always.get(path, Answer())
        file = loopback.folder / path
        if answer.status != 200:
            return self._error(answer.status, answer.retry_after)
        if not file.is_file():
            return self._error(404, None)
        content = file.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        begin, end, partial = 0, len(content), False
        if loopback.ranges and (wanted := self.headers.get("Range")) and self.headers.get("If-Range", tag) == tag:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin = int(first) if first else max(0, len(content) - int(last))
            end = min(int(last) + 1, len(content)) if first and last else len(content)
            partial = True
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
        self.send_response(206 if partial else 200)
        self.send_header("Content-Type", TYPES.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(end - begin))
        if loopback.ranges:
            self.send_header("ETag", tag)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Last-Modified", email.utils.formatdate(file.stat().st_mtime, usegmt=True))
        if partial:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        for name, value in loopback.headers.get(path, {}).items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return None
        stop = begin + round((end - begin) * answer.share)
        for place in range(begin, stop, 1 << 16):
            block = content[place : min(place + (1 << 16), stop)]
            self.wfile.write(block)
            with loopback.lock:
                loopback.sent[path] += len(block)
        self.wfile.flush()
        if stop < end:
            if answer.stall:
                loopback.closing.wait(30)
            self.close_connection = True
        return None

    def _error(self, status: int, retry_after: str | int | None) -> None:
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.send_header("Content-Length", "0")
        self.end_headers()

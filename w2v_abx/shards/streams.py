"""Bytes of a file behind an address: retried, and gone on with where they broke off."""

import contextlib
import http.client
import math
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from typing import IO, TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from webdataset.gopen import Pipe, gopen, gopen_schemes, rewrite_url

from w2v_abx.errors import InputError
from w2v_abx.system.downloads import WORTH_RETRYING, PassingError, retry_after

if TYPE_CHECKING:
    from w2v_abx.shards.places import Place

__all__ = ["LARGEST", "SCHEMES", "Stream"]

SCHEMES = {"s3", *gopen_schemes} - {"__default__"}
ATTEMPTS = 4  # in a row that bring nothing, or next to nothing: less than 1 MiB and than 1 % of the file
WAIT = 0.5  # s, doubled each time
LONGEST_WAIT = 60.0  # s that a server may ask for
TIMEOUT = 60.0  # s of silence
PATIENCE = 5.0  # s until a command ends that has closed its output
BLOCK = 1 << 20
LARGEST = 1 << 30  # bytes of a file whose size nothing says beforehand: an index of some ten million clips


class Stream:
    """A file behind an address, read forward; goes on where it stopped when it breaks off."""

    def __init__(self, place: "Place", file: str, size: int | None) -> None:
        self.place, self.file, self.size = place, file, size
        self._source: BinaryIO | None = None
        self._position = 0
        self._reached = 0  # how far the connections before this one have come
        self._fruitless = 0
        self._enough = math.inf if size is None else min(1 << 20, size / 100)  # to make a connection worth its while

    def read(self, start: int, size: int) -> bytes:
        assert self.size is not None
        end = min(start + size, self.size)
        if self._source is not None and (start < self._position or (self._ranges and start > self._position + BLOCK)):
            self.close()
            self._reached, self._fruitless = start, 0
        return self._read(start, end)

    def read_all(self) -> bytes:
        return self._read(0, None)

    def close(self) -> None:
        source, self._source = self._source, None
        if source is None:
            return
        if isinstance(source, Pipe):
            source.proc.terminate()  # a command that is not read to its end may never end
            source.ignore_errors = True
        with contextlib.suppress(OSError):  # nothing more is wanted of it
            source.close()

    @property
    def _ranges(self) -> bool:
        return self.place.scheme in ("http", "https")

    def _read(self, start: int, end: int | None) -> bytes:
        got = bytearray()
        while True:
            try:
                if self._source is None:
                    self._connect(start + len(got))
                self._fill(got, start, end)
                return bytes(got)
            except PassingError as error:
                self.close()
                if end is None:
                    got.clear()  # of unknown length: what came cannot be trusted to be a beginning
                if self._position - self._reached >= self._enough:
                    self._fruitless = 0
                self._fruitless += 1
                self._reached = max(self._reached, self._position)
                wait = WAIT * 2 ** (self._fruitless - 1) if error.wait is None else error.wait
                if self._fruitless >= ATTEMPTS or wait > LONGEST_WAIT:
                    raise InputError(
                        f"{self.place.name(self.file)} cannot be read: {error} (tried {self._fruitless} times); check "
                        f"the address or the command, and the network, and try again"
                    ) from None
                time.sleep(wait)

    def _fill(self, got: bytearray, start: int, end: int | None) -> None:
        while end is None or len(got) < end - start:
            ahead = start + len(got) - self._position  # bytes to pass over
            wanted = BLOCK if end is None else end - start - len(got)
            part = self._take(min(BLOCK, ahead) if ahead else wanted)
            if not part:
                if end is None:
                    self._finish()
                    return
                raise self._broken()
            self._position += len(part)
            if not ahead:
                got += part
            if end is None and len(got) > LARGEST:
                raise self._too_large()

    def _take(self, size: int) -> bytes:
        try:
            return cast(BinaryIO, self._source).read(size)
        except (OSError, http.client.HTTPException) as error:
            raise (self._broken() if isinstance(self._source, Pipe) else PassingError(_reason(error))) from error

    def _too_large(self) -> InputError:
        return InputError(
            f"{self.place.name(self.file)} has more than the {LARGEST} bytes that such a file may have: "
            f"check the address"
        )

    def _broken(self) -> PassingError:
        """The stream has ended, and is not whole."""
        after = f"after {self._position} bytes" if self.size is None else f"after {self._position} of {self.size} bytes"
        if isinstance(self._source, Pipe):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return PassingError(f"the command ended with status {self._source.proc.wait(PATIENCE)} {after}")
        return PassingError(f"it broke off {after}")

    def _finish(self) -> None:
        """The end of a file of unknown length: was it one?"""
        source = self._source
        missing = isinstance(source, http.client.HTTPResponse) and source.length
        if missing or (isinstance(source, Pipe) and source.proc.wait() != 0):
            raise self._broken()

    def _connect(self, position: int) -> None:
        address = rewrite_url(self.place.whole(self.file))
        if self._ranges:
            self._source, self._position = self._request(address, position)
            return
        if self.place.scheme == "s3" and "s3" not in gopen_schemes:
            address = f"pipe:aws s3 cp {shlex.quote(address)} -"
        try:
            self._source, self._position = gopen(address, "rb", bufsize=BLOCK), 0
        except FileNotFoundError as error:
            raise InputError(f"{self.place} needs the program {error.filename}, which is not here") from error
        except (OSError, ValueError) as error:
            raise PassingError(_reason(error)) from error

    def _request(self, address: str, position: int) -> tuple[BinaryIO, int]:
        """The answer and the position of its first byte."""
        parts = urlsplit(address)
        headers, secrets = {"User-Agent": "w2v-abx", "Accept-Encoding": "identity"}, {}
        if position:
            headers["Range"] = f"bytes={position}-"
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            secrets["Authorization"] = f"Basic {b64encode(secret).decode()}"
            address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        request = urllib.request.Request(address, headers=headers)
        for name, value in secrets.items():
            request.add_unredirected_header(name, value)
        try:
            answer = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            message = f"the server answers {error.code} {error.reason}"
            if error.code not in WORTH_RETRYING:
                raise InputError(f"{self.place.name(self.file)} cannot be read: {message}") from None
            raise PassingError(message, retry_after(error.headers.get("Retry-After"))) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PassingError(_reason(error)) from error
        first = position if answer.status == 206 else 0
        length = answer.headers.get("Content-Length", "")
        if self.size is not None and length.isdigit() and first + int(length) != self.size:
            answer.close()
            raise InputError(
                f"the shard {self.place.name(self.file)} has {first + int(length)} bytes where the manifest says "
                f"{self.size}: copy the folder anew"
            )
        if self.size is None and length.isdigit() and int(length) > LARGEST:
            answer.close()
            raise self._too_large()
        return cast(BinaryIO, answer), first


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another, but not with the password that is for the first, and not out of TLS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        if there.scheme != "https" and (here.scheme, there.scheme) != ("http", "http"):
            refused = f"and leads from {here.scheme} to {there.scheme}, where nothing is protected: refused"
            raise urllib.error.HTTPError(req.full_url, code, refused, headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        secret = req.unredirected_hdrs.get("Authorization")
        if request is not None and secret and here[:2] == there[:2]:
            request.add_unredirected_header("Authorization", secret)
        return request


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer for {TIMEOUT:g} s"
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return str(text).splitlines()[0]

"""Fetch one published file over HTTP: resumed where it broke off, checked, and whole or not there."""

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from w2v_abx.errors import InputError
from w2v_abx.system.archives import unpack
from w2v_abx.system.atomic import write_json
from w2v_abx.system.locks import alone

__all__ = ["WORTH_RETRYING", "PassingError", "download", "retry_after", "unpack"]

WORTH_RETRYING = {408, 425, 429, 500, 502, 503, 504}
LONGEST_WAIT = 300.0  # s: a server that asks for more is reported instead
BLOCK = 1 << 18


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    timeout: float = 60.0,
    attempts: int = 6,
) -> Path:
    """Fetch ``url`` to ``path``, and give ``path``; nothing is fetched where it stands already.

    What has arrived is kept in a hidden file beside ``path``, and a later attempt or a later run asks for the rest only
    (``Range`` with ``If-Range``: RFC 9110), unless the file changed on the server. Several processes may ask for the
    same path: one fetches, the others wait. Proxies are taken from the environment (``https_proxy``).

    Args:
        url: http or https.
        path: the file to make; it appears once the length and the checksums are right.
        sha256, md5: hexadecimal checksums, compared also with a file that stands already. Without ``md5``, one that the
            server announces for the object (``x-goog-hash``, Google Cloud Storage) is compared with what came.
        timeout: seconds of silence after which an attempt is given up.
        attempts: how many in a row may bring no more than was here before already, before the download fails.

    Raises `InputError`, naming the URL, for an answer that will not change (404, 403 …), a server that cannot be
    reached after ``attempts``, a wrong checksum, or a disk that cannot hold the file.
    """
    path = Path(path)
    if not url.lower().startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no http or https address")
    if path.is_file():
        _verify(path, url, sha256, md5, "delete it to fetch it again")
        return path
    try:
        with alone(path.with_name(f".{path.name}.lock")):
            if not path.is_file():  # another process may just have made it
                partial = path.with_name(f".{path.name}.part")
                _fetch(url, partial, timeout, attempts)
                announced = _read_notes(partial).get("md5")
                try:
                    _verify(
                        partial, url, sha256, md5 or announced, "it was thrown away; try again, or check the address"
                    )
                except InputError:
                    partial.unlink()
                    raise
                else:
                    partial.replace(path)
                finally:
                    _notes(partial).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{url} cannot be written to {path} ({error.strerror or error})") from error
    return path


def retry_after(header: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, given as seconds or as a date; ``None`` where it says nothing."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


class PassingError(Exception):
    """An attempt that failed in a way that may pass; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def _fetch(url: str, partial: Path, timeout: float, attempts: int) -> None:
    fruitless, most = 0, _size(partial)
    with _progress(url) as bar:
        while True:
            try:
                _attempt(url, partial, timeout, bar)
                return
            except PassingError as error:
                # Against the most there has been: a server without ranges begins again each time, and would never end.
                fruitless = 0 if _size(partial) > most else fruitless + 1
                most = max(most, _size(partial))
                wait = min(60.0, 0.5 * 2**fruitless) if error.wait is None else error.wait
                if wait > LONGEST_WAIT:
                    raise InputError(f"{url}: {error}, and asks to come back in {wait:.0f} s: try again then") from None
                if fruitless >= attempts:
                    raise InputError(
                        f"{url} cannot be fetched: {error}, {attempts} times in a row; check the network (proxies are "
                        "taken from http_proxy and https_proxy) and try again: it goes on where it stopped"
                    ) from None
                time.sleep(wait)


def _attempt(url: str, partial: Path, timeout: float, bar: "_Bar") -> None:
    """Bring ``partial`` to its full length, or raise `PassingError` with whatever came."""
    have = _size(partial)
    known = _read_notes(partial)
    headers = {"User-Agent": "w2v-abx", "Accept-Encoding": "identity"}
    if have and known.get("url") == url and known.get("validator"):
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    try:
        with (
            _explained(url, timeout),
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer,
        ):
            if answer.status != 206:  # from the start: nothing is here, or it is of another version
                have = 0
                _begin(url, partial, answer.headers)
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise PassingError(f"it answered {answer.headers.get('Content-Range')!r} when asked from byte {have}")
            rest = answer.headers.get("Content-Length")
            total = have + int(rest) if rest and rest.isdigit() else None
            bar.start(have, total)
            with partial.open("ab") as file:
                while block := answer.read1(BLOCK):  # what came counts, should no more come
                    file.write(block)
                    bar.advance(len(block))
                file.flush()
                os.fsync(file.fileno())
    except _Refused as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # all of it was here already
        if error.code == 416:
            partial.unlink(missing_ok=True)
            raise PassingError("the file on the server has changed") from None
        if error.code not in WORTH_RETRYING:
            raise InputError(f"{url} cannot be fetched: {error}") from None
        raise PassingError(str(error), retry_after(error.headers.get("Retry-After"))) from None
    size = partial.stat().st_size
    if total is not None and size != total:
        raise PassingError(f"it broke off after {size} of {total} bytes")


def _begin(url: str, partial: Path, headers: Message) -> None:
    """Start anew, noting what will tell whether the rest belongs to it, and whether all of it came right."""
    # A weak ETag does not vouch for each byte, and may not stand in If-Range.
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    partial.unlink(missing_ok=True)
    hashes = dict(part.strip().partition("=")[::2] for part in ",".join(headers.get_all("x-goog-hash", [])).split(","))
    md5 = base64.b64decode(hashes["md5"]).hex() if "md5" in hashes else None
    write_json(_notes(partial), {"url": url, "validator": validator, "md5": md5})


class _Refused(Exception):
    """The server's answer is an error; its headers may say more."""

    def __init__(self, code: int, reason: str, headers: Message) -> None:
        super().__init__(f"the server says {code} {reason}")
        self.code, self.headers = code, headers


@contextmanager
def _explained(url: str, timeout: float) -> Iterator[None]:
    """What can go wrong on the network as `PassingError`, `_Refused` or `InputError`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _Refused(error.code, error.reason, error.headers) from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
            raise InputError(f"{url} cannot be fetched: its host is unknown ({reason.strerror})") from None
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise InputError(f"{url} cannot be fetched: its certificate is not trusted ({reason.reason})") from None
        raise PassingError(f"no connection ({reason})") from None
    except TimeoutError:
        raise PassingError(f"nothing came for {timeout:g} s") from None
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise PassingError(f"the connection broke ({error or type(error).__name__})") from None


def _verify(path: Path, url: str, sha256: str | None, md5: str | None, advice: str) -> None:
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, name).hexdigest()
        if found != wanted.lower():
            raise InputError(
                f"{path}, from {url}, has the {name} {found} where {wanted.lower()} was published: {advice}"
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_notes(partial: Path) -> dict[str, Any]:
    try:
        content = json.loads(_notes(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class _Bar:
    """A bar on a terminal; in a file, a line for each tenth of what is long."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name = progress, name
        self.task = progress.add_task(name, total=None)
        self.have, self.shown = 0, 0
        self.total: int | None = None

    def start(self, have: int, total: int | None) -> None:
        self.have, self.total = have, total
        self.progress.update(self.task, completed=have, total=total)

    def advance(self, amount: int) -> None:
        self.have += amount
        self.progress.update(self.task, advance=amount)
        if self.progress.console.is_terminal or not self.total or self.total < 50e6:
            return
        if (tenth := self.have * 10 // self.total) > self.shown:
            self.shown = tenth
            self.progress.console.print(
                f"{self.name}: {self.have / 1e6:.0f} of {self.total / 1e6:.0f} MB", highlight=False
            )


@contextmanager
def _progress(url: str) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    name = url.partition("?")[0].rstrip("/").rpartition("/")[2]
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield _Bar(progress, name)

"""Fetch one published file over HTTP: resumed where it broke off, checked, and whole or not there."""

import base64
import hashlib
import json
import os
from email.message import Message
from pathlib import Path
from typing import Any

from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from w2v_abx.credentials import without_credentials
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system.atomic import write_json
from w2v_abx.system.locks import alone
from w2v_abx.system.progress import WorkProgress
from w2v_abx.system.web import PassingError, Retries, explained, open_url

__all__ = ["download"]

BLOCK_BYTES = 1 << 18
MIN_BYTES_FOR_LINES = 50e6  # bytes of a file that is worth lines about its progress


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    timeout: float = 60.0,
    attempts: int = 6,
    shown: bool = True,
) -> Path:
    """Fetch ``url`` to ``path``, and give ``path``; nothing is fetched where it stands already.

    What has arrived lies in a hidden file beside ``path``, and a later attempt or a later run asks for the rest only
    (``Range`` with ``If-Range``: RFC 9110), unless the file changed on the server. Several processes may ask for the
    same path: one fetches, the others wait. Proxies are taken from the environment (``https_proxy``).

    Args:
        url: http or https.
        path: the file to make; it appears once the length and the checksums are right.
        sha256, md5: hexadecimal checksums, compared also with a file that stands already. Without ``md5``, one that the
            server announces for the object (``x-goog-hash``, Google Cloud Storage) is compared with what came.
        timeout: seconds of silence after which an attempt is given up.
        attempts: how many in a row may fetch no more than was here before, before the download fails.
        shown: whether a terminal shows a bar.

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
                _fetch(url, partial, timeout, attempts, shown)
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
        raise NotWritten(f"{url} cannot be written to {path} ({error.strerror or error})") from error
    return path


def _fetch(url: str, partial: Path, timeout: float, attempts: int, shown: bool) -> None:
    advice = (
        "check the network (proxies are taken from http_proxy and https_proxy) and try again: it goes on where it "
        "stopped"
    )
    retries = Retries(f"{url} cannot be fetched", advice, attempts, reached=_size(partial))
    name = without_credentials(url).partition("?")[0].rstrip("/").rpartition("/")[2]
    columns = DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with WorkProgress(name, *columns, shown=shown) as progress:
        while True:
            try:
                return _attempt(url, partial, timeout, progress)
            except PassingError as error:
                retries.wait(error, _size(partial))


def _attempt(url: str, partial: Path, timeout: float, progress: WorkProgress) -> None:
    """Fetch the rest of ``partial``, or raise `PassingError` with whatever came."""
    what = f"{url} cannot be fetched"
    known = _read_notes(partial)
    validator = known.get("validator") if known.get("url") == without_credentials(url) else None
    start = _size(partial) if validator else 0
    response, first, total = open_url(url, what, start=start, validator=validator, timeout=timeout)
    with response:
        if not first:  # nothing is here, or it is of another version
            _begin(url, partial, response.headers)
        progress.total = total
        with explained(what, timeout), partial.open("ab") as file:
            while block := response.read1(BLOCK_BYTES):  # what came counts, should no more come
                file.write(block)
                done = file.tell()
                line = f": {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total and total > MIN_BYTES_FOR_LINES else ""
                progress.update(done, line)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(partial) != total:
        raise PassingError(f"it broke off after {_size(partial)} of {total} bytes")


def _begin(url: str, partial: Path, headers: Message) -> None:
    """Start anew, noting what will say whether the rest belongs to it, and whether all of it came right."""
    # A weak ETag does not vouch for each byte, and may not stand in If-Range.
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    partial.unlink(missing_ok=True)
    hashes = dict(part.strip().partition("=")[::2] for part in ",".join(headers.get_all("x-goog-hash", [])).split(","))
    md5 = base64.b64decode(hashes["md5"]).hex() if "md5" in hashes else None
    write_json(_notes(partial), {"url": without_credentials(url), "validator": validator, "md5": md5})


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

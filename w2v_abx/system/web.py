"""Open files over HTTP from any byte on, and try again what may pass."""

import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.response import addinfourl

from w2v_abx.errors import InputError

__all__ = ["PassingError", "Retries", "explained", "open_url", "retry_after"]

RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
FIRST_WAIT_SECONDS = 0.5  # s, doubled after each attempt that fetched nothing new
MAX_WAIT_SECONDS = 60.0  # s that are waited unasked
MAX_ASKED_WAIT_SECONDS = 300.0  # s: a server that asks for more is reported instead


class PassingError(Exception):
    """A failure that may pass; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Retries:
    """Wait between attempts, longer each time, and give up after some in a row that fetched nothing new.

    Args:
        what: the start of the message, such as "ADDRESS cannot be read"; ``advice`` is its end.
        attempts: how many in a row may fetch nothing new.
        reached: bytes that are here already.
        enough: bytes beyond the most so far that count as new.
    """

    def __init__(self, what: str, advice: str, attempts: int, *, reached: int = 0, enough: float = 1) -> None:
        self.what, self.advice, self.attempts, self.enough = what, advice, attempts, enough
        self.reset(reached)

    def reset(self, reached: int) -> None:
        """Count from byte ``reached`` again."""
        self._reached, self._fruitless = reached, 0

    def wait(self, error: PassingError, reached: int) -> None:
        """Wait after an attempt that got to byte ``reached``; raises `InputError` where it was the last."""
        # Against the most there has been: a server without ranges begins again each time, and would never end.
        self._fruitless = 0 if reached - self._reached >= self.enough else self._fruitless + 1
        self._reached = max(self._reached, reached)
        if error.wait is not None and error.wait > MAX_ASKED_WAIT_SECONDS:
            raise InputError(f"{self.what}: {error}, and asks to come back in {error.wait:.0f} s: try again then")
        if self._fruitless >= self.attempts:
            raise InputError(f"{self.what}: {error} (tried {self._fruitless} times); {self.advice}")
        time.sleep(min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**self._fruitless) if error.wait is None else error.wait)


def open_url(
    url: str, what: str, *, start: int = 0, validator: str | None = None, timeout: float
) -> tuple[http.client.HTTPResponse | addinfourl, int, int | None]:
    """Ask for a file from byte ``start`` on.

    Proxies are taken from the environment (``https_proxy``). A user name and password in ``url`` are sent to its host
    only, and redirects out of TLS are refused.

    Args:
        what: the start of messages, such as "ADDRESS cannot be read".
        validator: ETag or Last-Modified of the version that the bytes before ``start`` are of (RFC 9110, If-Range).
        timeout: seconds of silence.

    Returns:
        The response, the position of its first byte (0 where the server does not do ranges or has another version), and
        the size of the file where the server says it.

    Raises `PassingError`; `InputError` for a status that will not change, an address that is none, an unknown host and
    a certificate that is not trusted.
    """
    parts = urlsplit(url)
    headers = {"User-Agent": "w2v-abx", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    with explained(what, timeout):
        request = urllib.request.Request(
            urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), headers=headers
        )
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            request.add_unredirected_header("Authorization", f"Basic {b64encode(secret).decode()}")
        try:
            response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not start:
                raise
            if error.headers.get("Content-Range") != f"bytes */{start}":  # the file has changed
                return open_url(url, what, timeout=timeout)
            return addinfourl(io.BytesIO(), error.headers, url), start, start  # it ends at ``start``
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        got = response.headers.get("Content-Range", "")
        if not got.startswith(f"bytes {start}-"):
            response.close()
            raise PassingError(f"the server answers {got!r} when asked from byte {start}")
    else:
        start = 0
    return response, start, start + int(length) if length.isdigit() else None


@contextmanager
def explained(what: str, timeout: float) -> Iterator[None]:
    """Raise what goes wrong on the network as `PassingError`, or as `InputError` where it would do so again."""
    try:
        yield
    except urllib.error.HTTPError as error:
        message = f"the server answers {error.code} {error.reason}"
        if error.code not in RETRIED_STATUS:
            raise InputError(f"{what}: {message}") from None
        raise PassingError(message, retry_after(error.headers.get("Retry-After"))) from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
            raise InputError(f"{what}: its host is unknown ({reason.strerror})") from None
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise InputError(f"{what}: its certificate is not trusted ({reason.reason})") from None
        if isinstance(reason, TimeoutError):
            raise PassingError(f"nothing came for {timeout:g} s") from None
        raise PassingError(f"no connection ({getattr(reason, 'strerror', None) or reason})") from None
    except TimeoutError:
        raise PassingError(f"nothing came for {timeout:g} s") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise InputError(f"{what}: {error}") from None
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise PassingError(f"the connection broke ({error or type(error).__name__})") from None


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, given as seconds or as a date; ``None``: none."""
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


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a server to another, but not with the password that is for the first, and not out of TLS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme != "https" and (before.scheme, after.scheme) != ("http", "http"):
            refused = f"and leads from {before.scheme} to {after.scheme}, where nothing is protected: refused"
            raise urllib.error.HTTPError(req.full_url, code, refused, headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        secret = req.unredirected_hdrs.get("Authorization")
        if request is not None and secret and before[:2] == after[:2]:
            request.add_unredirected_header("Authorization", secret)
        return request

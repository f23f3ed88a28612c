"""Read a file behind an address forward, from where it broke off where it does."""

import math
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Any
from urllib.parse import unquote, urlsplit

from w2v_abx.errors import InputError
from w2v_abx.system.web import PassingError, Retries, explained, open_url

__all__ = ["Stream"]

MAX_FRUITLESS_ATTEMPTS = 4  # in a row that fetch nothing, or next to nothing: less than 1 MiB and than 1 % of the file
MAX_SILENCE_SECONDS = 60.0  # s of silence
MAX_END_SECONDS = 5.0  # s until a command ends that has closed its output
BLOCK_BYTES = 1 << 20
MAX_UNKNOWN_BYTES = 1 << 30  # bytes of a file whose size nothing says beforehand: an index of some ten million clips


class Stream:
    """A file behind an address, read forward; each connection begins where the one before broke off.

    What fsspec opens is read through it, but for http(s), of which one open-ended range is read for each connection.
    fsspec asks for each block of 5 MiB anew (30 to 40 MB/s of a server that takes 50 ms to answer, beside 400 here),
    cannot begin in the middle where a server does not do ranges, and shows signatures in its messages. A command is run
    by `webdataset.gopen`.

    Args:
        address: of the file: ``http(s)://``, ``pipe:COMMAND`` or any other that fsspec knows.
        name: how messages call it.
        size: bytes that it must have; ``None``: not known, at most `MAX_UNKNOWN_BYTES`.
    """

    def __init__(self, address: str, name: str, size: int | None) -> None:
        self.address, self.name, self.size = address, name, size
        self.scheme = address.partition(":")[0].lower()
        self._file: Any = None
        self._position = 0
        self._total = size  # bytes, as far as the connection knows
        self._retries = Retries(
            self._what,
            "check the address or the command, and the network, and try again",
            MAX_FRUITLESS_ATTEMPTS,
            enough=math.inf if size is None else min(1 << 20, size / 100),
        )

    def read(self, start: int, size: int) -> bytes:
        """Read bytes of a file of known size, fewer where it ends; raises `InputError` naming it."""
        assert self.size is not None
        ahead = start - self._position
        if self._file is not None and (ahead < 0 or (self.scheme != "pipe" and ahead > BLOCK_BYTES)):
            self.close()
            self._retries.reset(start)
        return self._read(start, min(start + size, self.size))

    def read_all(self) -> bytes:
        """Read a file of unknown size; raises `InputError` naming it."""
        return self._read(0, None)

    def close(self) -> None:
        file, self._file = self._file, None
        if hasattr(file, "proc"):
            file.proc.kill()  # a command that is not read to its end may never end
            file.ignore_errors = True
        if file is not None:
            with suppress(OSError):  # nothing more is wanted of it
                file.close()

    @property
    def _what(self) -> str:
        return f"{self.name} cannot be read"

    def _read(self, start: int, end: int | None) -> bytes:
        got = bytearray()
        while True:
            try:
                if self._file is None:
                    self._connect(start + len(got))
                self._fill(got, start, end)
                return bytes(got)
            except PassingError as error:
                self.close()
                if end is None:
                    got.clear()  # of unknown size: what came cannot be trusted to be a beginning
                self._retries.wait(error, self._position)

    def _fill(self, got: bytearray, start: int, end: int | None) -> None:
        """Add to ``got``, which holds what comes from ``start`` on, the bytes up to ``end`` (``None``: the file's)."""
        while end is None or len(got) < end - start:
            skipped = start + len(got) - self._position  # bytes to pass over first
            wanted = BLOCK_BYTES if end is None else end - start - len(got)
            part = self._take(min(BLOCK_BYTES, skipped or wanted))
            if not part:
                if end is None and self._is_whole():
                    return
                raise self._broken()
            self._position += len(part)
            if not skipped:
                got += part
            if end is None and len(got) > MAX_UNKNOWN_BYTES:
                raise self._too_large()

    def _take(self, size: int) -> bytes:
        try:
            with explained(self._what, MAX_SILENCE_SECONDS):
                return self._file.read(size)
        except (PassingError, InputError):
            raise
        except Exception as error:  # fsspec's file systems raise what they like
            raise (self._broken() if hasattr(self._file, "proc") else self._passing(error)) from error

    def _connect(self, start: int) -> None:
        if self.scheme in ("http", "https"):
            opened = open_url(self.address, self._what, start=start, timeout=MAX_SILENCE_SECONDS)
        elif self.scheme == "pipe":
            from webdataset.gopen import gopen_pipe  # it imports torch, which takes seconds

            opened = gopen_pipe(self.address, "rb", BLOCK_BYTES), 0, None
        else:
            opened = self._open_remote(start)
        self._file, self._position, total = opened
        self._total = self.size if total is None else total
        if self.size is not None and self._total != self.size:
            self.close()
            raise InputError(
                f"the shard {self.name} has {total} bytes where the manifest says {self.size}: copy the folder anew"
            )
        if self.size is None and (total or 0) > MAX_UNKNOWN_BYTES:
            self.close()
            raise self._too_large()

    def _open_remote(self, start: int) -> tuple[Any, int, int | None]:
        import fsspec

        try:
            file_system, path = fsspec.url_to_fs(self.address)
            file = file_system.open(path, "rb")
            file.seek(start)
        except (FileNotFoundError, PermissionError) as error:
            raise InputError(f"{self._what}: {self._passing(error)}") from None
        except Exception as error:
            raise self._passing(error) from error
        return file, start, getattr(file, "size", None)

    def _passing(self, error: Exception) -> PassingError:
        text = getattr(error, "strerror", None) or f"{type(error).__name__} {error}".splitlines()[0]
        if secret := urlsplit(self.address).password:
            text = text.replace(secret, "…").replace(unquote(secret), "…")
        return PassingError(text)

    def _is_whole(self) -> bool:
        """Whether the end that was reached is the file's."""
        return self._status() in (None, 0) if self._total is None else self._position == self._total

    def _status(self) -> int | None:
        """Return the status with which a command ended; ``None`` for what is none."""
        if not hasattr(self._file, "proc"):
            return None
        process = self._file.proc
        try:
            return process.wait(MAX_END_SECONDS)
        except TimeoutExpired:
            process.kill()
            return process.wait()

    def _broken(self) -> PassingError:
        status = self._status()
        ended = "it broke off" if status is None else f"the command ended with status {status}"
        return PassingError(f"{ended} after {self._position}{f' of {self._total}' if self._total else ''} bytes")

    def _too_large(self) -> InputError:
        return InputError(
            f"{self.name} has more than the {MAX_UNKNOWN_BYTES} bytes that such a file may have: check the address"
        )

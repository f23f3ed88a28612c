"""Where a prepared folder lies: on a disk, behind http(s), in a bucket, or behind a command."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from w2v_abx.credentials import public, without_credentials
from w2v_abx.errors import InputError
from w2v_abx.shards.streams import Stream

__all__ = ["FileReader", "Place", "Reader"]

SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://|(?P<short>pipe|file):", re.IGNORECASE)  # no other colon


class FileReader:
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise InputError(f"the shard {path} is missing: run `w2v-abx prepare` again") from None
        except OSError as error:
            raise InputError(f"the shard {path} cannot be read ({error.strerror})") from error

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, start: int, size: int) -> bytes:
        """Read ``size`` bytes from ``start``, fewer where the file ends; raises `InputError` naming it."""
        parts = []
        try:
            while size > 0 and (part := os.pread(self.fileno(), size, start)):
                parts.append(part)
                start, size = start + len(part), size - len(part)
        except OSError as error:
            raise InputError(f"the shard {self.path} cannot be read ({error.strerror})") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._file.close()


Reader = FileReader | Stream  # bytes of one file


@dataclass(frozen=True)
class Place:
    """A folder, or an address that gives the folder's files.

    ``address`` is a path (or ``file:`` address), or ``http(s)://…/folder`` (a query, as of a signed address, stays
    behind each name), or ``pipe:COMMAND {name}`` (run by the shell for each file, whose bytes it prints), or an address
    of any other scheme that fsspec opens (``s3://``, ``gs://``, ``az://``, ``hf://`` …; the package for it is named
    where it is missing). Addresses come from the user's own configuration; names come from a manifest, which has none
    that could reach beyond the folder or into a command.

    Raises `InputError` for a scheme that nothing opens or whose package is missing, and for a pipe without ``{name}``.
    """

    address: str

    def __post_init__(self) -> None:
        scheme = self.scheme
        if scheme == "pipe" and "{name}" not in self.address:
            raise InputError(f"{self}: write {{name}} where the command is to have the file's name")
        if scheme in ("", "file", "http", "https", "pipe"):
            return
        import fsspec

        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            raise InputError(
                f"{self}: nothing opens addresses that begin with {scheme}: (choose a path, http, https, s3, gs, az, "
                f"hf, pipe or what else fsspec opens)"
            ) from None
        except ImportError as error:
            raise InputError(f"{self} needs another package: {error}") from None

    @property
    def scheme(self) -> str:
        """The address's scheme; empty for a path."""
        match = SCHEME.match(self.address)
        return (match["scheme"] or match["short"]).lower() if match else ""

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one of this machine."""
        if self.scheme == "file":
            return Path(unquote(urlsplit(self.address).path))
        return None if self.scheme else Path(self.address)

    def __str__(self) -> str:
        return self.name()

    def name(self, file: str = "") -> str:
        """Return what messages call the place or a file in it: without passwords and signatures."""
        if self.scheme == "pipe":
            shown: str = public(self.address)
            return shown.replace("{name}", file) if file else shown
        address = self.whole(file) if file else self.address
        return address if self.folder is not None else without_credentials(address)

    def read(self, file: str) -> bytes:
        """Read the whole of a small file: behind an address one of at most 1 GiB.

        Raises `FileNotFoundError` where a folder of this machine lacks it, and `InputError` naming the address where
        it cannot be had.
        """
        if self.folder is not None:
            return (self.folder / file).read_bytes()
        stream = self._stream(file, None)
        try:
            return stream.read_all()
        finally:
            stream.close()

    def open(self, file: str, size: int) -> Reader:
        """Open a file of ``size`` bytes."""
        return self._stream(file, size) if self.folder is None else FileReader(self.folder / file)

    def whole(self, file: str) -> str:
        """Return the address of a file."""
        if self.scheme == "pipe":
            return self.address.replace("{name}", file)
        if self.scheme in ("http", "https"):
            parts = urlsplit(self.address)
            return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(file)}"))
        return f"{self.address.rstrip('/')}/{file}"

    def _stream(self, file: str, size: int | None) -> Stream:
        return Stream(self.whole(file), self.name(file), size)

"""Files that are either whole or not there."""

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2v_abx.errors import NotWritten

if TYPE_CHECKING:
    import polars

__all__ = ["write", "write_folder", "write_json", "write_parquet", "write_text", "written"]


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Make NotWritten, with the file's name, of an OSError in here."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{path} cannot be written ({error.strerror or error})") from error


def write(path: Path, writer: Callable[[Path], Any], *, lasting: bool = False) -> None:
    """Let ``writer`` fill a temporary file beside ``path``, then rename it; nothing is left behind when it fails.

    ``lasting``: onto the disk and not merely into its cache, so that after a power failure, too, it is there and whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        writer(temporary)
        if lasting:
            _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if lasting:
        with suppress(OSError):  # not every system can, of a folder
            _sync(path.parent)


def write_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Let ``fill`` make a temporary folder's content, then rename it to ``folder``, unless another process was faster.

    Nothing is left behind when it fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str, *, lasting: bool = False) -> None:
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), lasting=lasting)


def write_parquet(path: Path, table: "polars.DataFrame") -> None:
    """By way of memory: a full disk is then an OSError like any other."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def write_json(path: Path, value: Any, *, lasting: bool = False) -> None:
    """Strict JSON: not-a-number has no place in a result."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", lasting=lasting)

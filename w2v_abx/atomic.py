"""Files that are either whole or not there."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars

__all__ = ["write", "write_json", "write_parquet", "write_text"]


def write(path: Path, writer: Callable[[Path], Any]) -> None:
    """Let ``writer`` fill a temporary file beside ``path``, then rename it; nothing is left behind when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        writer(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_parquet(path: Path, table: "polars.DataFrame") -> None:
    """By way of memory: a full disk is then an OSError like any other."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: not-a-number has no place in a result."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

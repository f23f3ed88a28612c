"""The phases of a run that are done, so that a run that goes on does not repeat them.

``phases.json`` in the run's folder holds the facts of each, and the checksums of the files that it wrote.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from w2v_abx.system import atomic

__all__ = ["add_phase", "phases_done"]


def phases_done(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the facts of each phase that is done, by name; one whose files are not what they were counts as not done."""
    return {name: phase["facts"] for name, phase in _read(folder).items() if _is_whole(folder, phase)}


def add_phase(folder: Path, name: str, files: Iterable[Path], **facts: Any) -> None:
    """Record that a phase is done: the ``files`` that it wrote in the run's folder, and these facts."""
    written = {str(path.relative_to(folder)): _digest(path) for path in sorted(files) if path.is_file()}
    phases = _read(folder) | {name: {"facts": facts, "files": written}}
    atomic.write_json(folder / "phases.json", phases, lasting=True)


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "phases.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_whole(folder: Path, phase: Any) -> bool:
    try:
        known = isinstance(phase["facts"], dict)
        return known and all(_digest(folder / name) == digest for name, digest in phase["files"].items())
    except (OSError, TypeError, KeyError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

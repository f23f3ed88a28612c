"""The phases of a run that are done, so that a run that goes on does not do them again."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from w2v_abx.system import atomic

__all__ = ["Phases"]


class Phases:
    """What is done of the run in a folder, kept in its ``phases.json`` with the checksums of the files that came of it.

    A phase whose files are no longer what they were counts as not done. That is looked at once, here: all ranks of a
    run make theirs before any of them has done more.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "phases.json"
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {}
        known = told.items() if isinstance(told, dict) else ()
        self._done: dict[str, dict[str, Any]] = {name: phase for name, phase in known if self._is_whole(phase)}

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """The facts of each phase that is done, by name."""
        return {name: phase["facts"] for name, phase in self._done.items()}

    def add(self, name: str, files: Iterable[Path], **facts: Any) -> None:
        """A phase is done: these files, in the run's folder, came of it, and these facts."""
        made = {str(path.relative_to(self.folder)): _digest(path) for path in sorted(files) if path.is_file()}
        self._done[name] = {"facts": facts, "files": made}
        atomic.write_json(self.path, self._done, lasting=True)

    def _is_whole(self, phase: Any) -> bool:
        try:
            known = isinstance(phase["facts"], dict)
            return known and all(_digest(self.folder / name) == digest for name, digest in phase["files"].items())
        except (OSError, TypeError, KeyError, AttributeError):
            return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Utterances beside what a head made of them, to read and, where they are short, to hear."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from w2v_abx.report.section import Transcript, Transcripts

__all__ = ["MAX_CLIPS", "MAX_SECONDS", "clip_path", "part"]

MAX_SECONDS = 10.0  # of an utterance that can be heard
MAX_CLIPS = 12  # that can be heard, of a head on a split
SHOWN_NAME = 60  # characters of a key in a file's name


def clip_path(folder: Path, head: str, corpus: str, key: str) -> Path:
    """Name the file of an utterance's audio in a run's ``folder``; keys may hold any characters, and be long."""
    digest = hashlib.sha256(f"{corpus}/{key}".encode()).hexdigest()[:12]
    return folder / "heads" / head / f"{quote(key, safe='')[:SHOWN_NAME]}-{digest}.flac"


def part(folder: Path, head: str, where: str, found: Sequence[Mapping[str, Any]]) -> Transcripts:
    """Align the transcripts that a head gave; audio is that of `clip_path`, where it was saved."""
    from w2v_abx.heads.edits import align

    aligned = align([list(t["reference"]) for t in found], [list(t["hypothesis"]) for t in found])
    shown = []
    for transcript, pairs in zip(found, aligned, strict=True):
        path = clip_path(folder, head, transcript["corpus"], transcript["key"])
        named = [
            transcript["corpus"],
            transcript["key"],
            f"speaker {transcript['speaker']}" * bool(transcript["speaker"]),
        ]
        counted = f"{transcript['errors']} errors in {transcript['symbols']} symbols"
        shown.append(
            Transcript(
                f"{transcript['which'].capitalize()}: {', '.join(filter(None, named))}: {counted}",
                [(reference or "", hypothesis or "") for reference, hypothesis in pairs],
                path.read_bytes() if path.is_file() else b"",
            )
        )
    note = f"The reference above, what was recognised below; · is a space, – no symbol. Audio up to {MAX_SECONDS:g} s."
    kinds = [transcript["which"] for transcript in found]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return Transcripts(f"Transcripts of {head}{where}: {counts}", shown, note)

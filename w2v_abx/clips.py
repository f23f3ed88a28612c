"""One clip of audio and what is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

__all__ = ["SPLITS", "Clip", "Corpus", "Failure"]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Clip:
    """A span of an audio file and its labels.

    ``key`` is unique in its corpus and names the sample in a shard. ``start`` and ``end`` are seconds into the file at
    ``path`` (``end=None``: to its end). ``seconds`` is about how long it will be, for a file that is not there yet; it
    decides in which shard the clip lies. ``labels`` holds JSON values under the field's usual names: ``labels`` (list
    of categories), ``speaker``, ``sex``, ``text``, ``phones`` (list of ``[onset s, offset s, symbol]``), ``tones``, …
    """

    key: str
    path: Path
    start: float = 0.0
    end: float | None = None
    split: str = "train"
    labels: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    licence: str = ""
    seconds: float | None = None


class Failure(NamedTuple):
    """Why a clip is left out: the one word under which it is counted, and a sentence."""

    reason: str
    message: str


class Corpus(Protocol):
    """Where clips come from.

    One whose audio has to be fetched from elsewhere also has

    - ``plan(folder) -> str``: saves what would be fetched below ``folder``, and returns the text to show before;
    - ``fetch(clips) -> Mapping[str, Failure]``: fetches the audio of some clips, and says why some have none, by key;
    - ``report() -> str``: what became of all clips, to show after.

    One that searches a folder has ``passed_over``, a mapping: how many of its files are not audio, by their ending.
    """

    @property
    def name(self) -> str:
        """Names the shards' folder."""
        ...

    def clips(self) -> list[Clip]:
        """Every clip, sorted by key, keys unique. Generated corpora make their audio here, once."""
        ...

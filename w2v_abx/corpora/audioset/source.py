"""What every place that clips are taken from gives."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["Recording", "Segment", "Source"]


class Segment(NamedTuple):
    """Seconds ``start`` to ``end`` of a video."""

    key: str
    video: str
    start: float
    end: float


class Recording(NamedTuple):
    """The span of a file that holds a segment; less than ``at_least`` seconds of it mean that it broke off."""

    path: Path
    start: float
    end: float
    at_least: float = 0.0


class Source(Protocol):
    """A place that clips are taken from."""

    name: str

    def copies(self, segment: Segment) -> Sequence[str]:
        """What of it is worth asking for, in this order: each text changes when that copy does."""
        ...

    def open(self, segment: Segment, scratch: Path, copy: int) -> AbstractContextManager[Recording]:
        """The segment's audio in one of its `copies`; raises `FetchError`. ``scratch`` is an empty folder to use."""
        ...

"""What every place that clips are taken from gives."""

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
    """The stretch of a file that holds a segment; less than ``at_least`` seconds of it mean that it broke off."""

    path: Path
    start: float
    end: float
    at_least: float = 0.0


class Source(Protocol):
    """A place that clips are taken from."""

    name: str

    def has(self, segment: Segment) -> bool:
        """Whether it is worth asking."""
        ...

    def open(self, segment: Segment, scratch: Path) -> AbstractContextManager[Recording]:
        """The segment's audio, in an empty folder ``scratch`` if need be; raises `FetchError`."""
        ...

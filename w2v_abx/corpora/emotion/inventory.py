"""What the four corpora have in common: an inventory of emotions, and what is known of a recording."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["EMOTIONS", "Recording", "Source"]

# RAVDESS's eight, which cover the others' seven (TESS, SAVEE) and six (CREMA-D). "surprised" holds RAVDESS's surprised,
# SAVEE's surprise and TESS's pleasant surprise; only RAVDESS has calm.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


@dataclass(frozen=True)
class Recording:
    """One file: its place, its name in its corpus, who speaks with which emotion, and other labels."""

    path: Path
    name: str
    speaker: str
    sex: str
    emotion: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One corpus: how its folder is read, and where it comes from.

    ``read`` gives the recordings of a folder and raises `InputError` for a name that does not fit. ``fetch`` fills
    a folder, going on where it stopped; it is ``None`` where that must be done by hand, as ``get_it`` says.
    """

    name: str
    title: str
    licence: str
    get_it: str
    read: Callable[[Path], Iterator[Recording]]
    fetch: Callable[[Path], None] | None = None

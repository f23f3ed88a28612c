"""The labels of a clip that are intervals of time: phones, words, tones."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from w2v_abx.audio import AudioError, info
from w2v_abx.clips import Clip, Failure
from w2v_abx.errors import InputError
from w2v_abx.system.text import nfc

__all__ = [
    "TIERS",
    "TOLERANCE_SECONDS",
    "UNTIMED",
    "Interval",
    "fitted",
    "holds_intervals",
    "intervals",
    "misfit",
    "parse_intervals",
    "seconds_of",
]

TIERS = ("words", "phones", "tones")
TOLERANCE_SECONDS = 0.02  # s, a frame at 50 Hz, by which labels may leave their audio: programs round and pad
UNTIMED = "untimed"  # the label of a clip that lacks its times: [reason, message]


class Interval(NamedTuple):
    """Seconds from the clip's start, and what is spoken there."""

    onset: float
    offset: float
    symbol: str


def intervals(clip: Clip, label: str) -> list[Interval]:
    """The intervals of a label, in order; none where the clip lacks it.

    Raises:
        InputError: the label is not a list of ``[onset s, offset s, symbol]`` in order of time; names the clip.
    """
    return parse_intervals(clip.labels.get(label) or (), f"{clip.key}: its label {label}")


def parse_intervals(rows: Iterable[Any], what: str) -> list[Interval]:
    """Read ``[onset s, offset s, symbol]`` rows in order of time; `InputError` says what they are of."""
    found: list[Interval] = []
    for row in rows:
        try:
            onset, offset, symbol = row
            interval = Interval(float(onset), float(offset), nfc(str(symbol)))
        except (TypeError, ValueError):
            raise InputError(f"{what} has {row!r}, which is not [onset s, offset s, symbol]") from None
        if not 0 <= interval.onset <= interval.offset:
            raise InputError(f"{what} has {row!r}, which does not run forward from 0 s on")
        if found and interval.onset < found[-1].onset:
            raise InputError(f"{what} has {row!r}, which comes after one that begins later")
        found.append(interval)
    return found


def seconds_of(path: Path, start: float = 0.0, end: float | None = None) -> float | None:
    """How long a span of a file is; ``None`` for what cannot be read, which those that need the audio count."""
    if end is not None:
        return end - start
    try:
        return info(path)[0] - start
    except AudioError:
        return None


def misfit(what: str, first: float, last: float, seconds: float | None, *, whole: bool = False) -> Failure | None:
    """Say why labels that run from ``first`` to ``last`` (s) are not those of audio of ``seconds``, if they are not.

    ``whole``: they are to begin where the audio does.
    """
    begun = abs(first) <= TOLERANCE_SECONDS if whole else first >= -TOLERANCE_SECONDS
    if seconds is None or (begun and last <= seconds + TOLERANCE_SECONDS):
        return None
    message = f"{what} run from {first:g} to {last:g} s, and the audio from 0 to {seconds:g} s: they are of other audio"
    return Failure("labels_outside", f"{message}, or it was cut, or their times count from elsewhere")


def fitted(clip: Clip) -> Clip:
    """A clip whose timed labels lie in its audio, up to a tolerance; without them, and with UNTIMED, where they do not.

    All labels that are lists of ``[onset s, offset s, symbol]`` are looked at, whatever they are called.
    """
    timed = {label: rows for label, rows in clip.labels.items() if holds_intervals(label, rows)}
    if not timed:
        return clip
    first = min(row[0] for rows in timed.values() for row in rows)
    last = max(row[1] for rows in timed.values() for row in rows)
    why = misfit(f"the {' and '.join(timed)} of {clip.key}", first, last, seconds_of(clip.path, clip.start, clip.end))
    if why:
        return replace(clip, labels={**_without(clip.labels, timed), UNTIMED: list(why)})
    if first >= 0:
        return clip
    begun = {label: [[max(0.0, row[0]), max(0.0, row[1]), row[2]] for row in rows] for label, rows in timed.items()}
    return replace(clip, labels={**clip.labels, **begun})


def holds_intervals(label: str, value: Any) -> bool:
    """Whether it holds intervals; of a label with another name than theirs, the third value is to be a text."""
    symbol = object if label in TIERS else str
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(
            isinstance(row, list | tuple)
            and len(row) == 3
            and all(isinstance(time, int | float) for time in row[:2])
            and isinstance(row[2], symbol)
            for row in value
        )
    )


def _without(labels: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {label: value for label, value in labels.items() if label not in names and label != "phone_scores"}

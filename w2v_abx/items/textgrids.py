"""TextGrids in and out."""

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from w2v_abx.errors import InputError
from w2v_abx.system import atomic
from w2v_abx.system.extras import extra

__all__ = ["ENDINGS", "ROUNDING", "pick_tier", "read_tiers", "write_tiers"]

ENDINGS = (".TextGrid", ".textgrid")

ROUNDING = 1e-4  # s: Python writes smaller numbers with an exponent, which praatio does not read

# Class, name, start, end and number of intervals of a tier, in the long and in the short format.
_HEAD = re.compile(
    r'"IntervalTier"\s+(?:name ?= ?)?"(?:[^"]|"")*"\s+(?:xmin ?= ?)?\S+\s+(?:xmax ?= ?)?\S+\s+'
    r"(?:intervals ?: ?size ?= ?)?(\d+)"
)

_TIERS = re.compile(r"<exists>\s+(?:size ?= ?)?(\d+)")


def pick_tier(tiers: Mapping[str, list[list[Any]]], names: Sequence[str]) -> list[list[Any]] | None:
    """The first of the names under which there is a tier; ``None`` where there is none.

    Case does not matter, and where no tier is called so, the only one called ``SPEAKER - NAME`` is taken, as the
    Montreal Forced Aligner writes it.
    """
    for name in names:
        alike = [found for found in tiers if found.lower() == name.lower()]
        spoken = [found for found in tiers if found.lower().endswith(f" - {name.lower()}")]
        if name in tiers:
            return tiers[name]
        if len(alike or spoken) == 1:
            return tiers[(alike or spoken)[0]]
    return None


def read_tiers(path: Path | str) -> dict[str, list[list[Any]]]:
    """The tiers of intervals by name: of each those that hold a label, in order, ``[onset s, offset s, symbol]`` each.

    ``path`` is a TextGrid of Praat in the long or the short format, in UTF-8 or UTF-16.

    Raises:
        InputError: the file is missing, damaged or no TextGrid.
    """
    with extra("textgrid"):
        from praatio import textgrid
        from praatio.utilities.errors import PraatioException
    path = Path(path)
    try:
        text = _text(path)
        # Kept, so that their number can be compared with the announced one: a file that breaks off may parse.
        grid = textgrid.openTextgrid(
            str(path), includeEmptyIntervals=True, reportingMode="silence", duplicateNamesMode="rename"
        )
    except FileNotFoundError:
        raise InputError(f"the TextGrid {path} does not exist") from None
    except UnicodeError:
        raise InputError(f"{path} is neither UTF-8 nor UTF-16: save it as UTF-8 in Praat") from None
    # praatio meets what it did not expect with whatever it trips over first.
    except (OSError, PraatioException, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise InputError(f"{path} cannot be read as a TextGrid ({type(error).__name__}: {error})") from error
    tiers = [tier for tier in grid.tiers if isinstance(tier, textgrid.IntervalTier)]
    for tier, count in zip_longest(tiers, map(int, _HEAD.findall(text))):
        if tier is None or len(tier.entries) != count:
            raise InputError(f"{path} breaks off: its intervals are fewer than it announces")
    total = _TIERS.search(text)
    if total is None or int(total[1]) != len(grid.tiers):
        raise InputError(
            f"{path} breaks off: it announces {total[1] if total else 'no'} tiers and holds {len(grid.tiers)}"
        )
    return {tier.name: [[start, end, label] for start, end, label in tier.entries if label] for tier in tiers}


def write_tiers(path: Path | str, tiers: Mapping[str, Sequence[Sequence[Any]]], seconds: float) -> None:
    """Write intervals ``[onset s, offset s, symbol]`` as tiers of a TextGrid (long format, UTF-8), atomically.

    ``seconds`` is the length of the audio; what no interval covers becomes empty intervals, as Praat wants it.

    Bounds of neighbours that differ by less than 0.1 ms, from rounding, become one; so do the first and 0.

    Raises:
        InputError: intervals overlap, are empty or leave the audio.
    """
    with extra("textgrid"):
        from praatio import textgrid
        from praatio.utilities.constants import Interval
        from praatio.utilities.errors import PraatioException
    path = Path(path)
    grid = textgrid.Textgrid(0, seconds)
    try:
        for name, intervals in tiers.items():
            entries: list[Interval] = []
            last = 0.0
            for onset, offset, symbol in intervals:
                entries.append(Interval(last if abs(onset - last) < ROUNDING else onset, offset, str(symbol)))
                last = offset
            if last > seconds:
                raise InputError(f"{path}: the tier {name!r} ends at {last:g} s, after the audio's {seconds:g} s")
            grid.addTier(textgrid.IntervalTier(name, entries, 0, seconds), reportingMode="error")
        atomic.write(
            path,
            lambda partial: grid.save(
                str(partial), "long_textgrid", includeBlankSpaces=True, minimumIntervalLength=0, reportingMode="error"
            ),
        )
    except PraatioException as error:
        raise InputError(f"{path} cannot be written as a TextGrid ({error})") from error


def _text(path: Path) -> str:
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")

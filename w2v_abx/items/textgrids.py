"""TextGrids in and out."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w2v_abx.clips import Failure
from w2v_abx.errors import InputError
from w2v_abx.items.labels import misfit
from w2v_abx.system import atomic
from w2v_abx.system.text import read_text

__all__ = ["ENDINGS", "ROUNDING", "Tiers", "pick_tier", "read_tiers", "write_tiers"]

ENDINGS = (".TextGrid", ".textgrid")

ROUNDING = 1e-4  # s: bounds that differ by less are one, and shorter intervals none
SLACK_SECONDS = 1e-3  # s by which an interval may begin before the one before it ends: programs round their times

# What Praat reads of a text file: free-standing numbers and quoted texts. All else is there for people, whatever the
# layout: long, short or free.
_TOKEN = re.compile(
    r'![^\n]*|"(?P<text>[^"]*(?:""[^"]*)*)"'
    r'|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[\s"]|$)'
    r'|[^\s"=]+=?|='
)
_CLASSES = ("IntervalTier", "TextTier")
_CHRONOLOGICAL = "Praat chronological TextGrid text file"
_BINARY = "ooBinaryFile"

Rows = list[list[Any]]
Token = float | str


class Tiers(dict[str, Rows | InputError]):
    """The tiers of intervals of a TextGrid by name: rows ``[onset s, offset s, symbol]``, or why one is unreadable.

    Attributes:
        start, end: of the whole TextGrid, in seconds.
    """

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def misfit(self, path: Path, seconds: float | None) -> Failure | None:
        """Say why they are not of audio of ``seconds``, if they are not: a TextGrid begins where its audio does."""
        return misfit(f"the times in {path}", self.start, self.end, seconds, whole=True)


def pick_tier(tiers: Mapping[str, Rows | InputError], names: Sequence[str]) -> Rows | None:
    """The first of the names under which there is a tier; ``None`` where there is none.

    Case does not matter, and where no tier is called so, the only one called ``SPEAKER - NAME`` is taken, as the
    Montreal Forced Aligner writes it.

    Raises:
        InputError: that tier cannot be read.
    """
    for name in names:
        alike = [found for found in tiers if found.lower() == name.lower()]
        spoken = [found for found in tiers if found.lower().endswith(f" - {name.lower()}")]
        chosen = [name] if name in tiers else alike or spoken
        if len(chosen) == 1:
            rows = tiers[chosen[0]]
            if isinstance(rows, InputError):
                raise rows
            return rows
    return None


def read_tiers(path: Path | str) -> Tiers:
    """Read the tiers of intervals of a TextGrid: of each those that hold a label, in order.

    ``path`` is a TextGrid of Praat as text, in any of its layouts and encodings. A tier in which something is wrong
    is an InputError in the place of its rows, so that it spoils no other. Overlaps of up to a millisecond, from
    rounding, are taken away.

    Raises:
        InputError: the file is missing, no TextGrid, or holds fewer tiers than it announces.
    """
    path = Path(path)
    tokens = [_token(match) for match in _TOKEN.finditer(read_text(path)) if match.lastgroup]
    kind = tokens[0] if tokens else ""
    if kind == _CHRONOLOGICAL:
        return _read_chronological(path, tokens)
    if isinstance(kind, str) and kind.startswith("ooTextFile") and tokens[1:2] == ["TextGrid"]:
        if _are(tokens[2:5], "nnn"):
            return _read_by_tier(path, tokens)
        raise InputError(f"{path} breaks off: it does not say when it begins and ends, and how many tiers it holds")
    raise InputError(f"{path} is no TextGrid: save it in Praat as a text file (ooTextFile) of a TextGrid")


def _token(match: re.Match[str]) -> Token:
    text = match["text"]
    return float(match["number"]) if text is None else text.replace('""', '"')


def _are(tokens: Sequence[Token], pattern: str) -> bool:
    """Whether they are, one by one, numbers (n) and texts (t)."""
    return len(tokens) == len(pattern) and all(
        isinstance(token, float if kind == "n" else str) for token, kind in zip(tokens, pattern, strict=True)
    )


def _read_by_tier(path: Path, tokens: list[Token]) -> Tiers:
    start, end, count = (float(number) for number in tokens[2:5])
    begins = [place for place in range(5, len(tokens)) if _begins_tier(tokens, place)]
    if len(begins) != count:
        raise InputError(f"{path} breaks off: it announces {count:g} tiers and holds {len(begins)}")
    tiers = Tiers(start, end)
    for begin, stop in zip(begins, [*begins, len(tokens)][1:], strict=True):
        kind, name, *body = tokens[begin:stop]
        if kind == "IntervalTier":
            _add(tiers, str(name), path, body[2:3], body[3:])
    return tiers


def _begins_tier(tokens: Sequence[Token], place: int) -> bool:
    """Whether a class stands there, and not a label that is called like one: before a label stands a number."""
    if tokens[place] not in _CLASSES or not _are(tokens[place + 1 : place + 2], "t"):
        return False
    return isinstance(tokens[place - 1], str) or _are(tokens[place + 2 : place + 3], "n")


def _read_chronological(path: Path, tokens: list[Token]) -> Tiers:
    """Read the layout that has the tiers first, then all intervals and points by time, after their tier's number."""
    if not _are(tokens[1:4], "nnn"):
        raise InputError(f"{path} breaks off: it does not say when it begins and ends, and how many tiers it holds")
    start, end, count = (float(number) for number in tokens[1:4])
    heads: list[list[Token]] = []
    place = 4
    while len(heads) < count and _are(tokens[place : place + 4], "ttnn"):
        heads.append(tokens[place : place + 2])
        place += 4
    cells: dict[float, list[Token]] = {number: [] for number in range(1, len(heads) + 1)}
    while len(heads) == count and place < len(tokens) and (number := tokens[place]) in cells:
        size = 3 if heads[int(number) - 1][0] == "IntervalTier" else 2
        cells[float(number)] += tokens[place + 1 : place + 1 + size]
        place += 1 + size
    if len(heads) != count or place != len(tokens):
        raise InputError(f"{path} breaks off: something is missing after {place} of its {len(tokens)} values")
    tiers = Tiers(start, end)
    for (kind, name), own in zip(heads, cells.values(), strict=True):
        if kind == "IntervalTier":
            _add(tiers, str(name), path, [float(len(own) // 3)], own)
    return tiers


def _add(tiers: Tiers, name: str, path: Path, count: Sequence[Token], cells: Sequence[Token]) -> None:
    """Add a tier; of several with one name the later ones are numbered."""
    place = 2
    key = name
    while key in tiers:
        key, place = f"{name}_{place}", place + 1
    try:
        tiers[key] = _rows(f"{path}, tier {name!r}", count, cells)
    except InputError as error:
        tiers[key] = error


def _rows(where: str, count: Sequence[Any], cells: Sequence[Any]) -> Rows:
    if not _are(count, "n"):
        raise InputError(f"{where} breaks off: it does not say how many intervals it holds")
    if 3 * count[0] != len(cells) or not _are(cells, "nnt" * (len(cells) // 3)):
        raise InputError(f"{where} breaks off: it announces {count[0]:g} intervals and holds {len(cells) / 3:.3g}")
    rows: Rows = []
    last: Any = float("-inf")
    for place in range(0, len(cells), 3):
        onset, offset, symbol = cells[place : place + 3]
        bounds = f"{where}: its interval {place // 3 + 1}, from {onset:g} to {offset:g} s,"
        if offset < onset - SLACK_SECONDS:
            raise InputError(f"{bounds} ends before it begins")
        if onset < last - SLACK_SECONDS:
            raise InputError(f"{bounds} begins before the one before it ends, at {last:g} s")
        onset = max(onset, last)
        last = max(onset, offset)
        if symbol := str(symbol).strip():
            rows.append([onset, last, symbol])
    return rows


def write_tiers(path: Path | str, tiers: Mapping[str, Sequence[Sequence[Any]]], seconds: float) -> None:
    """Write intervals ``[onset s, offset s, symbol]`` as tiers of a TextGrid (long layout, UTF-8), atomically.

    ``seconds`` is the length of the audio; what no interval covers becomes empty intervals, as Praat wants it.

    Bounds of neighbours that differ by less than 0.1 ms, from rounding, become one; so do the first and 0.

    Raises:
        InputError: intervals overlap, are empty or leave the audio.
    """
    path = Path(path)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {seconds:.15g}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        rows = _without_gaps(f"{path}: the tier {name!r}", intervals, seconds)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {seconds:.15g}", f"        intervals: size = {len(rows)}"]
        for place, (onset, offset, symbol) in enumerate(rows, 1):
            bounds = [f"            xmin = {onset:.15g}", f"            xmax = {offset:.15g}"]
            lines += [f"        intervals [{place}]:", *bounds, f"            text = {_quoted(symbol)}"]
    atomic.write_text(path, "\n".join([*lines, ""]))


def _without_gaps(tier: str, intervals: Sequence[Sequence[Any]], seconds: float) -> Rows:
    rows: Rows = []
    last: float = 0
    for onset, offset, symbol in intervals:
        if abs(onset - last) >= ROUNDING:
            if onset < last:
                raise InputError(f"{tier} cannot be written: {symbol!r} begins at {onset:g} s, before {last:g} s")
            rows.append([last, onset, ""])
            last = onset
        if offset <= last:
            raise InputError(f"{tier} cannot be written: {symbol!r} is empty, at {onset:g} s")
        rows.append([last, offset, symbol])
        last = offset
    if last > seconds:
        raise InputError(f"{tier} ends at {last:g} s, after the audio's {seconds:g} s")
    return [*rows, [last, seconds, ""]] if last < seconds else rows


def _quoted(text: object) -> str:
    return '"' + str(text).replace('"', '""') + '"'

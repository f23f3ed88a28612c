"""What renderers give, and the page, the terminal and the model card show: sections of text, tables and figures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from w2v_abx.report.summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "LINES",
    "NONE",
    "STYLE",
    "Drawing",
    "Listing",
    "Renderer",
    "Section",
    "Table",
    "Transcript",
    "Transcripts",
    "gap",
    "number",
    "p_value",
    "percent",
]

NONE = "-"  # in a table, where there is no number

# Colours that the colour-blind can tell apart (Okabe & Ito, 2008).
COLOURS = {"before": "#0072B2", "after": "#D55E00", "mfcc": "#555555", "random": "#009E73"}
LINES = (*COLOURS.values(), "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of what has no colour of its own
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "svg.hashsalt": "w2v-abx",  # the same file for the same figure
    "text.parse_math": False,  # a dollar sign in a category's name is a dollar sign
}


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first column is a label.

    ``marked`` numbers the row that decides. On the page a table is ``folded`` under these words, if there are any, and
    the cells of a ``wide`` one are text, which is aligned left and wrapped.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: int | None = None
    folded: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when it is asked for: its file's name, what it shows in words, its size in inches."""

    name: str
    text: str
    size: tuple[float, float]
    draw: Callable[["Figure"], None]
    layout: str = "constrained"

    def figure(self) -> "Figure":
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=self.size, layout=self.layout)  # type: ignore[arg-type]
            self.draw(figure)
        return figure


@dataclass(frozen=True)
class Listing:
    """A file's text as it is, folded under a title on the page."""

    title: str
    text: str


@dataclass(frozen=True)
class Transcript:
    """An utterance: its reference and what was recognised, symbol beside symbol, "" where one of them has none.

    ``sound``: a FLAC file's bytes; none where the utterance is long.
    """

    title: str
    pairs: Sequence[tuple[str, str]]
    sound: bytes = b""


@dataclass(frozen=True)
class Transcripts:
    """Some utterances, folded under a title on the page."""

    title: str
    transcripts: Sequence[Transcript]
    note: str


@dataclass(frozen=True)
class Section:
    """One kind of result.

    Args:
        title: its heading on the page.
        parts: what the page shows, in this order; a string says what is missing, and why.
        terminal: those of them that the terminal shows, too.
    """

    title: str
    parts: Sequence[Table | Drawing | Listing | Transcripts | str]
    terminal: Sequence[Table | str] = ()


class Renderer(Protocol):
    """Make one kind of result into a section, or several, from what a run has saved in ``summary.folder``.

    None: a run need not have that kind, and this one has nothing of it. Raises InputError for a file that is broken.
    """

    def __call__(self, summary: Summary) -> Section | Sequence[Section] | None: ...


def gap(path: Path, why: str, empty: str = "is empty") -> str:
    """Say in a sentence that ``path``, which would tell, is not there or ``empty``."""
    return f"{why}: {path.name} {empty}." if path.is_file() else f"{why}: there is no {path.name} in this folder."


def number(value: Any, form: str) -> str:
    """Format a number; a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else format(value, form)


def percent(value: float | None) -> str:
    return number(None if value is None else 100 * value, ".1f")


def p_value(p: float | None) -> str:
    return "<0.0001" if p is not None and p < 1e-4 else number(p, ".2g")

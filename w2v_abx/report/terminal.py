"""The end of a run on the terminal: tables, then the verdict in one sentence, then where the report is."""

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from w2v_abx.report.renderers import sections
from w2v_abx.report.section import Table
from w2v_abx.report.summary import Summary
from w2v_abx.system.streams import plain_console

__all__ = ["print_summary"]


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print a run's tables, verdict and the place of its report; reads well at 80 columns and in a file."""
    console = console or plain_console()
    for part in (part for section in sections(summary) for part in section.terminal):
        console.print()
        if isinstance(part, str):
            console.print(Text(part))
            continue
        console.print(_grid(part))
        if part.note:
            console.print(Padding(Text(part.note, style="dim"), (0, 0, 0, 1)))
    console.print()
    console.print(Text(summary.verdict, style="bold"))
    report = summary.folder / "report.html"
    if report.is_file():
        # A path is for copying: it must not be broken over lines.
        console.print(Text(f"\nReport: {report}"), soft_wrap=True)


def _grid(table: Table) -> Grid:
    grid = Grid(title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(table.columns):
        grid.add_column(
            column.replace(", ", ",\n").replace(" [", "\n["),
            justify="left" if position == 0 else "right",
            overflow="fold",
        )
    for position, row in enumerate(table.rows):
        grid.add_row(*map(Text, row), style="bold" if position == table.marked else "")
    return grid

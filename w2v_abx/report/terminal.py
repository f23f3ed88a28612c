"""The end of a run on the terminal: tables, then the verdict in one sentence, then where the report is."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from w2v_abx.report.summary import Summary, summarize
from w2v_abx.report.tables import Table, abx_tables, delta_tables, head_table

__all__ = ["print_summary"]


def print_summary(run: Summary | Path | str, console: Console | None = None) -> None:
    """Print a run's tables, verdict and the place of its report; reads well at 80 columns and in a file.

    Raises InputError as `summarize` does.
    """
    summary = run if isinstance(run, Summary) else summarize(run)
    console = console or Console()
    heads = head_table(summary)
    for table in (*abx_tables(summary), *delta_tables(summary), *([heads] if heads else [])):
        console.print()
        console.print(_grid(table))
        if table.note:
            console.print(Padding(Text(table.note, style="dim"), (0, 0, 0, 1)))
    if not heads:
        console.print(Text(f"\n{summary.missing['head.json']}"))
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

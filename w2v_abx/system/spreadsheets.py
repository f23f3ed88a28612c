"""Write tables for people, in which no cell is a formula to the program that they are opened with."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from w2v_abx.system.atomic import write_text

if TYPE_CHECKING:
    import polars

__all__ = ["neutral", "restored", "write_csv"]

# What spreadsheets take for the beginning of a formula, in full width too; marks that were put before it count with it.
FORMULA = r"^'*[=+\-@\t\r\n＝＋－＠]"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def neutral(cell: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula; `restored` takes it away."""
    return f"'{cell}" if re.match(FORMULA, cell) and not re.match(NUMBER, cell) else cell


def restored(cell: str) -> str:
    """The text of which `neutral` made a cell."""
    return cell[1:] if cell.startswith("'") and re.match(FORMULA, cell) else cell


def write_csv(path: Path, table: "polars.DataFrame") -> None:
    """Write a table, its texts and the names of its columns `neutral`, whole or not at all."""
    import polars as pl

    text = pl.col(pl.String)
    formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    cells = table.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())
    write_text(path, cells.rename(neutral).write_csv())

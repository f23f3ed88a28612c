"""Analyses of a user's own: their tables as they are."""

import polars as pl

from w2v_abx.analysis.analysis import read_result
from w2v_abx.report.analyses.figures import model_name
from w2v_abx.report.section import NONE, Section, Table, number
from w2v_abx.report.summary import Summary

__all__ = ["render"]

DRAWN = {
    "clusters", "coverage", "isotropy", "normalisation", "probe", "projection", "saliency", "similarity", "vectors",
}  # fmt: skip
MOST = 500  # rows that are shown; the parquet file has all


def render(summary: Summary) -> list[Section] | None:
    """Make a section of each analysis that no other module here knows."""
    folders = sorted(
        path.name for path in summary.folder.glob("analysis/*") if path.is_dir() and path.name not in DRAWN
    )
    return [section for name in folders if (section := _section(summary, name))] or None


def _section(summary: Summary, name: str) -> Section | None:
    result = read_result(summary.folder, name)
    if result is None:
        return None
    tables = [_table(f"{name}: {title}", table) for title, table in result.tables.items()]
    return Section(name.capitalize(), [*tables, *result.notes])


def _table(title: str, table: pl.DataFrame) -> Table:
    rows = [
        [_text(column, value) for column, value in zip(table.columns, row, strict=True)]
        for row in table.head(MOST).iter_rows()
    ]
    return Table(
        title, table.columns, rows, f"The first {MOST} of {table.height:,} rows." if table.height > MOST else ""
    )


def _text(column: str, value: object) -> str:
    if isinstance(value, float):
        return number(value, ".4g")
    if value is None:
        return NONE
    return model_name(str(value)) if column == "model" else str(value)

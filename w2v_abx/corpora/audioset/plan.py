"""What a selection holds, shown before anything is fetched, and what became of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from w2v_abx.clips import SPLITS
from w2v_abx.corpora.audioset.selection import Selection
from w2v_abx.corpora.audioset.source import OK, STATUSES
from w2v_abx.system.atomic import write_json
from w2v_abx.system.spreadsheets import write_csv

__all__ = ["cooccurrence", "make_plan", "report_text"]

SHOWN = 40  # categories in the printed table; the files have all
PAIRS = 10  # of categories, likewise


def _categories(selection: Selection) -> pl.DataFrame:
    """Per wanted category: ``mid``, ``name``, ``available`` (segments before limits) and clips by split."""
    wanted = selection.wanted
    table: dict[str, Any] = {"mid": list(wanted), "name": list(wanted.values())}
    table["available"] = sum(selection.candidates.values(), np.zeros(len(wanted), dtype=np.int64))
    for split in SPLITS:
        chosen = selection.segments.filter(pl.col("split") == split)
        table[split] = np.bincount(_flat(chosen), minlength=len(wanted))
    return pl.DataFrame(table)


def cooccurrence(selection: Selection) -> np.ndarray:
    """(C, C) clips that carry both of two wanted categories, all splits; the diagonal counts those that carry one."""
    size = len(selection.wanted)
    rows = np.repeat(np.arange(len(selection.segments)), selection.segments["categories"].list.len().to_numpy())
    pairs = pl.DataFrame({"row": rows, "category": _flat(selection.segments)})
    both = pairs.join(pairs, on="row").group_by("category", "category_right").len()
    matrix = np.zeros((size, size), dtype=np.int64)
    matrix[both["category"].to_numpy(), both["category_right"].to_numpy()] = both["len"].to_numpy()
    return matrix


def make_plan(name: str, selection: Selection, folder: Path, settings: Mapping[str, Any]) -> str:
    """Write ``plan.json``, ``categories.csv``, ``cooccurrence.csv`` and ``clips.csv``; the plan as a text."""
    names = list(selection.wanted.values())
    table, both, splits = _categories(selection), cooccurrence(selection), _splits(selection)
    matrix = pl.DataFrame(both, schema=names, orient="row") if names else pl.DataFrame()
    clips = selection.segments.select(
        "key", "video", "start", "end", "split",
        pl.col("mids").list.join("|"),
        labels=pl.col("categories").list.eval(pl.element().replace_strict(dict(enumerate(names)))).list.join("|"),
    )  # fmt: skip
    write_csv(folder / "categories.csv", table)
    write_csv(folder / "cooccurrence.csv", matrix.insert_column(0, pl.Series("name", names)))
    write_csv(folder / "clips.csv", clips)
    left_out = dict(selection.left_out)
    write_json(folder / "plan.json", {"settings": dict(settings), "splits": splits, "left_out": left_out})

    lines = [f"{name}: plan"]
    lines += [f"  {split}: {held['clips']} clips, {held['hours']:.2f} hours" for split, held in splits.items()]
    lines += [f"  left out: {count} segments, {reason}" for reason, count in left_out.items() if count]
    several = int((selection.segments["categories"].list.len() > 1).sum())
    lines.append(
        f"  {several} of {len(clips)} clips carry more than one of the {len(table)} categories"
        + ("; most often:" if several else "")
    )
    rows, columns = np.nonzero(np.triu(both, 1))
    frequent = np.lexsort((columns, rows, -both[rows, columns]))[:PAIRS]
    lines += [
        f"    {both[one, other]} {names[one]} + {names[other]}"
        for one, other in zip(rows[frequent], columns[frequent], strict=True)
    ]
    table = table.with_columns(chosen=pl.sum_horizontal(SPLITS)).sort("chosen", "name", descending=[True, False])
    empty = table.filter(pl.col("chosen") == 0)["name"].to_list()
    if empty:
        lines.append(f"  no clip at all: {'; '.join(empty[:SHOWN])}{' …' if len(empty) > SHOWN else ''}")
    lines += ["", _rendered(table.filter(pl.col("chosen") > 0).select("name", "available", *SPLITS), SHOWN)]
    lines += [f"  saved in {folder}: plan.json, categories.csv, cooccurrence.csv, clips.csv"]
    return "\n".join(lines)


def report_text(name: str, counts: Mapping[tuple[str, str], int], untried: int) -> str:
    """What became of the clips, by status and source."""
    rows = [
        (
            status,
            count,
            source,
            STATUSES[status].meaning if status in STATUSES else "not settled: tried again next time",
        )
        for (status, source), count in sorted(counts.items(), key=lambda item: (item[0][0] != OK, -item[1]))
    ]
    if untried:
        rows.append(("", untried, "", "not asked for yet"))
    table = pl.DataFrame(rows, schema=["status", "clips", "from", "meaning"], orient="row")
    return f"{name}: what became of the clips\n{_rendered(table, len(table))}"


def _flat(segments: pl.DataFrame) -> np.ndarray:
    return segments["categories"].explode().drop_nulls().to_numpy()


def _splits(selection: Selection) -> dict[str, dict[str, Any]]:
    table = selection.segments.group_by("split").agg(
        pl.len().alias("clips"), ((pl.col("end") - pl.col("start")).sum() / 3600).alias("hours")
    )
    found = {row["split"]: {"clips": row["clips"], "hours": round(row["hours"], 4)} for row in table.to_dicts()}
    return {split: found[split] for split in SPLITS if split in found}


def _rendered(table: pl.DataFrame, rows: int) -> str:
    """A table as text, of whose rows at most so many are shown."""
    with pl.Config(
        tbl_formatting="NOTHING",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=rows,
        tbl_cols=-1,
        tbl_width_chars=120,
        fmt_str_lengths=120,
        tbl_cell_numeric_alignment="RIGHT",
    ):
        return str(table)

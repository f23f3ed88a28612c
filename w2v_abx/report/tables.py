"""The report's tables as text, one source for the terminal and the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from w2v_abx.report.summary import CONDITIONS, NAMES, Summary
from w2v_abx.statistics.paired import Comparison

__all__ = ["Table", "abx_tables", "category_table", "change_table", "delta_tables", "fact_table", "head_table"]

NONE = "-"


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first column is a label, and ``marked`` numbers the row that decides."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: int | None = None


def number(value: Any, form: str) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else format(value, form)


def percent(value: float | None) -> str:
    return number(None if value is None else 100 * value, ".1f")


def p_value(p: float | None) -> str:
    return "<0.0001" if p is not None and p < 1e-4 else number(p, ".2g")


def abx_tables(summary: Summary) -> list[Table]:
    """ABX error per layer, one table per condition: baselines, before, after, difference with interval, p."""
    tables = []
    for condition in summary.conditions:
        tags = [tag for tag, model in summary.models.items() if any(c == condition for _, c in model.scores)]
        compared = any(c.condition == condition for c in summary.comparisons)
        columns = ["layer", *(NAMES.get(tag, tag) for tag in tags)]
        columns += ["change [95 % interval]", "p"] if compared else []
        rows: list[list[str]] = []
        marked: int | None = None
        for layer in summary.layers(condition):
            comparison = summary.comparison(layer, condition)
            if comparison is not None and comparison is summary.primary:
                marked = len(rows)
            row = [f"{layer}{' *' if marked is not None and marked == len(rows) else ''}"]
            for tag in tags:
                score = summary.score(tag, layer, condition)
                row.append(percent(score["error"] if score else None))
            rows.append([*row, *_change(comparison)] if compared else row)
        notes = []
        if compared:
            family = len(summary.comparisons)
            corrected = f", after Holm's correction over {family} comparisons" if family > 1 else ""
            notes.append(f"p: sign-flip permutation over phone pairs{corrected}.")
            notes.append(_resampled(summary, condition))
        if marked is not None:
            notes.append("* decides the verdict.")
        tables.append(Table(f"ABX error {_where(condition)} (%)", columns, rows, " ".join(notes), marked))
    return tables


def delta_tables(summary: Summary) -> list[Table]:
    """Delta values, mean ± standard deviation, raw and scale-free, one table per condition."""
    tables = []
    for condition in summary.conditions:
        tags = [tag for tag in summary.models if tag not in ("mfcc", "random")]
        rows: list[list[str]] = []
        for layer in summary.layers(condition):
            row = [str(layer)]
            for prefix, form in (("", ".4f"), ("scale_free_", ".3f")):
                for tag in tags:
                    score = summary.score(tag, layer, condition)
                    row.append(_spread(score["delta"] if score else {}, prefix, form))
            rows.append(row)
        columns = ["layer", *(f"{NAMES.get(tag, tag)}{kind}" for kind in ("", ", scale-free") for tag in tags)]
        note = "Mean ± standard deviation over triplets; scale-free: divided by the mean distance."
        tables.append(Table(f"Delta value {_where(condition)}", columns, rows, note))
    return [table for table in tables if len(table.columns) > 1]


def head_table(summary: Summary) -> Table | None:
    """One row per head and metric."""
    rows = [
        [name, head["titles"].get(metric, metric), number(value, ".3f") if isinstance(value, float) else str(value)]
        for name, head in summary.heads.items()
        for metric, value in head["metrics"].items()
        if value is not None
    ]
    return Table("Heads on held-out clips", ["head", "metric", "value"], rows) if rows else None


def category_table(name: str, head: Mapping[str, Any]) -> Table:
    """What is known of each category of one head."""
    columns = list(head["rows"][0]) if head["rows"] else []
    rows = [[_cell(row[column]) for column in columns] for row in head["rows"]]
    return Table(
        f"Categories of {name}",
        [head["titles"].get(column, column) for column in columns],
        rows,
        "A dash: no held-out clip tells." if any(NONE in row for row in rows) else "",
    )


def _cell(value: Any) -> str:
    return number(value, ".3f") if isinstance(value, float | None) else str(value)


def change_table(summary: Summary) -> Table | None:
    """Every comparison's tests and effect size."""
    if not summary.comparisons:
        return None
    columns = ["cells", "phone pairs", "t-test p", "Wilcoxon p", "permutation p", "Holm p", "effect size dz [95 %]"]
    order = {condition: position for position, condition in enumerate(summary.conditions)}
    listed = sorted(summary.comparisons, key=lambda c: (order.get(c.condition or "", 0), c.layer or 0))
    rows = [
        [
            f"layer {c.layer} {_where(c.condition or '')}{' *' if c is summary.primary else ''}",
            str(c.n_pairs),
            *(p_value(p) for p in (c.p_t, c.p_wilcoxon, c.p_permutation, c.p_holm)),
            f"{number(c.effect_size, '+.2f')} [{number(c.effect_low, '+.2f')}, {number(c.effect_high, '+.2f')}]",
        ]
        for c in listed
    ]
    marked = next((i for i, c in enumerate(listed) if c is summary.primary), None)
    note = (
        "Tests are paired over phone pairs, (a, b) and (b, a) together. Pairs share phones and the tests take them as "
        "independent, so p-values lean low: read them beside the interval. dz: mean change ÷ its standard deviation."
    )
    return Table("Tests of the change", columns, rows, note, marked)


def fact_table(facts: Mapping[str, Any]) -> Table:
    """`run.json`, nested keys joined by dots."""
    rows: list[list[str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            rows.append([prefix, ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)])

    walk("", facts)
    return Table("run.json", ["what", "value"], rows)


def _where(condition: str) -> str:
    return CONDITIONS.get(condition, condition)


def _change(c: Comparison | None) -> list[str]:
    if c is None:
        return [NONE, NONE]
    interval = f"[{100 * c.ci_low:+z.1f}, {100 * c.ci_high:+z.1f}]" if math.isfinite(c.ci_low) else "[no interval]"
    return [f"{100 * c.difference:+z.1f} {interval}", p_value(c.p_permutation if c.p_holm is None else c.p_holm)]


def _resampled(summary: Summary, condition: str) -> str:
    c = next(c for c in summary.comparisons if c.condition == condition)
    speakers = f"{c.n_speakers} speaker{'s' * (c.n_speakers != 1)}"
    counts = f"{c.n_pairs} phone pairs" + (f" and {speakers}" if c.n_speakers else "")
    if not c.resampled:
        return f"No interval: {counts} are too few to resample."
    fixed = (
        f" (the {speakers} held fixed: too few to resample)" if c.n_speakers and "speakers" not in c.resampled else ""
    )
    return f"Interval: over {' and '.join(c.resampled)}{fixed}; {counts}."


def _spread(delta: Mapping[str, Any], prefix: str, form: str) -> str:
    mean, std = (number(delta.get(f"{prefix}{key}"), form) for key in ("mean", "std"))
    return NONE if NONE in (mean, std) else f"{mean} ± {std}"

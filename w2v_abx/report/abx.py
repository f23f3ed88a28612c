"""ABX error by layer, and the tests of its change."""

import math
from typing import TYPE_CHECKING

import numpy as np

from w2v_abx.report.section import COLOURS, NONE, Drawing, Section, Table, number, p_value, percent
from w2v_abx.report.summary import NAMES, Summary, in_words
from w2v_abx.statistics.paired import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["abx_tables", "change_table", "render"]

OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")  # colours of models of other tags
MARKERS = {"before": "o", "after": "s", "random": "^"}


def render(summary: Summary) -> Section:
    if not summary.models:
        return Section("ABX error", ["No model was scored: there is no abx/TAG/summary.json in this folder."])
    tables = abx_tables(summary)
    text = (
        "ABX error by layer with each model's own 95 % interval. A change is measured pair by pair, and so surer than "
        "two such intervals suggest: it is in the table."
    )
    size = (5.2 * max(len(summary.conditions), 1.4), 4.2)
    layers = Drawing("layers", text, size, lambda figure: _draw_layers(figure, summary))
    tests = [change_table(summary)] if summary.comparisons else []
    return Section("ABX error", [*tables, layers, *tests], terminal=tables)


def abx_tables(summary: Summary) -> list[Table]:
    """ABX error per layer, one table per condition: baselines, before, after, difference with interval, p."""
    tables = []
    for condition in summary.conditions:
        tags = [tag for tag, model in summary.models.items() if any(c == condition for _, c in model.scores)]
        compared = {c.layer: c for c in summary.comparisons if c.condition == condition}
        columns = ["layer", *(NAMES.get(tag, tag) for tag in tags)]
        columns += ["change [95 % interval]", "p"] if compared else []
        rows: list[list[str]] = []
        marked: int | None = None
        for layer in summary.layers(condition):
            decides = (layer, condition) == summary.decisive
            marked = len(rows) if decides else marked
            scores = [summary.score(tag, layer, condition) for tag in tags]
            row = [f"{layer} *" if decides else str(layer), *(percent(s["error"] if s else None) for s in scores)]
            rows.append([*row, *_change(compared.get(layer))] if compared else row)
        notes = []
        if compared:
            family = len(summary.comparisons)
            corrected = f", after Holm's correction over {family} comparisons" if family > 1 else ""
            notes = [
                f"p: sign-flip permutation over phone pairs{corrected}.",
                _resampled(next(iter(compared.values()))),
            ]
        if marked is not None:
            notes.append("* decides the verdict.")
        tables.append(Table(f"ABX error {in_words(condition)} (%)", columns, rows, " ".join(notes), marked))
    return tables


def change_table(summary: Summary) -> Table:
    """Every comparison's tests and effect size."""
    columns = ["cells", "phone pairs", "t-test p", "Wilcoxon p", "permutation p", "Holm p", "effect size dz [95 %]"]
    order = summary.conditions
    listed = sorted(summary.comparisons, key=lambda c: (order.index(c.condition or ""), c.layer or 0))
    rows = [
        [
            f"layer {c.layer} {in_words(c.condition)}{' *' if c is summary.primary else ''}",
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


def _change(c: Comparison | None) -> list[str]:
    if c is None:
        return [NONE, NONE]
    interval = f"[{100 * c.ci_low:+z.1f}, {100 * c.ci_high:+z.1f}]" if math.isfinite(c.ci_low) else "[no interval]"
    return [f"{100 * c.difference:+z.1f} {interval}", p_value(c.p_permutation if c.p_holm is None else c.p_holm)]


def _resampled(c: Comparison) -> str:
    speakers = f"{c.n_speakers} speaker{'s' * (c.n_speakers != 1)}"
    counts = f"{c.n_pairs} phone pairs" + (f" and {speakers}" if c.n_speakers else "")
    if not c.resampled:
        return f"No interval: {counts} are too few to resample."
    fixed = f" (the {speakers} held fixed: too few to resample)"
    fixed = fixed if c.n_speakers and "speakers" not in c.resampled else ""
    return f"Interval: over {' and '.join(c.resampled)}{fixed}; {counts}."


def _draw_layers(figure: "Figure", summary: Summary) -> None:
    """A plot per condition, with 95 % intervals."""
    others = [tag for tag in summary.models if tag not in COLOURS]
    plots = figure.subplots(1, len(summary.conditions), sharey=True, squeeze=False)[0]
    for axes, condition in zip(plots, summary.conditions, strict=True):
        for position, (tag, model) in enumerate(summary.models.items()):
            found = [(layer, e) for (layer, c), e in sorted(model.errors.items()) if c == condition]
            colour = COLOURS.get(tag) or OTHERS[others.index(tag) % len(OTHERS)]
            if tag == "mfcc" and found:
                error = found[0][1]
                axes.axhline(100 * error.value, color=colour, linestyle="--", label=model.name)
                axes.axhspan(100 * error.low, 100 * error.high, color=colour, alpha=0.12, linewidth=0)
            elif found:
                # A little apart, so that intervals of two models at one layer do not hide each other.
                x = np.array([layer for layer, _ in found]) + 0.07 * (position - (len(summary.models) - 1) / 2)
                middle = np.array([100 * e.value for _, e in found])
                bounds = np.array([[100 * (e.value - e.low), 100 * (e.high - e.value)] for _, e in found]).T
                style = {"color": colour, "marker": MARKERS.get(tag, "D"), "markersize": 5, "capsize": 2.5}
                axes.errorbar(x, middle, np.nan_to_num(bounds), label=model.name, linewidth=1.6, **style)
        axes.set(title=in_words(condition).capitalize(), xlabel="layer", ylim=(0, None))
        axes.set_xticks(summary.layers(condition))
    plots[0].set_ylabel("ABX error (%)")
    plots[-1].legend(loc="best")

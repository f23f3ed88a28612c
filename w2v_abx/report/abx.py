"""ABX error by layer, and the tests of its change."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from w2v_abx.report.section import COLOURS, NONE, Drawing, Section, Table, number, p_value, percent
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.intervals import Estimate
from w2v_abx.statistics.paired import Comparison
from w2v_abx.statistics.verdict import in_words, noun, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["abx_tables", "change_table", "render"]

OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")  # colours of models of other tags
SLICED = " Items are cut as Libri-Light cuts them, without their last frame (abx.slicing=librilight)."
MARKERS = {"before": "o", "after": "s", "random": "^"}


def render(summary: Summary) -> Section | None:
    if summary.command == "analyze":
        return None
    if not summary.models:
        return Section("ABX error", ["No model was scored: there is no abx/TAG/summary.json in this folder."])
    tables = abx_tables(summary)
    text = "ABX error by layer with each model's own 95 % interval."
    if summary.comparisons:
        text += " A change is measured pair by pair, and so surer than two such intervals suggest: it is in the table."
    size = (5.2 * max(len(summary.conditions), 1.4), 4.2)
    layers = Drawing("layers", text, size, lambda figure: _draw_layers(figure, summary))
    tests = [change_table(summary, on) for on in dict.fromkeys(c.on for c in summary.comparisons)]
    return Section("ABX error", [*tables, layers, *tests], terminal=tables)


def abx_tables(summary: Summary) -> list[Table]:
    """ABX error per layer, one table per condition: baselines, then before, after, difference with interval and p; or
    the error of a model alone with its interval."""
    tables, able = [], summary.facts.get("trainable_layers")
    for condition in summary.conditions:
        tags = [tag for tag, model in summary.models.items() if any(c == condition for _, c in model.scores)]
        compared = {c.layer: c for c in summary.comparisons if c.condition == condition}
        alone = tags[-1] if tags and summary.command == "abx" else None
        columns = ["layer", *(summary.models[tag].name + " [95 % interval]" * (tag == alone) for tag in tags)]
        columns += [f"{_change_word(summary)} [95 % interval]", "p"] if compared else []
        rows: list[list[str]] = []
        marked: int | None = None
        for layer in summary.layers(condition):
            decides = (layer, condition) == summary.decisive
            marked = len(rows) if decides else marked
            row = [f"{layer} *" if decides else str(layer)]
            for tag in tags:
                found = summary.error(tag, layer, condition)
                row.append(NONE if found is None else percent(found.value) + _own_interval(found) * (tag == alone))
            rows.append([*row, *_change(compared.get(layer), able)] if compared else row)
        notes = [_counts(summary, tags[-1], condition)] if tags else []
        if compared:
            notes += _rule(summary, condition, marked is not None)
        tables.append(Table(f"ABX error {in_words(condition)} (%)", columns, rows, " ".join(notes), marked))
    return tables


def change_table(summary: Summary, on: str) -> Table:
    """The tests and effect size of every comparison in telling the label ``on`` apart."""
    label = noun(on)
    columns = ["cells", f"{label} pairs", "t-test p", "Wilcoxon p", "sign-flip p", "crossed p", "p", "Holm p"]
    columns += ["effect size dz [95 %]"]
    order = summary.conditions
    told = [c for c in summary.comparisons if c.on == on]
    listed = sorted(told, key=lambda c: (order.index(c.condition or ""), c.layer or 0))
    rows = [
        [
            f"layer {c.layer} {in_words(c.condition)}{' *' if c is summary.primary else ''}",
            str(c.n_pairs),
            *(p_value(p) for p in (c.p_t, c.p_wilcoxon, c.p_permutation, c.p_crossed, c.p, c.p_holm)),
            f"{number(c.effect_size, '+.2f')} [{number(c.effect_low, '+.2f')}, {number(c.effect_high, '+.2f')}]",
        ]
        for c in listed
    ]
    marked = next((i for i, c in enumerate(listed) if c is summary.primary), None)
    note = (
        f"p is the larger of two: signs flipped over {label} pairs, and the change divided by its standard error over "
        f"{label}s and speakers (crossed). t, Wilcoxon and dz (mean change ÷ its standard deviation) are over {label} "
        f"pairs, as if these were independent: for reference only. Holm: over the exploratory comparisons, all but *."
    )
    title = "Tests of the change" if on == summary.comparisons[0].on else f"Tests of the change on {label}"
    return Table(title, columns, rows, note, marked)


def _change_word(summary: Summary) -> str:
    return "difference" if summary.command == "compare" else "change"


def _change(c: Comparison | None, able: Sequence[int] | None) -> list[str]:
    if c is None:
        return [NONE, NONE]
    interval = f"[{points(c.ci_low)}, {points(c.ci_high)}]" if math.isfinite(c.ci_low) else "[no interval]"
    return [f"{points(c.difference)} {interval}", p_value(c.p if able is None or c.layer in able else None)]


def _own_interval(found: Estimate) -> str:
    return f" [{100 * found.low:.1f}, {100 * found.high:.1f}]" if found.resampled else " [no interval]"


def _counts(summary: Summary, tag: str, condition: str) -> str:
    """How much was measured, and what a model's interval is over."""
    model = summary.models[tag]
    layer = min(layer for layer, c in model.scores if c == condition)
    row, found, label = (
        model.scores[layer, condition],
        model.errors[layer, condition],
        noun(model.averaging[condition]["on"]),
    )
    counts = [f"{row['triplets']:,} triplets in {row['cells']:,} cells"]
    counts += [f"{row['items']:,} items"] if "items" in row else []
    counts.append(_of(found.n_pairs, f"{label} pair"))
    counts += [_of(found.n_speakers, "speaker")] if found.n_speakers else []
    counts.append("chance is 50 %")
    averaging = model.averaging[condition]
    averaged = " Averaged over triplets." if averaging["weighted"] else ""
    if averaging["levels"]:
        levels = [level if isinstance(level, str) else " and ".join(level) for level in averaging["levels"]]
        averaged = f" Averaged over {', then '.join(levels)}."
    averaged += SLICED if model.slicing == "librilight" else ""
    if not found.resampled:
        return f"{', '.join(counts)}: too few for an interval.{averaged}"
    fixed = ""
    if found.n_speakers and "speakers" not in found.resampled:
        fixed = f" (the {_of(found.n_speakers, 'speaker')} held fixed: too few to tell how others differ)"
    return f"{', '.join(counts)}. Intervals: over {' and '.join(found.resampled)}{fixed}.{averaged}"


def _of(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


def _rule(summary: Summary, condition: str, decides: bool) -> list[str]:
    """How p is to be read in the table of one condition."""
    explored = next((c for c in summary.comparisons if c.p_holm is not None and c.condition == condition), None)
    notes = []
    if decides:
        chosen = "by the first model alone" if summary.command == "compare" else "before training"
        notes.append(f"* decides the verdict, chosen {chosen}.")
    if explored is not None:
        which = "The other rows" if decides else "These rows"
        notes.append(
            f"{which} are exploratory; the verdict names what Holm's correction over {explored.family} leaves."
        )
    able = summary.facts.get("trainable_layers")
    if able is not None and any(c.condition == condition and c.layer not in able for c in summary.comparisons):
        notes.append(f"Nothing trained {f'below layer {min(able)}' if able else 'in any layer'}.")
    return notes


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

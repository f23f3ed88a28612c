"""Coverage: what recognition of symbols owes to training counts, and what to clusters of the model before."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult, read_result
from w2v_abx.report.analyses.figures import layer_panels, model_colours, model_name
from w2v_abx.report.section import COLOURS, Drawing, Section, Table, number, p_value
from w2v_abx.report.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render"]

MEASURES = {
    "share": "largest share of a symbol in one cluster",
    "purity": "share of a symbol in clusters that are mostly its own",
    "negative_entropy": "−H(cluster | symbol), nats",
}
WEIGHTS = "standardised weight in the regression on both"
PAIRS = {  # statistics of counts, and of concentration
    "correlation with recall (Pearson)": ("r_count", "r_concentration"),
    "correlation of ranks (Spearman)": ("rho_count", "rho_concentration"),
    WEIGHTS: ("beta_count", "beta_concentration"),
    "R² alone": ("r2_count", "r2_concentration"),
    "R² unique": ("unique_count", "unique_concentration"),
}
BOTH = {"R² in common": "common", "R² of both": "r2", "correlation of the two factors": "r_factors"}
LABELLED = 45  # of more points, none is labelled
Found = Mapping[str, Mapping[str, Any]]


def render(summary: Summary) -> Section | None:
    """Make the answer, the figure that shows it, other layers and models, and the numbers folded."""
    result = read_result(summary.folder, "coverage")
    if result is None:
        return None
    facts, table = result.facts, result.tables["coverage"]
    decisive = table.filter(model="before", layer=facts["layer"], measure=facts["measure"])
    found = {row["statistic"]: row for row in decisive.to_dicts()}
    answer = _answer(facts, found)
    parts: list[Any] = [answer, _factors(found), _figure(result, found), *_elsewhere(table, facts)]
    return Section("Coverage", [*parts, *_folded(result), " ".join(result.notes)], terminal=[answer])


def _answer(facts: Mapping[str, Any], statistics: Found) -> str:
    """Say which weighs more, or that it cannot be told."""
    found, runs = facts["equivalence"], len(facts["runs"])
    what = "a symbol's count in training and its concentration in clusters of the model before"
    of = f"{facts['symbols']} symbols in {runs} run{'s' * (runs > 1)}, layer {facts['layer']}"
    numbers = (
        f"the difference of their standardised weights in recall is {found['difference']:+.2f}, 95 % interval "
        f"{found['low']:+.2f} to {found['high']:+.2f}, 90 % {found['low_90']:+.2f} to {found['high_90']:+.2f}; alike "
        f"would be within ±{found['margin']:g} (two one-sided tests, p = {p_value(found['p'])}; {of})"
    )
    verdicts = {
        "alike": f"Both weigh alike, {what}",
        "count": "Counts in training weigh more than concentration in clusters of the model before",
        "concentration": "Concentration in clusters of the model before weighs more than counts in training",
        "unclear": f"It cannot be told which weighs more, {what}, nor that they weigh alike",
    }
    wide = f" The interval is wide: about {found['symbols_needed']} symbols would be needed to tell."
    ends = "." + wide * (found["verdict"] == "unclear")
    idle = all(row["low"] <= 0 <= row["high"] for row in map(statistics.get, PAIRS[WEIGHTS]) if row)
    neither = " Neither weight is shown to differ from zero." * idle
    return f"{verdicts[found['verdict']]}: {numbers}{ends}{neither}{_within(facts)}"


def _within(facts: Mapping[str, Any]) -> str:
    """Say what more training on the same symbol does, where there are several runs."""
    found = facts["within_symbols"]
    if found is None:
        return ""
    change, low, high = (100 * found[name] for name in ("per_doubling", "low", "high"))
    return (
        f" The same symbol is found {change:+.1f} points more often for each doubling of its count, from run to run "
        f"(95 % interval {low:+.1f} to {high:+.1f})."
    )


def _factors(found: Found) -> Table:
    rows = [[name, *(_cell(found[statistic]) for statistic in pair)] for name, pair in PAIRS.items()]
    rows += [[name, _cell(found[statistic]), ""] for name, statistic in BOTH.items()]
    note = (
        "In brackets: 95 % intervals, then those over speakers alone. A standardised weight is of how far a factor "
        "varies here: where counts were made uneven on purpose, they have more to explain."
    )
    return Table("Recall of symbols, explained", ["", "count in training", "concentration"], rows, note)


def _cell(row: Mapping[str, Any]) -> str:
    """Write a value with its intervals, as far as there are any."""
    bounds = [
        f"[{row[low]:.2f}, {row[high]:.2f}]"
        for low, high in (("low", "high"), ("low_speakers", "high_speakers"))
        if number(row[low], "") != number(None, "")
    ]
    return " ".join([number(row["value"], ".2f"), *bounds])


def _figure(result: AnalysisResult, found: Found) -> Drawing:
    """Recall over each factor, and the two weights with their difference."""
    text = (
        "Recall of each symbol in held-out clips over its count in training and over its concentration in clusters of "
        "the model before training; right: standardised weights of both in a regression, and their difference, with "
        "95 % intervals (grey: with a 90 % interval within this, they are alike)."
    )
    seen, margin = result.tables["symbols"], result.facts["equivalence"]["margin"]
    return Drawing("coverage", text, (12.5, 4.2), partial(_draw, seen, result.facts["measure"], found, margin))


def _draw(seen: pl.DataFrame, measure: str, found: Found, margin: float, figure: "Figure") -> None:
    plots = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
    colours = model_colours(seen["run"])
    for axes, column in zip(plots, ("trained", "concentration"), strict=False):
        for run, colour in colours.items():
            own = seen.filter(run=run)
            axes.scatter(own[column], own["recall"], s=16, color=colour, alpha=0.8, label=run)
        if len(seen) <= LABELLED:
            for symbol, x, y in seen.select("symbol", column, "recall").rows():
                axes.annotate(symbol, (x, y), (3, 2), textcoords="offset points", fontsize=7)
        axes.set(ylim=(-0.03, 1.03), ylabel="recall in held-out clips")
    plots[0].set(xscale="log", xlabel="times in training")
    plots[1].set(xlabel=MEASURES[measure])
    if len(colours) > 1:
        figure.legend(*plots[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    _weights(plots[2], found, margin)


def _weights(axes: "Axes", found: Found, margin: float) -> None:
    names = {
        "beta_count": "count",
        "beta_concentration": "concentration",
        "difference": "difference of\nabsolute weights",
    }
    axes.fill_betweenx([-2.4, -1.6], -margin, margin, color="#dddddd", linewidth=0)
    axes.axvline(0, color="#555555", linewidth=0.8)
    for place, name in enumerate(names):
        value, low, high = (found[name][key] for key in ("value", "low", "high"))
        axes.plot([low, high], [-place, -place], color=COLOURS["after"], linewidth=2)
        axes.plot(value, -place, "o", color=COLOURS["after"])
    axes.set_yticks([-place for place in range(len(names))], list(names.values()))
    axes.set(ylim=(-2.6, 0.6), xlabel="standardised weight")


def _elsewhere(table: pl.DataFrame, facts: Mapping[str, Any]) -> list[Drawing]:
    """Concentration in the clusters of other layers and models, by the measure that decides."""
    names = {"r_concentration": "correlation with recall", "unique_concentration": "R² beyond that of counts"}
    shown = table.filter(pl.col("statistic").is_in(list(names)), measure=facts["measure"])
    if shown["layer"].n_unique() < 2 and shown["model"].n_unique() < 2:
        return []
    text = (
        "What concentration in clusters tells of recall, by the layer and the model that are clustered; shaded: 95 % "
        "intervals. If MFCC or random weights do as well, it is not pretraining that tells."
    )
    named = shown.with_columns(pl.col("statistic").replace(names))
    interval = ("low", "high")
    return [layer_panels("coverage_layers", text, named, value="value", axis="", interval=interval, panel="statistic")]


def _folded(result: AnalysisResult) -> list[Table]:
    """Each run alone, each symbol, and all statistics of all layers, models and measures."""
    symbols = [
        [row["symbol"], row["run"], number(row["recall"], ".2f"), *(str(row[n]) for n in ("held_out", "trained")),
         number(row["concentration"], ".2f"), str(row["frames"])]
        for row in result.tables["symbols"].sort("run", "recall", maintain_order=True).to_dicts()
    ]  # fmt: skip
    kept = ["r_count", "r_concentration", "beta_count", "beta_concentration", "r2", "unique_count",
            "unique_concentration", "common"]  # fmt: skip
    runs = [
        [run, *(number(value, ".2f") for value in values)]
        for run, *values in result.tables["runs"].select("run", *kept).rows()
    ]
    return [
        Table("Each run alone", ["run", *map(_words, kept)], runs, folded="Each run alone"),
        Table("Other measures", ["model", "layer", "measure", *map(_words, kept)], _measured(result, kept),
              "Measures: " + "; ".join(MEASURES.values()) + ".", folded="Other layers, models and measures"),
        Table("Symbols", ["symbol", "run", "recall", "times held out", "times in training", "concentration", "frames"],
              symbols, folded="Symbols"),
    ]  # fmt: skip


def _measured(result: AnalysisResult, kept: Sequence[str]) -> list[list[str]]:
    wide = result.tables["coverage"].pivot("statistic", index=["model", "layer", "measure"], values="value")
    return [
        [model_name(model), str(layer), measure.replace("_", " "), *(number(value, ".2f") for value in values)]
        for model, layer, measure, *values in wide.select("model", "layer", "measure", *kept).rows()
    ]


def _words(statistic: str) -> str:
    kind, _, factor = statistic.partition("_")
    names = {"r": "r", "beta": "weight", "r2": "R² of both", "unique": "unique R²", "common": "R² in common"}
    return f"{names[kind]} {factor}".strip()

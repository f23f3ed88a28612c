"""Phonological vector arithmetic, layer by layer, model beside model."""

from typing import Any

import polars as pl

from w2v_abx.analysis.analysis import read_result
from w2v_abx.report.analyses.figures import layer_panels, model_name
from w2v_abx.report.section import NONE, Drawing, Section, Table, number, percent
from w2v_abx.report.summary import Summary

__all__ = ["render"]

ALL = "all"
SHOWN = 6  # contrasts in the figure
MEASURES = {"accuracy": "accuracy", "cosine": "cosine of differences"}


def render(summary: Summary) -> Section | None:
    """Make a table of each model's best layer, figures of all contrasts and of each, and all numbers, folded."""
    result = read_result(summary.folder, "vectors")
    if result is None:
        return None
    scores, facts = result.tables["scores"], result.facts
    together = scores.filter(feature=ALL)
    best = together.filter(pl.col("accuracy") == pl.col("accuracy").max().over("model"))
    best = best.unique("model", keep="first", maintain_order=True)
    note = (
        "Right: the fourth phone is the nearest to what the other three add up to; random: with a random difference; "
        f"nearest: with none, to its neighbour of the other pair; by chance {percent(facts['chance'])} %. "
    ) + " ".join(result.notes)
    shown = _table(f"Analogies of {facts['quadruples']} pairs of pairs: the best layer of each model", best, note)
    parts: list[Any] = [shown, _both(together), _by_contrast(scores)]
    changes = result.tables["differences"].filter(feature=ALL)
    if changes.height:
        parts.append(_changes(changes))
    parts.append(_table("Analogies by contrast and layer", scores, folded="Numbers of all analogies"))
    return Section("Phonological vectors", parts, [shown])


def _both(together: pl.DataFrame) -> Drawing:
    """Draw both measures of all contrasts, with what random differences give."""
    long = pl.concat(
        together.select(
            "model",
            "layer",
            pl.lit(title).alias("measure"),
            pl.col(name).alias("value"),
            pl.col(f"{name}_low").alias("low"),
            pl.col(f"{name}_high").alias("high"),
            pl.col(f"random_{name}").alias("floor"),
        )
        for name, title in MEASURES.items()
    )
    text = (
        "All contrasts: how often the fourth phone is the one nearest to what the other three add up to, and the "
        "cosine of the two differences; shaded: 95 %; dotted: with random differences in place of these."
    )
    band = ("low", "high")
    return layer_panels("vectors", text, long, value="value", axis="", panel="measure", interval=band, floor="floor")


def _by_contrast(scores: pl.DataFrame) -> Drawing:
    """Draw the cosines of each contrast."""
    own = scores.filter(pl.col("feature") != ALL).sort("quadruples", descending=True, maintain_order=True)
    most = own["feature"].unique(maintain_order=True).head(SHOWN)
    titled = own.filter(pl.col("feature").is_in(most.to_list())).with_columns(
        pl.format("{}, n = {}", "feature", "quadruples").alias("feature")
    )
    text = (
        f"Cosine of the differences of n pairs of pairs that differ in the same features, of the {len(most)} contrasts "
        "with most of them; shaded: 95 %; dotted: random differences."
    )
    return layer_panels(
        "vectors_by_contrast",
        text,
        titled,
        value="cosine",
        axis="cosine",
        panel="feature",
        interval=("cosine_low", "cosine_high"),
        floor="random_cosine",
    )


def _table(title: str, scores: pl.DataFrame, note: str = "", folded: str = "") -> Table:
    rows = [
        [
            model_name(row["model"]),
            str(row["layer"]),
            row["feature"],
            f"{row['quadruples']} of {row['phones']} phones",
            percent(row["accuracy"]) + _between(percent(row["accuracy_low"]), percent(row["accuracy_high"])),
            percent(row["random_accuracy"]),
            percent(row["neighbour_accuracy"]),
            number(row["cosine"], ".2f") + _between(*(number(row[f"cosine_{end}"], ".2f") for end in ("low", "high"))),
            number(row["random_cosine"], ".2f"),
            number(row["reciprocal_rank"], ".2f"),
        ]
        for row in scores.rows(named=True)
    ]
    columns = ["model", "layer", "contrast", "pairs of pairs", "right (%)", "random (%)", "nearest (%)"]
    columns += ["cosine", "random cosine", "1 / rank"]
    return Table(title, columns, rows, note, folded=folded)


def _between(low: str, high: str) -> str:
    return "" if low == NONE else f" [{low}, {high}]"


def _changes(changes: pl.DataFrame) -> Table:
    rows = [
        [model_name(model), str(layer), name, number(difference, "+.3f"), number(reach, ".3f")]
        for model, layer, _, name, difference, reach in changes.rows()
    ]
    columns = ["model", "layer", "measure", "more than the first model", "± 95 %"]
    return Table("Change of analogies, all contrasts", columns, rows, folded="Change of analogies")

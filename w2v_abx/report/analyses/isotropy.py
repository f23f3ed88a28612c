"""Isotropy of each layer, model beside model."""

import polars as pl

from w2v_abx.analysis.analysis import read_result
from w2v_abx.report.analyses.figures import layer_panels, model_name
from w2v_abx.report.section import Section, Table, number
from w2v_abx.report.summary import Summary

__all__ = ["render"]

MEASURES = {
    "partition_ratio": "partition ratio (1: even)",
    "iso_score": "IsoScore (1: even)",
    "mean_cosine": "mean cosine (0: even)",
}


def render(summary: Summary) -> Section | None:
    """Make the figure, and the numbers folded."""
    result = read_result(summary.folder, "isotropy")
    if result is None:
        return None
    table = result.tables["isotropy"]
    long = table.unpivot(list(MEASURES), index=["model", "layer"], variable_name="measure", value_name="value")
    named = long.with_columns(pl.col("measure").replace_strict(MEASURES))
    text = "Isotropy by layer. " + " ".join(result.notes)
    figure = layer_panels("isotropy", text, named, value="value", axis="", panel="measure")
    rows = [
        [model_name(model), str(layer), *(number(x, ".3f") for x in found)] for model, layer, *found in table.rows()
    ]
    columns = ["model", "layer", *MEASURES.values()]
    return Section("Isotropy", [figure, Table("Isotropy", columns, rows, folded="Numbers of isotropy")])

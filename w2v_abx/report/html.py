"""The report: one HTML page that needs nothing beside it."""

import base64
from io import BytesIO
from pathlib import Path

import jinja2

from w2v_abx.report.figures import Drawing, draw_all
from w2v_abx.report.summary import Summary, summarize
from w2v_abx.report.tables import abx_tables, category_table, change_table, delta_tables, fact_table, head_table
from w2v_abx.system import atomic

__all__ = ["write_report"]

DOTS_PER_INCH = 130  # of the pictures
CSS_PIXELS_PER_INCH = 96  # of the page, so that text is of one size in every figure


def write_report(run: Summary | Path | str, *, primary_layer: int | None = None) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into a run's folder, from nothing but that folder.

    Args:
        run: the folder, or its `summarize`.
        primary_layer: as in `summarize`, where ``run`` is a folder.

    Returns:
        The path of the page.

    Raises:
        InputError: as `summarize`.
    """
    summary = run if isinstance(run, Summary) else summarize(run, primary_layer=primary_layer)
    drawings = draw_all(summary)
    images = {name: _save(drawing, summary.folder / "figures") for name, drawing in drawings.items()}
    widths = {name: round(CSS_PIXELS_PER_INCH * drawing.figure.get_figwidth()) for name, drawing in drawings.items()}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("w2v_abx.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("template.html.j2").render(
        summary=summary,
        drawings=drawings,
        images=images,
        widths=widths,
        abx_tables=abx_tables(summary),
        delta_tables=delta_tables(summary),
        change_table=change_table(summary),
        head_table=head_table(summary),
        category_tables={name: category_table(name, head) for name, head in summary.heads.items() if head["rows"]},
        fact_table=fact_table(summary.facts) if summary.facts else None,
        gaps=_gaps(summary),
        worse=bool(summary.primary and summary.verdict.endswith("so it forgot.")),
    )
    path = summary.folder / "report.html"
    atomic.write_text(path, page)
    return path


def _gaps(summary: Summary) -> dict[str, str]:
    """Why a figure is missing, or half of it, in a sentence each."""
    gaps = []
    for name, columns in (("metrics.csv", ("loss",)), ("thermal.csv", ("temperature",))):
        table = summary.metrics if name == "metrics.csv" else summary.thermal
        if name in summary.missing:
            gaps.append(summary.missing[name])
        elif not any(
            column in found and any(value not in ("", None) for value in table[found])
            for found in table.columns
            for column in columns
        ):
            gaps.append(f"{name} holds no {columns[0]}.")
    compared = summary.missing.get("abx", "")
    nothing = "" if summary.models else "No model was scored: there is no abx/TAG/summary.json in this folder."
    return {"layers": nothing, "training": " ".join(gaps), "phone_pairs": compared, "deltas": compared}


def _save(drawing: Drawing, folder: Path) -> str:
    """Save as PNG and give the same bytes as a data address."""
    buffer = BytesIO()
    drawing.figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    atomic.write(folder / f"{drawing.name}.png", lambda path: path.write_bytes(buffer.getvalue()))
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

"""Write the report: one HTML page that needs nothing beside it."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2

from w2v_abx.report.renderers import sections
from w2v_abx.report.section import Drawing
from w2v_abx.report.summary import Summary
from w2v_abx.system import atomic

__all__ = ["write_report"]

DOTS_PER_INCH = 130  # of the pictures
CSS_PIXELS_PER_INCH = 96  # of the page, so that text is of one size in every figure


def write_report(summary: Summary) -> Path:
    """Write ``report.html`` and ``figures/*.png`` and ``.svg`` into a run's folder; return the path of the page.

    Raises:
        InputError: a file of the run cannot be read.
    """

    def address(kind: str, data: bytes) -> str:
        """Make a data address, which a page holds in itself."""
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    def save(drawing: Drawing) -> dict[str, str | int]:
        """Save as PNG and SVG; give the first's bytes as a data address, and their width on the page."""
        figure, buffer = drawing.figure(), BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        png = buffer.getvalue()
        place = summary.folder / "figures" / drawing.name
        atomic.write(place.with_suffix(".png"), lambda path: path.write_bytes(png))
        undated: dict[str, Any] = {"metadata": {"Date": None}}
        atomic.write(
            place.with_suffix(".svg"), lambda path: figure.savefig(path, format="svg", dpi=DOTS_PER_INCH, **undated)
        )
        return {"address": address("image/png", png), "width": round(CSS_PIXELS_PER_INCH * figure.get_figwidth())}

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("w2v_abx.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        summary=summary,
        sections=sections(summary),
        save=save,
        address=address,
        worse=summary.command == "train" and summary.primary is not None and summary.primary.shown > 0,
    )
    path = summary.folder / "report.html"
    atomic.write_text(path, page)
    return path

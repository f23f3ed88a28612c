"""The kinds of result that a report shows, in its order. A new one is a module beside these, and a name here."""

from w2v_abx.report import abx, deltas, heads, pairs, setup, training
from w2v_abx.report.analyses import (
    clusters,
    coverage,
    isotropy,
    normalisation,
    other,
    probe,
    projection,
    saliency,
    similarity,
    vectors,
)
from w2v_abx.report.section import Renderer, Section
from w2v_abx.report.summary import Summary

__all__ = ["RENDERERS", "sections"]

RENDERERS: tuple[Renderer, ...] = (
    abx.render,
    pairs.render,
    deltas.render,
    training.render,
    heads.render,
    normalisation.render,
    similarity.render,
    probe.render,
    vectors.render,
    clusters.render,
    coverage.render,
    isotropy.render,
    projection.render,
    saliency.render,
    other.render,
    setup.render_configuration,
    setup.render_versions,
)


def sections(summary: Summary) -> list[Section]:
    """Make the sections of each kind of result that the run has."""
    found: list[Section] = []
    for render in RENDERERS:
        made = render(summary)
        found += [made] if isinstance(made, Section) else made or []
    return found

"""How evenly models use the directions of their space, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.isotropy import isotropy
from w2v_abx.analysis.points import Level, Points
from w2v_abx.items.items import Items
from w2v_abx.system import checks

__all__ = ["IsotropyByLayer"]


@dataclass(frozen=True)
class IsotropyByLayer:
    """Measure the isotropy of each layer's vectors: see `w2v_abx.analysis.isotropy`.

    Args:
        layers: see `Analysis`.
        level: "frames" within items, or "segments", an item's mean frame.
        limit: vectors that are drawn; None: all.

    Raises:
        InputError: values out of range.
    """

    layers: Sequence[int] | None = None
    level: Level = "frames"
    limit: int | None = 10_000

    def __post_init__(self) -> None:
        checks.choice("analysis.isotropy.level", self.level, ("frames", "segments"))
        checks.whole("analysis.isotropy.limit", self.limit, 2, optional="for all")

    def check(self, items: Items, models: Sequence[str]) -> None:
        """Accept any items: their labels are not looked at."""

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        frequencies = [model.store.frequency for model in models.values()]
        points = Points.draw(speech.items, frequencies[0], self.level, self.limit, seed, min(frequencies))
        rows = [
            {"model": name, "layer": layer, **asdict(isotropy(points.vectors(model.store, layer)))}
            for name, model in models.items()
            for layer in model.layers(self.layers)
        ]
        facts = {"level": self.level, "vectors": len(points), "of": points.total}
        drawn = f"{len(points):,} of {points.total:,}" if len(points) < points.total else f"all {len(points):,}"
        notes = [
            f"Measured on {drawn} {self.level}. The partition ratio is of vectors of mean square norm D, not centred."
        ]
        return AnalysisResult(facts, {"isotropy": pl.DataFrame(rows)}, notes)

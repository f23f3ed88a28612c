"""Project the same points of speech onto a plane, layer by layer, on the same axes before and after training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.planes import layout
from w2v_abx.analysis.planes.page import excerpts, points_page
from w2v_abx.analysis.planes.predictions import outcomes, predict
from w2v_abx.analysis.points import Level, Points, check_columns, column_of
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.system import checks
from w2v_abx.system.progress import tracked

__all__ = ["Projection"]

METHODS = ("pca", "umap")
METRICS = ("cosine", "euclidean")
FEWEST = 3  # points that a plane is fitted to
ERRORS = dict.fromkeys(("model", "head", "predicted", "outcome"), pl.String) | {"point": pl.Int64}
NEIGHBOURS = dict.fromkeys(("model", "method", "label"), pl.String) | {
    "layer": pl.Int64, "share": pl.Float64, "chance": pl.Float64, "points": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class Projection:
    """Project points by PCA and UMAP; see ``conf/analysis/projection.yaml`` for the settings.

    Models with the same layers and dimensions have their axes in common, fitted to the points of all of them together,
    each centred on its own mean. Axes fitted to one model would hide what others have added: directions that it does
    not use; and UMAP draws what it has not seen as near to something that it has. A baseline's dimensions have nothing
    to do with theirs, so it has axes of its own.
    """

    layers: Sequence[int] | None = None
    methods: Sequence[str] = METHODS
    level: Level = "segments"
    limit: int = 2000
    labels: list[str] | None = None
    metric: str = "cosine"
    neighbours: int = 15
    min_dist: float = 0.1
    sounds: int = 100

    def __post_init__(self) -> None:
        checks.several("analysis.projection.methods", self.methods, METHODS)
        checks.choice("analysis.projection.level", self.level, ["frames", "segments"])
        checks.whole("analysis.projection.limit", self.limit, FEWEST)
        checks.choice("analysis.projection.metric", self.metric, METRICS)
        checks.whole("analysis.projection.neighbours", self.neighbours, 2)
        checks.number("analysis.projection.min_dist", self.min_dist, low=0, high=1)
        checks.whole("analysis.projection.sounds", self.sounds, 0)

    def check(self, items: Items, models: Sequence[str]) -> None:
        check_columns("analysis.projection.labels", self.labels, items)

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        columns = check_columns("analysis.projection.labels", self.labels, speech.items)
        points = self._points(models, speech.items, seed)
        groups = _axes(models)
        coordinates: list[pl.DataFrame] = []
        spreads: list[dict[str, Any]] = []
        agreements: list[dict[str, Any]] = []
        for members in groups:
            for layer in tracked(f"planes of {', '.join(members)}, layers", models[members[0]].layers(self.layers)):
                clouds = {name: points.vectors(models[name].store, layer) for name in members}
                placed = self._place(clouds, seed)
                coordinates += [_coordinates(*key, layer, xy) for key, xy in placed.items()]
                spreads += _spreads(clouds, placed, layer)
                agreements += self._agreements(clouds, placed, layer, points, columns)
        table, places = _table(points, columns), pl.concat(coordinates)
        errors, left_out = _errors(models, points)
        heard = excerpts(points, speech.files, self.sounds, seed)
        notes = [*self._notes(points, groups, len(heard)), *left_out]
        facts: dict[str, Any] = {"level": self.level, "points": len(points), "of": points.total, "metric": self.metric}
        facts |= {"labels": columns, "axes": groups, "sounds": len(heard)}
        tables = {"points": table, "coordinates": places, "spreads": pl.DataFrame(spreads), "errors": errors}
        tables["neighbours"] = pl.DataFrame(agreements, schema=NEIGHBOURS)
        return AnalysisResult(
            facts, tables, notes, {"points.html": points_page(table, places, groups, errors, heard, notes)}
        )

    def _points(self, models: Mapping[str, Model], items: Items, seed: int) -> Points:
        """Draw points that every model has frames of."""
        stores = [model.store for model in models.values()]
        lowest = min(store.frequency for store in stores)
        points = Points.draw(items, stores[0].frequency, self.level, self.limit, seed, lowest)
        if points.time is None:  # an item that ends a frame after its clip may be nothing but that frame
            there = np.all([np.isfinite(s.segments(s.layers[0], points.items)).all(axis=1) for s in stores], axis=0)
            kept = np.flatnonzero(there)
            points = replace(points, items=points.items.take(kept), item=np.arange(len(kept)))
        wanted = max(FEWEST, self.neighbours + 1 if "umap" in self.methods else 0)
        if len(points) < wanted:
            raise InputError(
                f"there are {len(points)} {self.level}, and a projection needs {wanted} or more; "
                f"analysis.projection.neighbours={self.neighbours} can be less"
            )
        return points

    def _place(self, clouds: Mapping[str, Any], seed: int) -> dict[tuple[str, str], layout.Doubles]:
        """Lay out the vectors of models that share axes: (N, 2) by model and method."""
        centred = [layout.centred(cloud) for cloud in clouds.values()]
        placed: dict[tuple[str, str], layout.Doubles] = {}
        for method in self.methods:
            if method == "pca":
                found = layout.pca(centred)
            else:
                found = layout.umap(
                    centred, metric=self.metric, neighbours=self.neighbours, min_dist=self.min_dist, seed=seed
                )
            placed |= {(name, method): xy for name, xy in zip(clouds, found, strict=True)}
        return placed

    def _agreements(
        self,
        clouds: Mapping[str, Any],
        placed: Mapping[tuple[str, str], layout.Doubles],
        layer: int,
        points: Points,
        columns: Sequence[str],
    ) -> Iterator[dict[str, Any]]:
        """Compare the classes of near points, in each plane and in all dimensions ("all")."""
        spaces = {(name, "all"): (layout.centred(cloud), self.metric) for name, cloud in clouds.items()}
        spaces |= {key: (xy, "euclidean") for key, xy in placed.items()}
        files = points.classes(FILE).codes
        for (name, method), (vectors, metric) in spaces.items():
            neighbours = layout.nearest_elsewhere(vectors, files, metric)
            for label in columns:
                if found := neighbours.agreement(points.classes(label).codes):
                    yield {"model": name, "method": method, "label": label, "layer": layer, **found._asdict()}

    def _notes(self, points: Points, groups: Sequence[Sequence[str]], heard: int) -> list[str]:
        some = "all" if len(points) == points.total else "drawn at random from"
        notes = [f"{len(points):,} {self.level}, {some} {points.total:,}: the same at every layer and in every model."]
        if points.left_out:
            notes.append(f"{points.left_out:,} items are shorter than a frame and left out.")
        notes += [
            f"{', '.join(members)}: axes in common, fitted to the points of all together, each model centred on its "
            "own mean."
            for members in groups
            if len(members) > 1
        ]
        if alone := [members[0] for members in groups if len(members) == 1]:
            notes.append(f"Axes of its own: {', '.join(alone)}.")
        if "umap" in self.methods:
            notes.append(
                f"UMAP: {self.metric} distance, {self.neighbours} neighbours, min_dist {self.min_dist:g}. What is near "
                "in it is near in the model, mostly; distances between groups, and their sizes, mean nothing."
            )
        if self.sounds:
            notes.append(f"{heard} items can be heard on the page, with what stands around them.")
        return notes


def _axes(models: Mapping[str, Model]) -> list[list[str]]:
    """Group the names of models that have their axes in common."""

    def space(model: Model) -> tuple[str, int, tuple[int, ...]]:
        return model.name if model.baseline else "", model.store.identity.dim, model.store.identity.layers

    groups: dict[Any, list[str]] = {}
    for name, model in models.items():
        groups.setdefault(space(model), []).append(name)
    return list(groups.values())


def _coordinates(name: str, method: str, layer: int, xy: layout.Doubles) -> pl.DataFrame:
    table = pl.DataFrame({"point": np.arange(len(xy)), "x": xy[:, 0], "y": xy[:, 1]})
    return table.select(pl.lit(name).alias("model"), pl.lit(layer).alias("layer"), pl.lit(method).alias("method"), "*")


def _spreads(
    clouds: Mapping[str, Any], placed: Mapping[tuple[str, str], layout.Doubles], layer: int
) -> Iterator[dict[str, Any]]:
    """Compute how far each model's points lie from their mean, its distance from the first's, and what PCA shows.

    ``spread`` is the root of the mean squared distance, ``shift`` in spreads of the first model, ``shown`` the share of
    the model's variance that lies in the plane of the principal components.
    """
    first = next(iter(clouds.values())).astype(np.float64)
    scale = np.sqrt(np.square(layout.centred(first)).sum(1).mean())
    for name, cloud in clouds.items():
        spread = np.sqrt(np.square(layout.centred(cloud)).sum(1).mean())
        shift = np.linalg.norm(cloud.astype(np.float64).mean(0) - first.mean(0))
        shown = None
        if (xy := placed.get((name, "pca"))) is not None and spread > 0:
            shown = float(np.square(xy).sum(1).mean() / spread**2)
        yield {
            "model": name, "layer": layer, "spread": float(spread), "shift": float(shift / scale) if scale else None,
            "shown": shown,
        }  # fmt: skip


def _table(points: Points, columns: Sequence[str]) -> pl.DataFrame:
    """List the points with their labels; those that items have beside ``columns`` are for who looks at one point."""
    others = [name for name in points.items.labels if name not in columns]
    table = points.items.frame.select(
        FILE, pl.col(ONSET, OFFSET).cast(pl.Float64), *columns, *others
    )[points.item]  # fmt: skip
    time = pl.lit(None, pl.Float64) if points.time is None else pl.Series(points.time)
    return table.select(
        pl.Series("point", np.arange(len(points))), time.alias("time"), pl.Series("item", points.item), "*"
    )


def _errors(models: Mapping[str, Model], points: Points) -> tuple[pl.DataFrame, list[str]]:
    """Ask each model's heads, and say which have no answer."""
    rows, notes = [], []
    for name, model in models.items():
        for head, readout in model.readouts.items():
            column, missing = column_of(readout.label), set(readout.layers) - set(model.store.layers)
            if readout.kind not in ("framewise", "ctc"):
                notes.append(f"{name}'s head {head} decides on whole clips: its errors are not shown.")
            elif column not in points.items.labels:
                notes.append(f"{name}'s head {head} was taught {readout.label}, and items have no column {column}.")
            elif missing:
                notes.append(f"{name}'s head {head} reads layer {min(missing)}, which is not analysed.")
            else:
                predicted = predict(readout, model.store, points)
                found = {"predicted": predicted, "outcome": outcomes(readout, points, predicted)}
                one = pl.DataFrame(found | {"point": np.arange(len(points))})
                rows.append(one.with_columns(pl.lit(name).alias("model"), pl.lit(head).alias("head")))
    return pl.concat([pl.DataFrame(schema=ERRORS), *(row.select(*ERRORS) for row in rows)]), notes

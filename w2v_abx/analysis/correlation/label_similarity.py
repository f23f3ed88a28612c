"""Similarity of layers to labels and to the layers of another model, from sums over folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.analysis.analysis import Model
from w2v_abx.analysis.correlation import correlation as cc
from w2v_abx.analysis.correlation.labelling import Partition
from w2v_abx.analysis.correlation.moments import CellSums, Side, Sums, add_up, cross_products
from w2v_abx.analysis.points import Points
from w2v_abx.statistics.ratios import correlation_interval
from w2v_abx.system.progress import tracked

__all__ = ["MEASURES", "FoldSums", "Settings", "similarities"]

Floats = npt.NDArray[np.float64]

MEASURES = ("svcca", "cca", "pwcca", "cka")
NUMBERS = ("components", "similarity", "floor", "held_out", "low", "high", "held_out_floor", "split_half")


@dataclass(frozen=True)
class Settings:
    """What similarities are computed with; see `w2v_abx.analysis.similarity.Similarity`."""

    variance: float
    ridges: Sequence[float]


@dataclass(frozen=True)
class FoldSums:
    """Sums of a layer's vectors by cell, and the sides that were made of them."""

    sums: CellSums
    partition: Partition
    sides: dict[tuple[bytes, tuple[int, ...]], Side] = field(default_factory=dict)
    added: dict[bytes, list[Sums]] = field(default_factory=dict)

    def folds(self, has: npt.NDArray[np.bool_]) -> list[Sums]:
        """The sums of each fold, over cells that ``has`` (C,) says."""
        key = has.tobytes()
        if key not in self.added:
            cells = [np.flatnonzero(has & (self.partition.fold == fold)) for fold in range(self.partition.number)]
            self.added[key] = [Sums(*(part[own].sum(0) for part in self.sums[:3])) for own in cells]
        return self.added[key]

    def side(self, has: npt.NDArray[np.bool_], without: tuple[int, ...] = ()) -> Side:
        """The side that all folds but some make."""
        key = has.tobytes(), tuple(sorted(without))
        if key not in self.sides:
            self.sides[key] = Side.of(reduce(add, (s for f, s in enumerate(self.folds(has)) if f not in without)))
        return self.sides[key]


def similarities(
    models: Mapping[str, Model],
    points: Points,
    parts: Sequence[Partition],
    settings: Settings,
    layers: Sequence[int] | None = None,
    reference: str | None = None,
) -> dict[str, pl.DataFrame]:
    """Compare each layer of each model to labels, and to the same layer of a ``reference``.

    Returns:
        Tables "labels" (``model``, ``layer``, ``label``, ``measure``, `NUMBERS`, of which ``components`` is how many
        correlations were averaged) and "models" (the same, but with the
        reference in place of a label), and "folds", what each held-out similarity is without each fold.
    """
    members = [part.members() for part in parts]
    counts = [one.T @ np.bincount(points.item, minlength=len(points.items)).astype(float) for one in members]
    rows: dict[str, list[dict[str, Any]]] = {"labels": [], "models": [], "folds": []}
    asked = {name: model.layers(layers) for name, model in models.items()}
    order = sorted(models, key=lambda name: name != reference)
    for layer in tracked("similarity, layers", sorted({layer for found in asked.values() for layer in found})):
        other: FoldSums | None = None  # one layer at a time: sums of products take much memory
        for name in [name for name in order if layer in asked[name]]:
            store, of = models[name].store, {"model": name, "layer": layer}
            for number, part in enumerate(parts):
                found = FoldSums(add_up(points, store, layer, part.cells, len(part.fold), members[number]), part)
                for label, own in enumerate(_of_labels(found, counts[number], settings)):
                    _note(rows, "labels", {**of, "label": part.labellings[label].column}, own)
                if number:
                    continue
                if name == reference:
                    other = found
                elif other is not None and reference is not None and name != "mfcc":
                    stores = store, models[reference].store
                    products = cross_products(points, stores, (layer, layer), part.cells, len(part.fold))
                    _note(rows, "models", {**of, "label": reference}, _of_models(found, other, products, settings))
    sort = {name: place for place, name in enumerate(models)}
    return {kind: _table(found, sort) for kind, found in rows.items()}


Measured = dict[str, dict[str, Any]]  # by measure: `NUMBERS`, and "without", a list by fold


def _of_labels(found: FoldSums, counts: Floats, settings: Settings) -> list[Measured]:
    """Compare a layer to each label of its partition."""
    part = found.partition
    ns, products = part.by_label(counts), part.by_label(found.sums.classes)
    return [
        _of_label(found, part.has[:, label], ns[label], products[label].swapaxes(-1, -2), settings, not one.constant)
        for label, one in enumerate(part.labellings)
    ]


def _of_label(
    found: FoldSums,
    has: npt.NDArray[np.bool_],
    counts: Floats,
    products: Floats,
    settings: Settings,
    own_means: bool,
) -> Measured:
    """Compare a layer to a label: ``counts`` (1 + P, F, K), ``products`` (1 + P, F, D, K)."""
    x = found.side(has)
    every: list[dict[str, float]] = []
    held: list[dict[str, float]] = []
    chosen: Sequence[Sequence[float]] = [settings.ridges] * len(counts[0])
    result: Measured = {}
    for permutation, (ns, sums) in enumerate(zip(counts, products, strict=True)):
        y = Side.of(Sums.of_counts(ns.sum(0)))
        cov = cc.covariance(x, y, sums.sum(0), float(ns.sum()))
        sides = x, x.kept(settings.variance), y, y
        every.append(_in_sample(*sides, cov))
        ys = [Sums.of_counts(n) for n in ns]

        def fit(without: tuple[int, ...], sums: Floats = sums, ns: Floats = ns) -> tuple[Side, Side, Floats]:
            rest = [fold for fold in range(len(ns)) if fold not in without]
            own, other = found.side(has, without), Side.of(Sums.of_counts(ns[rest].sum(0)))
            return own, other, cc.covariance(own, other, sums[rest].sum(0), float(ns[rest].sum()))

        values, ridges, without = _held_out(
            found.folds(has), ys, sums, fit, settings, chosen, one_hot=True, own_means=own_means
        )
        held.append(values)
        if not permutation:
            chosen = [[ridge] for ridge in ridges]  # permuted labels are given the true one's: each choice costs a fit
            result = _measured(every[0], _components(*sides), values, without)
            result["svcca"]["split_half"] = _split_half(x, fit, settings.variance, len(ns))
    for measure, row in result.items():
        if len(every) > 1:
            row["floor"] = float(np.mean([values[measure] for values in every[1:]]))
            row["held_out_floor"] = (
                float(np.mean([values[measure] for values in held[1:]])) if measure in values else None
            )
    return result


def _of_models(found: FoldSums, other: FoldSums, products: Floats, settings: Settings) -> Measured:
    """Compare a layer to another's: ``products`` (C, D, E)."""
    part = found.partition
    all_cells = np.ones(len(part.fold), dtype=bool)
    xs, ys = found.folds(all_cells), other.folds(all_cells)
    by_fold = np.stack([products[part.fold == fold].sum(0) for fold in range(part.number)])

    def fit(without: tuple[int, ...]) -> tuple[Side, Side, Floats]:
        x, y = found.side(all_cells, without), other.side(all_cells, without)
        rest = [fold for fold in range(part.number) if fold not in without]
        return x, y, cc.covariance(x, y, by_fold[rest].sum(0), sum(xs[fold].n for fold in rest))

    x, y, cov = fit(())
    sides = x, x.kept(settings.variance), y, y.kept(settings.variance)
    values, _, without = _held_out(
        xs, ys, by_fold, fit, settings, [settings.ridges] * part.number, one_hot=False, own_means=True
    )
    return _measured(_in_sample(*sides, cov), _components(*sides), values, without)


def _in_sample(x: Side, x_kept: Side, y: Side, y_kept: Side, cov: Floats) -> dict[str, float]:
    found = cc.canonical(x, y, cov)
    return {
        "svcca": cc.mean(cc.canonical(x_kept, y_kept, cov).correlations),
        "cca": cc.mean(found.correlations),
        "pwcca": cc.projection_weighted(x, y, found),
        "cka": cc.cka(x, y, cov),
    }


def _components(x: Side, x_kept: Side, y: Side, y_kept: Side) -> dict[str, int]:
    """How many correlations each measure averages."""
    whole = min(len(x.variances), len(y.variances))
    return {"svcca": min(len(x_kept.variances), len(y_kept.variances)), "cca": whole, "pwcca": whole}


def _held_out(
    xs: Sequence[Sums],
    ys: Sequence[Sums],
    products: Floats,
    fit: Any,
    settings: Settings,
    ridges: Sequence[Sequence[float]],
    **how: bool,
) -> tuple[dict[str, float], Sequence[float], dict[str, list[float | None]]]:
    """Hold folds out: the measures, the ridges chosen, and the measures without each fold."""

    def kept(without: tuple[int, ...]) -> tuple[Side, Side, Floats]:
        x, y, cov = fit(without)
        return x.kept(settings.variance), y if how["one_hot"] else y.kept(settings.variance), cov

    ridged = cc.held_out(xs, ys, list(products), fit, ridges, **how)
    reduced = cc.held_out(xs, ys, list(products), kept, [(0.0,)] * len(xs), **how)
    kinds = {"svcca": (reduced, False), "cca": (ridged, False), "pwcca": (ridged, True)}
    without = {
        name: [one.value(fold, weighted) if fold in one.tested else None for fold in range(len(xs))]
        for name, (one, weighted) in kinds.items()
    }
    return {name: one.value(None, weighted) for name, (one, weighted) in kinds.items()}, ridged.ridges, without


def _measured(
    every: dict[str, float],
    components: dict[str, int],
    held: dict[str, float],
    without: dict[str, list[float | None]],
) -> Measured:
    rows: Measured = {
        measure: {"components": components.get(measure), "similarity": every[measure]} for measure in MEASURES
    }
    for measure, values in without.items():
        tested = [value for value in values if value is not None]
        if not tested:
            continue
        low, high = correlation_interval(held[measure], tested) or (None, None)
        rows[measure] |= {"held_out": held[measure], "low": low, "high": high, "without": values}
    return rows


def _split_half(x: Side, fit: Any, variance: float, folds: int) -> float:
    """Correlate the variates that one half of the folds makes with those of the other half."""
    weights = []
    for half in (0, 1):
        own, y, cov = fit(tuple(range(half, folds, 2)))
        weights.append(cc.canonical(own.kept(variance), y, cov).x)
    return cc.overlap(x, *weights)


def _note(rows: dict[str, list[dict[str, Any]]], kind: str, of: dict[str, Any], found: Measured) -> None:
    """Put what was measured in rows of its own table, and of "folds"."""
    for measure, values in found.items():
        key = {**of, "measure": measure}
        rows[kind].append({**key, **{name: values.get(name) for name in NUMBERS}})
        if kind == "labels":
            folds = enumerate(values.get("without", []))
            rows["folds"] += [{**key, "fold": fold, "without": value} for fold, value in folds]


def _table(rows: list[dict[str, Any]], order: Mapping[str, int]) -> pl.DataFrame:
    """Make a table, models in the order in which they are shown."""
    numbers = {**dict.fromkeys([*NUMBERS, "without"], pl.Float64), "components": pl.Int64}
    names = ["model", "layer", "label", "measure", *NUMBERS] if not rows else list(rows[0])
    kinds = {
        "model": pl.String,
        "layer": pl.Int64,
        "label": pl.String,
        "measure": pl.String,
        "fold": pl.Int64,
        **numbers,
    }
    table = pl.DataFrame(rows, schema={name: kinds[name] for name in names})
    return table.sort(pl.col("model").replace_strict(order, return_dtype=pl.Int64), maintain_order=True)

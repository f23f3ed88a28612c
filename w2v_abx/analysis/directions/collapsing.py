"""Collapse the directions of speakers, and see what that does to ABX (Liu, Tang & Goldwater, 2023)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx.scoring import Scorer
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.analysis.directions.directions import directions, effects
from w2v_abx.analysis.points import Points
from w2v_abx.analysis.probing.held_out import halves
from w2v_abx.features.store import FeatureStore
from w2v_abx.items.items import Items
from w2v_abx.statistics.paired import Comparison, compare

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["COLLAPSED", "Collapsed", "Collapsing", "compare_collapsed"]

Doubles = npt.NDArray[np.float64]
COLLAPSED = ("nothing", "speakers", "control")


class Collapsed(Mapping[str, "Tensor"]):
    """Features of clips, (F, D) each, without what lies in a subspace (D, r) orthonormal."""

    def __init__(self, features: Mapping[str, "Tensor"], subspace: Doubles) -> None:
        import torch

        self._features, self._subspace = features, torch.from_numpy(subspace.astype(np.float32))

    def __getitem__(self, key: str) -> "Tensor":
        frames = self._features[key].float()
        return frames - (frames @ self._subspace) @ self._subspace.T

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def compare_collapsed(cells: pl.DataFrame, before: str, after: str, seed: int = 0) -> Comparison:
    """Compare the ABX errors of one condition with two of `COLLAPSED` on the same cells."""
    left, right = (
        cells.filter(collapsed=name).drop("condition", "collapsed", "directions") for name in (before, after)
    )
    on = next(name.removesuffix("_b") for name in left.columns if name.endswith("_b"))
    return compare(left, right, on=on, seed=seed)


class Collapsing:
    """Score ABX of features with the directions of speakers collapsed, which were learnt on other speakers.

    Speakers are halved. Each half is scored by itself, with the directions of the other: what is collapsed is then how
    speakers differ, and not these speakers' own means, in which there is what they happen to say. The control
    collapses as many directions, those of the same speakers permuted over segments: large ones, but of no speaker.

    Args:
        items: with the columns speaker and ``label``.
        setting: the task, in which a speaker stands in each cell.
        frequency: of the features.
        label: that is said: its effect is kept out of the directions of speakers.
        share: of the variance between speakers that is collapsed.
        seed: of the halves.

    Raises:
        InputError: there are fewer than four speakers, or a half has no cells.
    """

    def __init__(
        self,
        items: Items,
        setting: AbxSetting,
        frequency: float,
        *,
        label: str = "#phone",
        share: float = 0.95,
        seed: int = 0,
    ) -> None:
        self._share, self._label, self._seed = share, label, seed
        self._halves = [items.take(rows) for rows in halves(items, seed)]
        self._points = [Points.draw(half, frequency, "segments") for half in self._halves]
        self._scorers: list[dict[str, Scorer]] = [scorers(half, setting, frequency) for half in self._halves]

    def __call__(self, store: FeatureStore, layer: int) -> pl.DataFrame:
        """Score one layer.

        Returns:
            The cells of both halves, with the columns ``condition``, ``collapsed`` (one of `COLLAPSED`) and
            ``directions``, how many; see `compare_collapsed`.
        """
        features, tables = store.layer(layer), []
        for own, other in ((0, 1), (1, 0)):
            for collapsed, subspace in self._subspaces(store, layer, self._points[other]).items():
                for condition, scorer in self._scorers[own].items():
                    cells = scorer(Collapsed(features, subspace) if subspace.shape[1] else features).cells
                    of = {"condition": condition, "collapsed": collapsed, "directions": subspace.shape[1]}
                    tables.append(cells.select(*(pl.lit(v).alias(k) for k, v in of.items()), pl.all()))
        return pl.concat(tables)

    def _subspaces(self, store: FeatureStore, layer: int, points: Points) -> dict[str, Doubles]:
        vectors = points.vectors(store, layer).astype(np.float64)
        vectors -= vectors.mean(0)
        speakers, said = (np.unique(points.classes(c).codes, return_inverse=True)[1] for c in ("speaker", self._label))
        found = directions(effects(vectors, speakers, said)[0], self._share)
        permuted = effects(vectors, np.random.default_rng(self._seed).permutation(speakers), said)[0]
        control = np.ascontiguousarray(directions(permuted, 1.0)[:, : found.shape[1]])
        return dict(zip(COLLAPSED, (found[:, :0], found, control), strict=True))

"""Clusters of frames, layer by layer: what they agree with, how stable they are, what training makes of them.

After Grósz et al. (2023), whose settings are ``conf/analysis/grosz2023.yaml``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

import polars as pl

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.clustering import tables
from w2v_abx.analysis.clustering.decoding import Recogniser
from w2v_abx.analysis.clustering.frames import Label, WholeFiles, predictions
from w2v_abx.analysis.clustering.kmeans import METHODS, Grouped, group
from w2v_abx.analysis.clustering.latents import SPACES, Latents, reduced
from w2v_abx.analysis.points import FROM_LABELS, check_columns
from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore
from w2v_abx.items.items import Items
from w2v_abx.models.convolved import Convolved
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["CONVOLUTIONS", "Clusters"]

CONVOLUTIONS = -1  # in the column layer: what leaves the convolutions
SEQUENCES = tuple(FROM_LABELS.values())  # item columns that change within a file, and so can be decoded


@dataclass(frozen=True)
class Clusters:
    """Group the frames of whole files by k-means, and compare the groups.

    Args:
        layers: those that are analysed; None: all. ``last``: of them the last alone.
        convolutions: the output of the convolutions, too.
        k: how many clusters, one number or several.
        methods: kmeans, spherical.
        spaces: raw, pca, umap: of ``dims`` dimensions.
        labels: item columns that clusters are compared with; None: the known ones.
        frames: at most, of whole files that are drawn; None: all. ``umap_frames``: at most, of these, for UMAP.
        seeds: runs of each clustering.

    Raises:
        InputError: a value that cannot be, naming it.
    """

    layers: Sequence[int] | None = None
    last: bool = False
    convolutions: bool = False
    k: int | Sequence[int] = 36
    methods: Sequence[str] = ("kmeans",)
    spaces: Sequence[str] = ("raw",)
    dims: int = 2
    labels: Sequence[str] | None = None
    frames: int | None = 200_000
    umap_frames: int = 20_000
    seeds: int = 3

    def __post_init__(self) -> None:
        key = "analysis.clusters."
        for layer in self.layers or ():
            checks.whole(f"{key}layers", layer, 0)
        for name in ("last", "convolutions"):
            checks.boolean(key + name, getattr(self, name))
        if not isinstance(self.k, int) and (not isinstance(self.k, list | tuple) or not self.k):
            raise checks.fail(f"{key}k", self.k, "a whole number from 2, or a list of some")
        for k in self._ks:
            checks.whole(f"{key}k", k, 2)
        checks.several(f"{key}methods", self.methods, METHODS)
        checks.several(f"{key}spaces", self.spaces, SPACES)
        checks.whole(f"{key}dims", self.dims, 1)
        checks.whole(f"{key}frames", self.frames, 2, optional="for all")
        checks.whole(f"{key}umap_frames", self.umap_frames, 2)
        checks.whole(f"{key}seeds", self.seeds, 1)

    @property
    def _ks(self) -> list[int]:
        return [self.k] if isinstance(self.k, int) else list(self.k)

    def _columns(self, items: Items) -> list[str]:
        return check_columns("analysis.clusters.labels", None if self.labels is None else list(self.labels), items)

    def check(self, items: Items, models: Sequence[str]) -> None:
        self._columns(items)

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        self.check(speech.items, list(models))
        places = sorted(self._places(models), key=lambda place: place[1])
        files = WholeFiles.draw(speech.items, [model.store for model in models.values()], self.frames, seed)
        labels = [*map(files.label, self._columns(speech.items)), *predictions(models.values(), files, FROM_LABELS)]
        readable = [label for label in labels if label.model or label.column in SEQUENCES]
        recognisers = [r for label in readable if (r := Recogniser.of(label, files, seed))]
        found: dict[str, list[tables.Row]] = defaultdict(list)
        found["decoding"] += tables.heads(recognisers)
        convolved: dict[tables.Where, Grouped] = {}
        for layer, here in groupby(places, key=lambda place: place[1]):
            first: dict[tables.Where, Grouped] = {}  # those of the first seed, one layer at a time in memory
            for name, _, store, stored in here:
                latents = Latents(_called(name, layer), store.layer(stored).array, files.points.rows(store))
                for where, runs in self._grouped(name, layer, latents, seed):
                    found["agreement"] += tables.agreement(where, runs, labels)
                    found["stability"] += tables.stability(where, list(runs.values()))
                    found["names"] += tables.names(where, runs[seed], labels)
                    found["decoding"] += tables.decoding(where, runs[seed], recognisers)
                    first[where] = runs[seed]
            for one, other in _pairs(first, convolved, next(iter(models))):
                row, flows = tables.moves(one, other, (first | convolved)[one].codes, first[other].codes)
                found["moves"].append(row)
                found["flows"] += flows
            convolved = first if layer == CONVOLUTIONS else convolved
        made = {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in found.items() if rows}
        return AnalysisResult(self._facts(models, files, labels, seed), made, self._notes(files))

    def _places(self, models: Mapping[str, Model]) -> Iterator[tuple[str, int, FeatureStore, int]]:
        """List the model, the layer, its store, and its number there, of all that is grouped."""
        for name, model in models.items():
            there = model.store.layers
            if self.convolutions and (convolved := _convolved(model)):
                yield name, CONVOLUTIONS, convolved, 0
            if len(there) == 1 and model.baseline:
                chosen = there
            else:
                if missing := [layer for layer in self.layers or () if layer not in there]:
                    raise InputError(f"analysis.clusters.layers={missing[0]}: {name} has {', '.join(map(str, there))}")
                chosen = [layer for layer in there if self.layers is None or layer in self.layers]
            for layer in chosen[-1:] if self.last else chosen:
                yield name, layer, model.store, layer

    def _grouped(
        self, name: str, layer: int, latents: Latents, seed: int
    ) -> Iterator[tuple[tables.Where, dict[int, Grouped]]]:
        """Group the frames of a model and layer in every way, with every seed."""
        for space in self.spaces:
            shown = reduced(latents, space, self.dims, limit=self.umap_frames, seed=seed)
            for method, k in product(self.methods, self._ks):
                runs = {s: group(shown, k, method, s) for s in range(seed, seed + self.seeds)}
                yield tables.Where(name, layer, space, method, k), runs

    def _facts(
        self, models: Mapping[str, Model], files: WholeFiles, labels: Iterable[Label], seed: int
    ) -> dict[str, Any]:
        return {
            "models": list(models),
            "baselines": [name for name, model in models.items() if model.baseline],
            "labels": [label.name for label in labels],
            "spaces": list(self.spaces),
            "methods": list(self.methods),
            "k": self._ks,
            "dims": self.dims,
            "seeds": list(range(seed, seed + self.seeds)),
            "files": len(files.files),
            "frames": len(files),
            "convolutions": CONVOLUTIONS,
        }

    def _notes(self, files: WholeFiles) -> list[str]:
        count, drawn = len(files.files), "all files"
        if count < files.total:
            drawn = f"{count} of {files.total} files, drawn until they have {self.frames:,} frames"
        notes = [
            f"Grouped are all {len(files):,} frames of {drawn}; a label of items counts where there are items, and "
            f"a model's prediction everywhere."
        ]
        if "umap" in self.spaces:
            notes.append(f"UMAP is of the first {min(self.umap_frames, len(files)):,} of these frames.")
        return notes


def _called(model: str, layer: int) -> str:
    return f"{model}, the convolutions" if layer == CONVOLUTIONS else f"{model}, layer {layer}"


def _convolved(model: Model) -> FeatureStore | None:
    """Extract a model's convolutional output; None: it has none."""
    encoder = model.load()
    if not isinstance(encoder, Encoder):
        return None
    if model.extract is None:
        raise ValueError(f"{model.name} cannot extract convolutions: give the Model an extract")
    return model.extract(Convolved(encoder))


def _pairs(
    here: Iterable[tables.Where], convolved: Iterable[tables.Where], first: str
) -> Iterator[tuple[tables.Where, tables.Where]]:
    """Pair what is compared at a layer: the first model with the others, and a model's convolutions with its layer."""
    there = {*here, *convolved}
    for where in here:
        for one in (where._replace(model=first), where._replace(layer=CONVOLUTIONS)):
            if one in there and one != where:
                yield one, where

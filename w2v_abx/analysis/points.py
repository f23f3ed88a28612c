"""Choose the vectors that an analysis looks at: the same points in time at every layer and in every model."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE, Items

__all__ = ["COLUMNS", "NONE", "Classes", "Level", "Points", "check_columns", "classes_of", "column_of", "known_columns"]

Integers = npt.NDArray[np.int64]
Level = Literal["frames", "segments"]

NONE = ("-", "", "unknown")  # what stands where an item has no such label
COLUMNS = ("#phone", "tone", "sex", "speaker", "emotion", "word")  # what analyses are about by default
FROM_LABELS = {"phones": "#phone", "tones": "tone"}  # labels of clips whose item column has another name
BATCH = 65_536  # vectors in memory at once


@dataclass(frozen=True)
class Classes:
    """A label as numbers: ``names`` of the classes, sorted, and ``codes`` (N,); -1: it has no such label."""

    names: list[str]
    codes: Integers


def column_of(label: str) -> str:
    """Name the item column of a clips' label."""
    return FROM_LABELS.get(label, label)


def known_columns(items: Items) -> list[str]:
    """Name those of `COLUMNS` that items have with at least two values."""
    return [name for name in COLUMNS if name in items.labels and len(classes_of(items, name).names) > 1]


def check_columns(key: str, columns: list[str] | None, items: Items) -> list[str]:
    """Check the label columns of a setting; None: `known_columns`.

    Raises:
        InputError: items have no such column, or only one value in it.
    """
    if columns is None:
        if not (found := known_columns(items)):
            raise InputError(f"{key}: items have two values in none of {', '.join(COLUMNS)}; name one of their columns")
        return found
    for column in columns:
        if column not in items.labels:
            raise InputError(f"{key}={column}: items have no such column; they have {', '.join(items.labels)}")
        names = classes_of(items, column).names
        if len(names) < 2:
            only = f"only the value {names[0]!r}" if names else "no value"
            raise InputError(f"{key}={column}: items have {only} in it, and two are needed")
    return list(columns)


def classes_of(items: Items, column: str) -> Classes:
    """Number the values of an item column."""
    names, codes = np.unique(items.frame[column].to_numpy().astype(str), return_inverse=True)
    there = ~np.isin(names, NONE)
    numbers = np.where(there, np.cumsum(there) - 1, -1)
    return Classes(names[there].tolist(), numbers[codes].astype(np.int64))


@dataclass(frozen=True)
class Points:
    """Some items, each as one vector (segments), or some points in time within them (frames).

    Attributes:
        items: those that a point is of, each at least once, in their order.
        item: (N,) the row of each point's item, ascending.
        time: (N,) seconds from the beginning of the file; None: each item is one point, the mean of its frames.
        left_out: items without a frame.
        total: points that there would be without a limit.
    """

    items: Items
    item: Integers
    time: npt.NDArray[np.float64] | None
    left_out: int
    total: int

    @classmethod
    def draw(
        cls, items: Items, frequency: float, level: Level, limit: int | None = None, seed: int = 0, also: float = 0
    ) -> "Points":
        """Draw ``limit`` of all points without replacement (None: take all), and put them in order.

        Frames are those of ``frequency``; in a model with another one, the frame at the same time is taken.

        Args:
            also: another frequency at which items have to have a frame, that of another model; 0: none.

        Raises:
            InputError: no item has a frame.
        """
        starts, stops = items.spans(exact_frequency(frequency))
        counts = np.maximum(stops - starts, 0)
        if also:
            first, last = items.spans(exact_frequency(also))
            counts = np.where(last > first, counts, 0)
        left_out = int((counts == 0).sum())
        if left_out == len(counts):
            raise InputError(f"none of the {len(counts)} items is as long as a frame, of {frequency:g} a second")
        each = (counts > 0).astype(np.int64) if level == "segments" else counts
        ends = np.cumsum(each)
        total = int(ends[-1])
        numbers = np.arange(total)
        if limit is not None and limit < total:
            numbers = np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))
        rows = np.searchsorted(ends, numbers, side="right")
        used, item = np.unique(rows, return_inverse=True)
        time = None
        if level == "frames":
            time = (starts[rows] + numbers - (ends - each)[rows] + 0.5) / frequency
        return cls(items.take(used), item.astype(np.int64), time, left_out, total)

    def __len__(self) -> int:
        return len(self.item)

    def classes(self, column: str) -> Classes:
        """Number the values that the points have in an item column; -1: none."""
        found = classes_of(self.items, column)
        return Classes(found.names, found.codes[self.item])

    @cached_property
    def speakers(self) -> Classes:
        """Number the speakers: the column ``speaker``, or else the file."""
        return self.classes("speaker" if "speaker" in self.items.labels else FILE)

    def vectors(self, store: FeatureStore, layer: int) -> npt.NDArray[np.float32]:
        """Read the vectors of all points at one layer, (N, D). Raises InputError where one is not finite."""
        if self.time is None:
            return _finite(store.segments(layer, self.items)[self.item], store, layer)
        return _finite(np.asarray(store.layer(layer).array[self.rows(store)], dtype=np.float32), store, layer)

    def batches(self, store: FeatureStore, layer: int) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Read them some at a time, with the points that they are of."""
        if self.time is None:
            yield slice(0, len(self)), self.vectors(store, layer)
            return
        rows, values = self.rows(store), store.layer(layer).array
        for start in range(0, len(rows), BATCH):
            part = slice(start, min(start + BATCH, len(rows)))
            yield part, _finite(np.asarray(values[rows[part]], dtype=np.float32), store, layer)

    def rows(self, store: FeatureStore) -> Integers:
        """Find the frame of each point in time in a store's arrays, (N,).

        Raises:
            InputError: the store lacks a file of these items.
        """
        if self.time is None:
            raise ValueError("segments have several frames each")
        first, frames = store.places(self.items.frame[FILE].unique(maintain_order=True).to_list())
        names = self.items.frame[FILE].to_list()
        starts, stops = self.items.spans(exact_frequency(store.frequency))
        begins = np.array([first[name] for name in names], dtype=np.int64)
        lasts = np.minimum(stops, [frames[name] for name in names]) - 1
        near = np.floor(self.time * store.frequency + 1e-6).astype(np.int64)
        within = np.maximum(np.minimum(np.maximum(near, starts[self.item]), lasts[self.item]), 0)
        return begins[self.item] + within


def _finite(vectors: npt.NDArray[np.float32], store: FeatureStore, layer: int) -> npt.NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise InputError(
            f"{store.folder}, layer {layer}: features hold a NaN or an infinite number: the model is broken, or an "
            "item has no frame before its file ends"
        )
    return vectors

"""All frames of some files, and what each of them is: by the items, and by what models' heads make of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.analysis.analysis import Model
from w2v_abx.analysis.planes.predictions import predict_frames
from w2v_abx.analysis.points import Classes, Points, classes_of
from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items

__all__ = ["Label", "WholeFiles", "predictions"]

Integers = npt.NDArray[np.int64]

FRAMES = ("framewise", "ctc")  # heads with an output for each frame


@dataclass(frozen=True)
class Label:
    """What frames are.

    Attributes:
        name: an item column, or "MODEL: HEAD".
        classes: the values; CTC's blank is one of them, "".
        column: the item column that it is about, which items need not have.
        model: whose prediction it is; None: it is an item column.
    """

    name: str
    classes: Classes
    column: str
    model: str | None = None

    @property
    def blank(self) -> int | None:
        """The class of CTC's blank; None: there is none."""
        return self.classes.names.index("") if "" in self.classes.names else None

    def codes(self, blanks: bool) -> Integers:
        """The class of each frame, −1 where it has none, or where it is blank and these are left out."""
        codes = self.classes.codes
        return codes if blanks or self.blank is None else np.where(codes == self.blank, -1, codes)


@dataclass(frozen=True)
class WholeFiles:
    """All frames of some of the files that items are of, file by file; those of no item, too.

    Attributes:
        points: an item is a file, and each frame a point in time.
        items: those of ``speech``.
        frequency: frames a second.
        total: files that there are.
    """

    points: Points
    items: Items
    frequency: float
    total: int

    @classmethod
    def draw(cls, items: Items, stores: Sequence[FeatureStore], limit: int | None, seed: int) -> "WholeFiles":
        """Draw files until they have ``limit`` frames of the first store (None: all); at least two, if there are.

        A file ends where the first model has no frame any more.

        Raises:
            InputError: no file has a frame.
        """
        names = items.frame[FILE].unique(maintain_order=True).to_list()
        counts = [store.places(names)[1] for store in stores]
        seconds = {n: min(c[n] / s.frequency for c, s in zip(counts, stores, strict=True)) for n in names}
        chosen, frequency = names, stores[0].frequency
        if limit is not None:
            order = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
            before = np.cumsum([0.0, *(seconds[name] * frequency for name in order[:-1])])
            chosen = order[: max(2, int((before < limit).sum()))]
        frame = {FILE: chosen, ONSET: "0", OFFSET: [f"{seconds[name]:.6f}" for name in chosen]}
        points = Points.draw(Items(pl.DataFrame(frame)), frequency, "frames")
        return cls(points, items, frequency, len(names))

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def files(self) -> list[str]:
        """The names of the files, by the number that ``points.item`` has."""
        return self.points.items.frame[FILE].to_list()

    @cached_property
    def owners(self) -> Integers:
        """The row of the item that each frame lies in, −1: none; of several the last."""
        counts = np.bincount(self.points.item)
        firsts = dict(zip(self.files, zip(np.cumsum(counts) - counts, counts, strict=True), strict=True))
        found = np.full(len(self), -1)
        spans = [span.tolist() for span in self.items.spans(exact_frequency(self.frequency))]
        for row, (name, start, stop) in enumerate(zip(self.items.frame[FILE].to_list(), *spans, strict=True)):
            if name in firsts:
                first, count = firsts[name]
                found[first + start : first + min(stop, count)] = row
        return found

    def label(self, column: str) -> Label:
        """Give the frames the values of their items in a column."""
        classes = classes_of(self.items, column)
        codes = np.where(self.owners >= 0, classes.codes[self.owners], -1)
        return Label(column, Classes(classes.names, codes), column)

    def halves(self, seed: int) -> npt.NDArray[np.bool_] | None:
        """Say which half each file is in, by speaker if there are several, by file else; None: there is one file."""
        if len(self.files) < 2:
            return None
        column = "speaker" if "speaker" in self.items.labels else FILE
        table = dict(zip(self.items.frame[FILE].to_list(), self.items.frame[column].to_list(), strict=True))
        groups = [table[name] for name in self.files]
        if len(set(groups)) < 2:
            groups = self.files
        order = np.random.default_rng(seed).permutation(sorted(set(groups)))
        return np.isin(groups, order[: len(order) // 2])


def predictions(models: Iterable[Model], files: WholeFiles, columns: Mapping[str, str]) -> list[Label]:
    """Compute the class that each head of each model gives each frame; ``columns``: the item column of a clips' label.

    Raises:
        InputError: a head reads a layer that is not stored.
    """
    found = []
    for model in models:
        for head, readout in model.readouts.items():
            if readout.kind in FRAMES:
                if missing := [layer for layer in readout.layers if layer not in model.store.layers]:
                    raise InputError(
                        f"the head {head} of {model.name} reads layer {missing[0]}, which is not stored; let "
                        f"analysis.clusters.layers have it, or be null"
                    )
                codes = predict_frames(readout, model.store, files.points.rows(model.store))
                names = [str(output) for output in readout.outputs]
                column = columns.get(readout.label, readout.label)
                found.append(Label(f"{model.name}: {head}", Classes(names, codes), column, model.name))
    return found

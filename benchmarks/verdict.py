"""How often the verdict is wrong without a change, and right with the smallest change that it says it can show.

    python benchmarks/verdict.py [--experiments 200]

Experiments are simulated cell by cell: labels, their pairs and speakers change at random, and single cells besides. A
line for each design: the rates of "worse" or "better" without a change, which should be at most 5 in 100, and with a
change of the size that the verdict of another such experiment called the smallest, which should be 75 to 85.
"""

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl

from w2v_abx.statistics.paired import Comparison, compare
from w2v_abx.statistics.verdict import verdict


@dataclass(frozen=True)
class Design:
    """An experiment; spreads are standard deviations in percentage points of ABX error."""

    labels: int
    speakers: int
    of_labels: float = 0.0
    of_pairs: float = 1.0
    of_speakers: float = 0.5
    of_cells: float = 1.0
    across: bool = False
    contexts: int = 2
    zeros: float = 0.0  # of pairs and of cells, the fraction that does not change but by the other effects
    steps: float = 0.0  # percentage points to which changes are rounded, as those of few triplets are
    kept: float = 1.0  # the fraction of cells that there are


DESIGNS = [
    *(Design(labels, speakers) for labels in (4, 6, 15) for speakers in (3, 4, 10)),
    *(Design(6, speakers, of_speakers=2.0) for speakers in (3, 4, 10)),
    *(Design(15, speakers, across=True) for speakers in (3, 4, 10)),
    *(Design(labels, 10, of_labels=1.0) for labels in (4, 6, 15)),
    Design(10, 1, of_speakers=0.0),
    Design(10, 10, of_speakers=0.0, zeros=0.8),
    Design(10, 10, of_speakers=0.0, of_pairs=0.0, zeros=0.9, steps=1.0),
    Design(10, 10, steps=2.0),
    Design(10, 8, across=True, kept=0.3),
    Design(24, 20, of_labels=0.5),
]


def experiment(design: Design, change: float, seed: int) -> Comparison:
    """Compare two models whose error differs by ``change`` (a fraction), on cells drawn with ``seed``."""
    rng, n = np.random.default_rng(seed), design.labels
    first, second = np.array(list(itertools.permutations(range(n), 2))).T
    spoken = range(design.speakers)
    voices = np.array(
        [(s, x) for s in spoken for x in (spoken if design.across else [s]) if s != x or not design.across]
    )
    label, pair = rng.normal(0, design.of_labels, n), rng.normal(0, design.of_pairs, (n, n))
    pair *= rng.random((n, n)) >= design.zeros
    voice = rng.normal(0, design.of_speakers, design.speakers)
    of_pairs = (label[first] + label[second] + pair[np.maximum(first, second), np.minimum(first, second)])[
        :, None, None
    ]
    of_voices = voice[voices].mean(1)[None, :, None]
    shape = (len(first), len(voices), design.contexts)
    cells = rng.normal(0, design.of_cells, shape) * (rng.random(shape) >= design.zeros)
    changes = of_pairs + of_voices + cells
    if design.steps:
        changes = design.steps * np.round(changes / design.steps)
    p, v, c = (index.ravel() for index in np.indices(shape))
    columns = {"#phone": first[p], "#phone_b": second[p], "next-phone": c, "speaker": voices[v, 0]}
    if design.across:
        columns["speaker_x"] = voices[v, 1]
    before = pl.DataFrame({name: values.astype(str) for name, values in columns.items()}).with_columns(
        score=pl.lit(0.3)
    )
    after = before.with_columns(score=0.3 + change + changes.ravel() / 100)
    kept = rng.random(before.height) < design.kept
    return compare(before.filter(kept), after.filter(kept), seed=seed)


def rates(design: Design, experiments: int) -> tuple[float, float | None, float]:
    """Rates of wrong verdicts without a change and of right ones with the smallest, and the median of the latter."""
    wrong, found, sizes = 0, [], []
    for seed in range(experiments):
        without = experiment(design, 0.0, seed)
        sentence = verdict([without])
        wrong += "the model is worse" in sentence or "the model is better" in sentence
        if (smallest := without.smallest_change()) is not None:
            sizes.append(smallest)
            direction = 1 if seed % 2 else -1
            found.append(experiment(design, direction * smallest, experiments + seed).shown == direction)
    return wrong / experiments, float(np.mean(found)) if found else None, float(np.median(sizes)) if sizes else np.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=200, help="of each design")
    arguments = parser.parse_args()
    print("wrong  found  smallest  design")
    every: list[tuple[float, float | None, float]] = []
    for design in DESIGNS:
        every.append(rates(design, arguments.experiments))
        wrong, found, smallest = every[-1]
        shown = "   no" if found is None else f"{100 * found:5.1f}"
        print(f"{100 * wrong:5.1f}  {shown}  {100 * smallest:8.2f}  {design}", flush=True)
    mean = np.mean([f for _, f, _ in every if f is not None])
    print(f"{100 * np.mean([w for w, _, _ in every]):5.1f}  {100 * mean:5.1f}            on average")


if __name__ == "__main__":
    main()

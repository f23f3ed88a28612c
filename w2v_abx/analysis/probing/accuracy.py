"""Accuracies of classifiers, and their differences, with intervals over speakers.

``counts`` are tables with a row for each ``speaker`` and ``class``: how many points there are in ``total``, and how
many of them are ``right``. Further columns say of what: ``model``, ``layer``, ``label``, ``task``.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.statistics.ratios import difference_interval, jackknife_interval, ratio_interval

__all__ = ["accuracies", "count", "differences"]

Integers = npt.NDArray[np.int64]
Interval = tuple[float, float] | None
OF = ["model", "layer", "label", "task"]


def count(speakers: npt.NDArray[np.str_], classes: npt.NDArray[np.str_], right: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Count points and those that are ``right``, each (N,), by speaker and class."""
    points = pl.DataFrame({"speaker": speakers, "class": classes, "right": right})
    grouped = points.group_by("speaker", "class").agg(pl.len().cast(pl.Int64).alias("total"), pl.col("right").sum())
    return grouped.sort("speaker", "class").with_columns(pl.col("right").cast(pl.Int64))


def accuracies(counts: pl.DataFrame) -> pl.DataFrame:
    """Compute accuracy and unweighted mean recall of each model, layer, label and task, with 95 % intervals.

    The intervals are over speakers (delete-one jackknife); null where there is one, or where all are alike.
    """
    rows = []
    for key, part in counts.group_by(OF, maintain_order=True):
        right, total = _matrices(part)
        accuracy, recall = right.sum() / total.sum(), _recall(right, total)
        ends = _ends("accuracy", ratio_interval(right.sum(1), total.sum(1)))
        ends |= _ends("recall", _recall_interval(right, total))
        rows.append(dict(zip(OF, key, strict=True)) | {"accuracy": accuracy, "recall": recall} | ends)
    ends_ = [f"{name}_{end}" for name in ("accuracy", "recall") for end in ("low", "high")]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(ends_, pl.Float64), infer_schema_length=None)


def differences(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Compute how much more accurate ``second`` is than ``first``, by layer and label, with 95 % intervals.

    Both have counts of the same points, of one model and task each, so that speakers are paired. Layers and labels that
    only one has are left out.

    Returns:
        ``layer``, ``label``, ``first``, ``second``, ``difference``, ``low`` and ``high`` (null: see `accuracies`).
    """
    sums = [
        counts.group_by("layer", "label", "speaker").agg(pl.col("right", "total").sum()) for counts in (first, second)
    ]
    rows = []
    paired = sums[0].join(sums[1], on=["layer", "label", "speaker"], suffix="_second").sort("layer", "label", "speaker")
    for (layer, label), part in paired.group_by("layer", "label", maintain_order=True):
        before, after, total = (part[name].to_numpy() for name in ("right", "right_second", "total"))
        accuracy = before.sum() / total.sum(), after.sum() / total.sum()
        low, high = difference_interval(before, after, total) or (None, None)
        rows.append((layer, label, *accuracy, accuracy[1] - accuracy[0], low, high))
    numbers = dict.fromkeys(("first", "second", "difference", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={"layer": pl.Int64, "label": pl.String, **numbers}, orient="row")


def _matrices(part: pl.DataFrame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Counts that are right, and all, each (speakers, classes)."""
    speakers, rows = np.unique(part["speaker"].to_numpy(), return_inverse=True)
    classes, columns = np.unique(part["class"].to_numpy(), return_inverse=True)
    found = np.zeros((2, len(speakers), len(classes)))
    np.add.at(found[0], (rows, columns), part["right"].to_numpy())
    np.add.at(found[1], (rows, columns), part["total"].to_numpy())
    return found[0], found[1]


def _recall(right: npt.NDArray[np.float64], total: npt.NDArray[np.float64]) -> float:
    here = total.sum(0) > 0
    return float((right.sum(0)[here] / total.sum(0)[here]).mean())


def _recall_interval(right: npt.NDArray[np.float64], total: npt.NDArray[np.float64]) -> Interval:
    kept = [np.arange(len(total)) != speaker for speaker in range(len(total))]
    if len(kept) < 2:
        return None
    return jackknife_interval(_recall(right, total), [_recall(right[rows], total[rows]) for rows in kept])


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}

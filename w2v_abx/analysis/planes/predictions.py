"""Ask a model's own heads what they take points for."""

import numpy as np
import numpy.typing as npt
import torch

from w2v_abx.analysis.points import Points, column_of
from w2v_abx.features.store import FeatureStore
from w2v_abx.heads.readout import Readout

__all__ = ["outcomes", "predict", "predict_frames"]

Strings = npt.NDArray[np.str_]
Integers = npt.NDArray[np.int64]

BLOCK = 8192  # frames at all layers in memory at once


def predict_frames(readout: Readout, store: FeatureStore, rows: Integers) -> Integers:
    """Number the class that a head (framewise or CTC) takes each of some rows of a store's arrays for, (N,)."""
    arrays = {layer: store.layer(layer).array for layer in readout.layers}
    best = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        hidden = {n: torch.from_numpy(np.asarray(array[part], dtype=np.float32)) for n, array in arrays.items()}
        best[start : start + BLOCK] = readout(hidden).argmax(-1).numpy()
    return best


def predict(readout: Readout, store: FeatureStore, points: Points) -> Strings:
    """Name what a head (framewise or CTC) takes each point for, (N,); "": the blank.

    A segment is what most of its frames are taken for, of equally many the first; of CTC, blanks count only where there
    is nothing else.
    """
    segments = points.time is None
    frames = Points.draw(points.items, store.frequency, "frames") if segments else points
    best = predict_frames(readout, store, frames.rows(store))
    if segments:
        votes = np.zeros((len(points.items), len(readout.outputs)), dtype=np.int64)
        np.add.at(votes, (frames.item, best), 1)
        if readout.kind == "ctc":
            votes[:, 0] = 0  # argmax gives 0, the blank, where no other symbol has a vote
        best = votes.argmax(axis=1)[points.item]
    return np.array(readout.outputs, dtype=str)[best]


def outcomes(readout: Readout, points: Points, predicted: Strings) -> Strings:
    """Say of each point whether it is "right", "wrong" or "blank" (CTC); "-": the head has no such class."""
    truth = points.items.frame[column_of(readout.label)].to_numpy().astype(str)[points.item]
    found = np.where(predicted == truth, "right", "wrong")
    found = np.where(predicted == "", "blank", found)
    return np.where(np.isin(truth, [output for output in readout.outputs if output]), found, "-")

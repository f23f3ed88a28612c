"""Ask a model's own heads what they take points for."""

import numpy as np
import numpy.typing as npt
import torch

from w2v_abx.analysis.points import Points, column_of
from w2v_abx.features.store import FeatureStore
from w2v_abx.heads.readout import Readout

__all__ = ["outcomes", "predict"]

Strings = npt.NDArray[np.str_]


def predict(readout: Readout, store: FeatureStore, points: Points) -> Strings:
    """Name what a head (framewise or CTC) takes each point for, (N,); "": the blank.

    A segment is what most of its frames are taken for, of equally many the first; of CTC, blanks count only where there
    is nothing else.
    """
    segments = points.time is None
    frames = Points.draw(points.items, store.frequency, "frames") if segments else points
    found = []
    for layers in zip(*(frames.batches(store, layer) for layer in readout.layers), strict=True):
        hidden = {layer: torch.from_numpy(values) for layer, (_, values) in zip(readout.layers, layers, strict=True)}
        found.append(readout(hidden).argmax(-1).numpy())
    best = np.concatenate(found)
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

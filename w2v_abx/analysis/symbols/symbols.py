"""What recognisers make of each symbol, and where in time each symbol lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.analysis import Model
from w2v_abx.errors import InputError

__all__ = ["MEASURES", "Recalls", "measure", "recogniser"]

Floats = npt.NDArray[np.float64]

MEASURES = ("share", "purity", "negative_entropy")
SPLITS = ("test", "valid")  # held-out clips that a recogniser is rated on, the first that there are
PARTS = ("rows", "by_speaker")


@dataclass(frozen=True)
class Recalls:
    """How often symbols were trained on, and found in held-out clips.

    Attributes:
        runs, symbols, speakers: R, U and S names, of the axes below; speakers are sorted.
        hits, asked: (R, S, U) how often a symbol was found in what a speaker says, of how many times.
        trained: (R, U) how often it is in the transcripts of training.
    """

    runs: Sequence[str]
    symbols: Sequence[str]
    speakers: Sequence[str]
    hits: Floats
    asked: Floats
    trained: Floats

    @classmethod
    def of(cls, models: Sequence[Model], head: str | None) -> "Recalls":
        """Collect what the recognisers among some models were rated.

        Raises:
            InputError: none is a recogniser, one has several and ``head`` names none, or it was not rated.
        """
        parts = {model.name: _rated(model, name) for model in models if (name := recogniser(model, head))}
        if not parts:
            asked = "a head of CTC" if head is None else f"the CTC head {head!r}"
            raise InputError(f"analysis.coverage: none of {', '.join(model.name for model in models)} has {asked}")
        symbols = sorted({row["category"] for part in parts.values() for row in part["rows"]})
        speakers = sorted({row["speaker"] for part in parts.values() for row in part["by_speaker"]})
        place = {symbol: number for number, symbol in enumerate(symbols)}
        who = {speaker: number for number, speaker in enumerate(speakers)}
        hits, asked_for = np.zeros((2, len(parts), len(speakers), len(symbols)))
        trained = np.zeros((len(parts), len(symbols)))
        for run, part in enumerate(parts.values()):
            for row in part["rows"]:
                trained[run, place[row["category"]]] = row["trained"]
            for row in part["by_speaker"]:
                at = run, who[row["speaker"]], place[row["category"]]
                hits[at], asked_for[at] = row["hits"], row["count"]
        return cls(list(parts), symbols, speakers, hits, asked_for, trained)

    def take(self, symbols: Sequence[str]) -> "Recalls":
        """Keep some symbols, in this order."""
        places = [list(self.symbols).index(symbol) for symbol in symbols]
        return Recalls(
            self.runs,
            symbols,
            self.speakers,
            self.hits[..., places],
            self.asked[..., places],
            self.trained[:, places],
        )


def recogniser(model: Model, head: str | None) -> str | None:
    """Name a model's CTC head; None: it has none, or not that one.

    Raises:
        InputError: it has several, and ``head`` is None.
    """
    found = [name for name, readout in model.readouts.items() if readout.kind == "ctc"]
    if head is None and len(found) > 1:
        raise InputError(f"analysis.coverage.head: {model.name} has several CTC heads; name one of {', '.join(found)}")
    return next((name for name in found if head in (None, name)), None)


def _rated(model: Model, head: str) -> Mapping[str, Any]:
    for split in SPLITS:
        part = model.rated.get(split, {}).get(head)
        if part is None:
            continue
        if not all(part.get(name) for name in PARTS) or "trained" not in part["rows"][0]:
            raise InputError(
                f"analysis.coverage: head.json of {model.name} does not say how often {head} was trained on a symbol "
                "and found it in what each speaker says: it is of an older version; train it again"
            )
        found: Mapping[str, Any] = part
        return found
    raise InputError(f"analysis.coverage: {model.name} has no head.json that rates {head} on held-out clips")


def measure(name: str, counts: Floats) -> Floats:
    """Measure how concentrated each symbol lies in clusters: the higher, the more. NaN for one without a frame.

    "share": the largest share of its frames that lies in one cluster (Grósz et al., 2023). "purity": the share of its
    frames in clusters of which it is the most frequent symbol. "negative_entropy": minus the entropy of its frames'
    clusters, in nats.

    Args:
        counts: (…, U, C) frames of each symbol in each cluster.
    """
    totals = counts.sum(-1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    if name == "share":
        return shares.max(-1)
    if name == "purity":
        return np.where(counts >= counts.max(-2, keepdims=True), shares, np.where(np.isnan(shares), np.nan, 0)).sum(-1)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return (shares * logarithms).sum(-1)

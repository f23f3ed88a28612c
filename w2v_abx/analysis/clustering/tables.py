"""Rows about clusters, for tidy tables: what they agree with, how stable they are, and what becomes of them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.clustering.contingency import adjusted_rand, changes, contingency, matched, scores
from w2v_abx.analysis.clustering.decoding import Recogniser
from w2v_abx.analysis.clustering.frames import Label
from w2v_abx.analysis.clustering.kmeans import Grouped
from w2v_abx.heads.edits import Edits

__all__ = ["Row", "Where", "agreement", "decoding", "heads", "moves", "names", "stability"]

Integers = npt.NDArray[np.integer]
Row = dict[str, Any]


class Where(NamedTuple):
    """Whose vectors are grouped, and how."""

    model: str
    layer: int
    space: str
    method: str
    k: int


def agreement(where: Where, runs: Mapping[int, Grouped], labels: Iterable[Label]) -> list[Row]:
    """Score each run, by its seed, against each label; one with blanks without them, too."""
    rows = []
    for label in labels:
        for blanks in (None,) if label.blank is None else (True, False):
            codes = label.codes(blanks is not False)
            for seed, run in runs.items():
                table = contingency(run.codes, codes[: len(run.codes)], (where.k, len(label.classes.names)))
                found = {"label": label.name, "blanks": blanks, "frames": int(table.sum()), "distance": run.distance}
                rows.append({**where._asdict(), "seed": seed, **found, **scores(table)})
    return rows


def stability(where: Where, runs: Sequence[Grouped]) -> list[Row]:
    """Compare each two runs with different seeds: the mean and the lowest AMI and adjusted Rand index."""
    tables = [contingency(a.codes, b.codes, (where.k, where.k)) for a, b in combinations(runs, 2)]
    if not tables:
        return []
    found = {"ami": [scores(table)["ami"] for table in tables], "ari": [adjusted_rand(table) for table in tables]}
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return [{**where._asdict(), "pairs": len(tables), **means, **{f"{n}_lowest": min(v) for n, v in found.items()}}]


def names(where: Where, run: Grouped, labels: Iterable[Label]) -> list[Row]:
    """Say of each cluster how many frames it has, and the most frequent class of those that have one, blanks apart."""
    sizes, rows = np.bincount(run.codes, minlength=where.k), []
    for label in labels:
        codes = label.codes(blanks=False)[: len(run.codes)]
        table = contingency(run.codes, codes, (where.k, len(label.classes.names)))
        for cluster, counts in enumerate(table):
            total = int(counts.sum())
            best = {"symbol": label.classes.names[counts.argmax()], "share": counts.max() / total} if total else {}
            row = {"cluster": cluster, "frames": int(sizes[cluster]), "label": label.name}
            rows.append({**where._asdict(), **row, "symbol": best.get("symbol"), "share": best.get("share")})
    return rows


def moves(where: Where, other: Where, codes: Integers, others: Integers) -> tuple[Row, list[Row]]:
    """Compare the clusters of a model and layer with those of another: a row, and a row for each pair that meets."""
    places = {**where._asdict(), "other": other.model, "other_layer": other.layer}
    table = contingency(codes, others, (where.k, other.k))
    match = matched(table)
    found = {"frames": len(codes), "ami": scores(table)["ami"], "ari": adjusted_rand(table), **changes(table)._asdict()}
    flows = [
        {
            **places,
            "cluster": int(a),
            "other_cluster": int(b),
            "frames": int(table[a, b]),
            "matched": bool(match[a] == b),
        }
        for a, b in zip(*np.nonzero(table), strict=True)
    ]
    return {**places, **found}, flows


def decoding(where: Where, run: Grouped, recognisers: Iterable[Recogniser]) -> list[Row]:
    """Score clusters as a recogniser, through each label that can be read."""
    scored = ((recogniser.label, recogniser.clusters(run.codes, where.k)) for recogniser in recognisers)
    return [_errors(where._asdict(), label, edits) for label, edits in scored if edits is not None]


def heads(recognisers: Iterable[Recogniser]) -> list[Row]:
    """Score in the same way the labels that are a model's predictions."""
    nowhere = {"layer": None, "space": None, "method": "head", "k": None}
    own = [recogniser for recogniser in recognisers if recogniser.label.model]
    return [_errors({"model": r.label.model, **nowhere}, r.label, r.head()) for r in own]


def _errors(where: Row, label: Label, edits: Edits) -> Row:
    return {**where, "label": label.name, "error_rate": edits.rate, **edits._asdict()}

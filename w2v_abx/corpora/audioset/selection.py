"""Which of AudioSet's segments a corpus takes: wanted and excluded categories, limits, hours, splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from w2v_abx.corpora.audioset.ontology import Ontology
from w2v_abx.corpora.audioset.segments import random_order, read_segments
from w2v_abx.errors import InputError
from w2v_abx.system.checks import number, whole

__all__ = ["Choice", "Selection", "select"]


@dataclass(frozen=True)
class Choice:
    """What is taken; ``conf/corpus/audioset_108.yaml`` explains every setting."""

    exclude: Sequence[str] = ("/m/09l8g",)
    descendants: bool = False
    per_category: int | None = None
    hours: float | None = None
    eval_per_category: int | None = None
    eval_hours: float | None = None
    balanced: bool = True
    valid: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("per_category", "eval_per_category"):
            whole(f"corpus.choice.{key}", getattr(self, key), 1, optional="for no limit")
        for key in ("hours", "eval_hours"):
            number(f"corpus.choice.{key}", getattr(self, key), above=0, optional="for no limit")
        number("corpus.choice.valid", self.valid, low=0, high=1)


@dataclass(frozen=True)
class Selection:
    """The segments taken, and how they were come by.

    ``segments`` has the columns ``key`` (``VIDEO_MILLISECONDS``, as in AudioSet's strong labels), ``video``, ``start``,
    ``end`` (s), ``split``, ``mids`` (all published labels) and ``categories`` (positions in ``wanted``, ascending), and
    is sorted by key. ``wanted`` maps machine identifiers to display names. ``candidates`` counts segments by split and
    category before these limits, and ``left_out`` segments by reason.
    """

    segments: pl.DataFrame
    wanted: Mapping[str, str]
    candidates: Mapping[str, np.ndarray]
    left_out: Mapping[str, int] = field(default_factory=dict)


def select(
    choice: Choice,
    ontology: Ontology,
    wanted: Mapping[str, str] | None,
    train: Sequence[Path],
    evaluation: Sequence[Path],
) -> Selection:
    """Choose from segment files; the answer depends on their content and on ``choice`` alone.

    Args:
        choice: limits, hours and the like.
        ontology: gives the descendants.
        wanted: display name by machine identifier; ``None``: every category but those excluded.
        train, evaluation: segment CSVs. A video of an evaluation file is never trained on.

    Raises `InputError` for an identifier that the ontology lacks, naming the file for a segment's, and for a wanted
    category that is excluded.
    """
    excluded = ontology.below(ontology.check(choice.exclude, "corpus.choice.exclude"))
    if wanted is None:
        wanted = {mid: name for mid, name in ontology.names.items() if mid not in excluded}
    for mid, name in wanted.items():
        if mid in excluded:
            raise InputError(
                f"the category {name} ({mid}) is both in corpus.categories and below corpus.choice.exclude: every clip "
                "of it would be left out, so take it out of one of them"
            )
    groups = {"train": _read(train, ontology), "eval": _read(evaluation, ontology)}
    left_out = {
        "more than once in the lists": len(groups["train"]) + len(groups["eval"]),
        "excluded category": 0,
        "no wanted category": 0,
        "beyond quotas and hours": 0,
    }
    groups = {
        name: table.unique(["video", "start"], keep="first", maintain_order=True) for name, table in groups.items()
    }
    # A video that both lists hold would be trained on and tested with.
    groups["train"] = groups["train"].join(groups["eval"].select("video").unique(), on="video", how="anti")
    left_out["more than once in the lists"] -= len(groups["train"]) + len(groups["eval"])
    limits = {"train": (choice.per_category, choice.hours), "eval": (choice.eval_per_category, choice.eval_hours)}
    membership = _membership(ontology, list(wanted), choice.descendants)
    chosen, candidates = [], {}
    for name, table in groups.items():
        clean = table.filter(pl.col("mids").list.eval(pl.element().is_in(list(excluded))).list.any().not_())
        left_out["excluded category"] += len(table) - len(clean)
        carrying = _with_categories(clean, membership)
        left_out["no wanted category"] += len(clean) - len(carrying)
        order = random_order(carrying["video"], carrying["start"], choice.seed)
        carrying = carrying.with_columns(pl.Series("order", order)).sort("order", "video", "start")
        candidates[name] = _count(carrying, len(wanted))
        taken = carrying[_draw(carrying, len(wanted), *limits[name], choice.balanced)]
        left_out["beyond quotas and hours"] += len(carrying) - len(taken)
        chosen.append(taken.with_columns(split=_split(taken, name, choice)))
    milliseconds = (pl.col("start") * 1000).round().cast(pl.Int64).cast(pl.String)
    segments = pl.concat(chosen).with_columns(key=pl.col("video") + "_" + milliseconds).sort("key")
    return Selection(
        segments.select("key", "video", "start", "end", "split", "mids", "categories"), wanted, candidates, left_out
    )


def _read(paths: Sequence[Path], ontology: Ontology) -> pl.DataFrame:
    tables = []
    for path in paths:
        table = read_segments(path)
        known = table["mids"].explode().unique().to_list()
        if unknown := sorted(set(known).difference(ontology.names)):
            raise InputError(
                f"{path} carries the label {unknown[0]!r}, which AudioSet's ontology lacks, so that nothing tells "
                "whether it is excluded: use lists and an ontology of the same release"
            )
        tables.append(table)
    if not tables:
        empty: Any = {"video": pl.String, "start": pl.Float64, "end": pl.Float64, "mids": pl.List(pl.String)}
        return pl.DataFrame(schema=empty)
    return pl.concat(tables)


def _membership(ontology: Ontology, wanted: Sequence[str], descendants: bool) -> pl.DataFrame:
    """Pairs of a label ``mid`` and the ``category`` (a position in ``wanted``) that it counts as."""
    pairs = [
        (mid, category)
        for category, root in enumerate(wanted)
        for mid in (sorted(ontology.below([root])) if descendants else [root])
    ]
    return pl.DataFrame(pairs, schema={"mid": pl.String, "category": pl.Int32}, orient="row")


def _with_categories(table: pl.DataFrame, membership: pl.DataFrame) -> pl.DataFrame:
    """The segments that carry a wanted category, with all that they carry."""
    rows = table.with_row_index("row")
    found = (
        rows.select("row", mid="mids")
        .explode("mid")
        .join(membership, on="mid")
        .group_by("row")
        .agg(categories=pl.col("category").unique().sort())
    )
    return rows.join(found, on="row").drop("row")


def _count(table: pl.DataFrame, categories: int) -> np.ndarray:
    return np.bincount(table["categories"].explode().drop_nulls().to_numpy(), minlength=categories)


def _draw(table: pl.DataFrame, categories: int, limit: int | None, hours: float | None, balanced: bool) -> np.ndarray:
    """Rows of ``table`` (which stands in the order of drawing) that are taken, ascending."""
    if limit is None and hours is None:
        return np.arange(len(table))
    # Milliseconds: sums of whole numbers do not depend on the order.
    lengths = np.rint((table["end"] - table["start"]).to_numpy() * 1000).astype(np.int64).tolist()
    shortest = min(lengths, default=0)
    carried = table["categories"].to_list()
    room = float("inf") if hours is None else hours * 3_600_000
    most = float("inf") if limit is None else limit
    counts = [0] * categories
    taken: list[int] = []

    def take(row: int) -> None:
        nonlocal room
        taken.append(row)
        room -= lengths[row]
        for category in carried[row]:
            counts[category] += 1

    if not balanced:
        for row, of in enumerate(carried):
            if lengths[row] <= room and any(counts[category] < most for category in of):
                take(row)
        return np.array(taken, dtype=np.int64)

    flat = np.array([category for of in carried for category in of], dtype=np.int64)
    rows = np.repeat(np.arange(len(carried)), [len(of) for of in carried])
    by_category = rows[np.argsort(flat, kind="stable")]
    bounds = np.concatenate(([0], np.cumsum(np.bincount(flat, minlength=categories))))
    queues = [iter(by_category[begin:end].tolist()) for begin, end in pairwise(bounds.tolist())]
    seen = bytearray(len(carried))
    heap = [(0, category) for category in range(categories)]
    heapify(heap)
    while heap:
        count, category = heappop(heap)
        if counts[category] >= most:
            continue
        if count != counts[category]:  # it grew by segments drawn for others
            heappush(heap, (counts[category], category))
            continue
        drawn = next((row for row in queues[category] if not seen[row]), None)
        if drawn is None or room < shortest:
            continue
        seen[drawn] = 1
        if lengths[drawn] <= room:
            take(drawn)
        heappush(heap, (counts[category], category))
    return np.array(sorted(taken), dtype=np.int64)


def _split(table: pl.DataFrame, name: str, choice: Choice) -> pl.Series:
    if name == "train":
        return pl.Series("split", ["train"]).new_from_index(0, len(table))
    # By an order of its own: the first drawn are not the first for validation.
    place = random_order(table["video"], table["start"], choice.seed + 1) / 2.0**64
    return pl.Series("split", np.where(place < choice.valid, "valid", "test").tolist(), dtype=pl.String)

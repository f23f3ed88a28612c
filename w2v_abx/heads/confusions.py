"""What symbols are taken for: by symbol, as a matrix, and by broad phonetic class."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from w2v_abx.heads.edits import NOTHING, Pair
from w2v_abx.heads.head import ResultTable
from w2v_abx.heads.phonology import CLASSES, in_order
from w2v_abx.heads.vocabulary import DELIMITER

__all__ = ["by_class", "by_symbol", "matrix", "shown"]

Kind = Callable[[str], str]  # the broad phonetic class of a symbol, "" where there is none


def shown(symbol: str | None) -> str:
    """Write a symbol so that it can be seen."""
    return NOTHING if symbol is None else DELIMITER if symbol == " " else symbol


def _in_order(counts: Mapping[Pair, int], kind: Kind) -> list[str]:
    return in_order({symbol for pair in counts for symbol in pair if symbol is not None}, kind)


def matrix(counts: Mapping[Pair, int], kind: Kind) -> tuple[list[str], list[str], list[list[int]]]:
    """Make the labels, their classes, and how often each was taken for each; the last label stands for none."""
    found: list[str | None] = [*_in_order(counts, kind), None]
    groups = [NOTHING if symbol is None else kind(symbol) for symbol in found]
    confusion = [[counts.get((left, right), 0) for right in found] for left in found]
    return [shown(symbol) for symbol in found], groups if any(groups[:-1]) else [], confusion


def by_symbol(counts: Mapping[Pair, int], kind: Kind, trained: Mapping[str, int]) -> list[dict[str, Any]]:
    """Say of each symbol how often it was found, taken for another, left out and put in, and how often trained on."""
    rows = []
    for symbol in _in_order(counts, kind):
        taken = {right: times for (left, right), times in counts.items() if left == symbol}
        missed = {right: times for right, times in taken.items() if right != symbol}
        total, deletions = sum(taken.values()), taken.get(None, 0)
        rows.append(
            {
                "category": shown(symbol),
                **({"kind": kind(symbol)} if kind(symbol) else {}),
                "recall": taken.get(symbol, 0) / total if total else None,
                "count": total,
                "trained": trained.get(symbol, 0),
                "substitutions": sum(missed.values()) - deletions,
                "deletions": deletions,
                "insertions": counts.get((None, symbol), 0),
                "mistaken": shown(max(missed, key=lambda s: (missed[s], str(s)))) if missed else "",
            }
        )
    return rows


def by_class(counts: Mapping[Pair, int], kind: Kind) -> ResultTable:
    """Say of each class which part of its symbols was found, and what became of the others."""
    outcomes: Counter[tuple[str, str]] = Counter()
    for (left, right), times in counts.items():
        if left is not None:
            same = right is not None and kind(left) == kind(right)
            how = "deleted" if right is None else "found" if left == right else "within" if same else "outside"
            outcomes[kind(left), how] += times
    rows: list[list[Any]] = []
    for name in CLASSES:
        became = [outcomes[name, how] for how in ("found", "within", "outside", "deleted")]
        if total := sum(became):
            rows.append([name, total, *(each / total for each in became)])
    columns = ["class", "symbols", "found", "taken for another of the class", "taken for one of another", "left out"]
    return ResultTable("By broad phonetic class", columns, rows)

"""Extra constraints on the triplets of a task: columns in which A, B and X must differ, or agree."""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError

__all__ = ["Constraint", "Constraints", "encode", "parse"]

ROLES = "abx"
COMPARISON = re.compile(r"\s*(.+)_([abx])\s*(==|!=)\s*(.+)_([abx])\s*")
ALL_DIFFERENT = re.compile(r"\s*all_different\(\s*(.+?)\s*\)\s*")


class Constraint(NamedTuple):
    """The value of one column for one item of a triplet, and of another's: equal, or not."""

    left: tuple[str, str]  # column, role
    right: tuple[str, str]
    equal: bool


class Constraints(NamedTuple):
    """Comparisons as the kernels take them.

    Attributes:
        codes: (K, N) for each column compared, a number for the value of each item.
        tests: (C, 5) for each comparison: row of ``codes`` and role (0, 1, 2 for A, B, X) on the left, the same on the
            right, and whether the two must be equal.
    """

    codes: npt.NDArray[np.int64]
    tests: npt.NDArray[np.int64]


def parse(text: str) -> list[Constraint]:
    """The comparisons that a constraint means.

    ``COLUMN_a != COLUMN_x`` (roles a, b, x; ``!=`` or ``==``), or ``all_different(COLUMN)`` for all three pairs.

    Raises:
        InputError: it is neither.
    """
    if match := ALL_DIFFERENT.fullmatch(text):
        return [Constraint((match[1], left), (match[1], right), False) for left, right in combinations(ROLES, 2)]
    if match := COMPARISON.fullmatch(text):
        return [Constraint((match[1], match[2]), (match[4], match[5]), match[3] == "==")]
    raise InputError(
        f"The constraint '{text}' cannot be read: write COLUMN_a != COLUMN_x (roles a, b and x, != or ==), or "
        "all_different(COLUMN)."
    )


def encode(comparisons: Sequence[Constraint], frame: pl.DataFrame) -> Constraints:
    """Comparisons over the items of ``frame``; its columns hold strings."""
    columns = sorted({column for one in comparisons for column, _ in (one.left, one.right)})
    codes = pl.concat([frame[name] for name in columns]).rank("dense").to_numpy().astype(np.int64)
    tests = [
        [*(at for column, role in (left, right) for at in (columns.index(column), ROLES.index(role))), equal]
        for left, right, equal in comparisons
    ]
    return Constraints(codes.reshape(len(columns), -1), np.array(tests, dtype=np.int64))

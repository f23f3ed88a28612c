"""The innermost loop: any width, any number of rows and columns; and numba's cache, which does not see it change."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from w2v_abx.abx import dtw, microkernel
from w2v_abx.abx.microkernel import LANES, ROWS, VECTORS

dot_wide, dot_narrow = microkernel.dot
squares_wide, squares_narrow = microkernel.squares


@njit
def products(rows: np.ndarray, strips: np.ndarray, wide: np.ndarray, narrow: np.ndarray) -> None:
    dot_wide((rows,), 1, (strips,), 1, wide, 2, 3)
    dot_narrow((rows,), 1, (strips,), 1, narrow, 2, 3)


@njit
def differences(rows: np.ndarray, strips: np.ndarray, wide: np.ndarray, narrow: np.ndarray) -> None:
    squares_wide((rows,), 1, (strips,), 1, wide, 2, 3)
    squares_narrow((rows,), 1, (strips,), 1, narrow, 2, 3)


@pytest.mark.parametrize("width", [1, 3, 768])
def test_blocks_equal_numpy_and_touch_nothing_else(width: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS + 2, width)).astype(np.float32)
    columns = rng.normal(size=((VECTORS + 2) * LANES, width)).astype(np.float32)
    strips = np.ascontiguousarray(columns.reshape(VECTORS + 2, LANES, width).transpose(0, 2, 1))
    x, y = rows[1 : 1 + ROWS, None].astype(np.float64), columns[None, LANES:].astype(np.float64)
    for kernel, expected in ((products, (x * y).sum(-1)), (differences, ((x - y) ** 2).sum(-1))):
        wide = np.full((ROWS + 4, LANES * (VECTORS + 1)), np.nan, dtype=np.float32)
        narrow = wide.copy()
        kernel(rows, strips, wide, narrow)
        for block, vectors in ((wide, VECTORS), (narrow, 1)):
            inside = block[2 : 2 + ROWS, 3 : 3 + vectors * LANES]
            np.testing.assert_allclose(inside, expected[:, : vectors * LANES], atol=1e-3 * width**0.5, rtol=1e-5)
            assert np.isfinite(block).sum() == inside.size


def test_the_cache_of_dtw_is_for_this_microkernel() -> None:
    text = Path(microkernel.__file__).read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == dtw.MICROKERNEL, "write the new digest into dtw.py"

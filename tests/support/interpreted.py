"""Runs the GPU's kernels on the CPU, by Triton's interpreter, in a process of its own.

Whether kernels are interpreted is settled when Triton is imported, so the tests' own process is no place for it.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from w2v_abx.abx import gpu
from w2v_abx.abx.engine import Plan, Results


@contextmanager
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process whose :func:`score` runs where there is no GPU."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin) as process:
        yield process


def imported_kernels() -> bool:
    """Whether that process had imported the kernels, and with them Triton, when it had imported what scores."""
    return _imported


_imported = False


def _begin() -> None:
    global _imported  # noqa: PLW0603 (the process has nowhere else to keep it)
    _imported = "w2v_abx.abx.triton_kernels" in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    from triton.runtime import interpreter as triton_interpreter

    patch = triton_interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        # Triton 3.6 takes int() of an array with one axis, which numpy 2.4 no longer does.
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    triton_interpreter._patch_lang_tensor = patched


def score(
    plan: Plan, metric: int, values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, sizes: dict[str, int]
) -> Results:
    """As :func:`w2v_abx.abx.gpu.score`, with the constants ``sizes`` of its module changed."""
    before = {name: getattr(gpu, name) for name in sizes}
    for name, size in sizes.items():
        setattr(gpu, name, size)
    try:
        return gpu.score(plan, metric, torch.from_numpy(values), starts, lengths)
    finally:
        for name, size in before.items():
            setattr(gpu, name, size)

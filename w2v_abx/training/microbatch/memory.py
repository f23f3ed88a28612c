"""Limit the size of micro-batches where memory runs out."""

import gc
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.memory import is_oom_error

from w2v_abx.system.machine import give_back_freed_memory

__all__ = ["MemoryLimit", "free_memory", "out_of_memory"]

LARGEST_SIZE = 1 << 48  # clips or samples, past any batch: doubling ends there
MAX_FAILURES = 3  # of a size, after which it is not tried again


class MemoryLimit:
    """The largest size that memory is thought to hold: halved where it does not, doubled after some quiet steps.

    ``size`` None stands for no limit.
    """

    def __init__(self, grow_after: int | None = None) -> None:
        """``grow_after``: steps without running out of memory after which the limit doubles; None: never."""
        self.grow_after = grow_after
        self.size: int | None = None
        self.failed: int | None = None  # the smallest size that this step has failed at
        self._failures: dict[int, int] = {}
        self._quiet = 0

    def halve(self, size: int) -> None:
        """Memory did not hold ``size``, which is 2 or more."""
        self.size, self.failed = size // 2, size

    def settle(self, size: int | None, failed: int | None) -> None:
        """End a step: ``size`` and ``failed`` are the smallest of all ranks, so that these stay the same."""
        self.size, self.failed = size, None
        self._quiet += 1
        if failed is not None:
            self._failures[failed] = self._failures.get(failed, 0) + 1
            self._quiet = 0
        elif size is not None and self.grow_after is not None and self._quiet >= self.grow_after:
            self._quiet = 0
            doubled = min(2 * size, LARGEST_SIZE)
            if sum(count for tried, count in self._failures.items() if tried <= doubled) < MAX_FAILURES:
                self.size = doubled

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size, "failures": dict(self._failures), "quiet": self._quiet}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.size, self._failures, self._quiet = state["size"], dict(state["failures"]), state["quiet"]


def out_of_memory(error: Exception) -> bool:
    """Say whether an error means that the device, or the CPU, has too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (is_oom_error(error) or "out of memory" in str(error).lower())


def free_memory() -> None:
    """Give freed memory back to the device and the system."""
    gc.collect()
    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

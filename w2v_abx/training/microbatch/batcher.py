"""Split effective batches into micro-batches."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.batch import Batch
from w2v_abx.errors import InputError
from w2v_abx.system import checks
from w2v_abx.training.microbatch.memory import MemoryLimit

__all__ = ["MicroBatcher", "MicroBatching"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MicroBatching:
    """How much of a step runs at once: the config group ``microbatch``.

    Args:
        clips: in a micro-batch to start with; None: the whole effective batch; auto: as many as a GPU holds, and on a
            CPU the whole effective batch.
        seconds: of audio in a micro-batch, padding counted; None: any.
        grow_after: steps without running out of memory after which a micro-batch that had been halved doubles again;
            None: never.

    Raises:
        InputError: values out of range.
    """

    clips: int | Literal["auto"] | None = None
    seconds: float | None = None
    grow_after: int | None = None

    def __post_init__(self) -> None:
        if self.clips != "auto":
            checks.whole("microbatch.clips", self.clips, 1, optional="for the whole batch", hint="auto finds it")
        checks.number("microbatch.seconds", self.seconds, above=0, unit="seconds", optional="for any")
        checks.whole("microbatch.grow_after", self.grow_after, 1, optional="for never")


class MicroBatcher:
    """Split effective batches into micro-batches, of a size that memory and heat may limit at any time.

    A micro-batch is the longest run of clips with at most ``size`` clips and at most ``samples`` samples of audio,
    padding counted; a clip longer than that is one of its own. Both are the smallest of the starting value and of the
    limits in force; None means no limit. Each cause has its limit (``"heat"``, and memory's own), so that a device that
    has cooled does not grow back past what its memory holds. Each function in ``hooks`` is called before each
    micro-batch, in order; it may sleep and change the limits.
    """

    def __init__(self, settings: MicroBatching | None = None) -> None:
        settings = settings or MicroBatching()
        self.auto = settings.clips == "auto"
        self.found: int | None = None  # samples that auto has found
        self._start = None if isinstance(settings.clips, str) else settings.clips
        self._start_samples = None if settings.seconds is None else max(1, round(settings.seconds * SAMPLE_RATE))
        self._limits: dict[str, int] = {}
        self.memory = {"clips": MemoryLimit(settings.grow_after), "samples": MemoryLimit(settings.grow_after)}
        self.hooks: list[Callable[[], None]] = []
        self.handed: tuple[int, int] | None = None  # clips of the last micro-batch and of its batch; a hook may take it
        self._last = (1, "clips", 1)  # clips of the last micro-batch, what bounded it, and by how much

    @property
    def size(self) -> int | None:
        """Clips in a micro-batch now; None: any number."""
        return _smallest(self._start, self.memory["clips"].size, *self._limits.values())

    @property
    def samples(self) -> int | None:
        """Samples of audio in a micro-batch now, padding counted; None: any number."""
        return _smallest(self._start_samples, self.found, self.memory["samples"].size)

    def limit(self, cause: str, clips: int | None) -> None:
        """Hold micro-batches at or below ``clips`` for this cause; None lifts the cause's limit."""
        if checks.whole(f"the limit for {cause}", clips, 1, optional="for none") is None:
            self._limits.pop(cause, None)
        else:
            self._limits[cause] = clips  # type: ignore[assignment]

    def split(self, batch: Batch) -> Iterator[Batch]:
        """Yield the batch in order, in micro-batches of the size that holds when each is asked for."""
        samples: list[int] = batch.lengths.tolist()
        start = 0
        while start < len(batch):
            for hook in self.hooks:
                hook()
            stop = self._stop(samples, start, len(batch))
            self.handed = (stop - start, len(batch))
            yield batch.slice(start, stop)
            start = stop

    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """Say where micro-batches of the size that holds now would start and end."""
        samples: list[int] = batch.lengths.tolist()
        spans, start, last = [], 0, self._last
        while start < len(batch):
            stop = self._stop(samples, start, len(batch))
            spans.append((start, stop))
            start = stop
        self._last = last
        return spans

    def _stop(self, samples: list[int], start: int, total: int) -> int:
        """Say where the micro-batch from ``start`` on ends."""
        size, budget = self.size or total, self.samples
        most = min(total, start + size)
        if budget is None:
            self._last = (most - start, "clips", min(size, total))
            return most
        longest, stop = 0, start
        while stop < most:
            longest = max(longest, samples[stop])
            if stop > start and (stop + 1 - start) * longest > budget:
                break
            stop += 1
        full = stop - start == self.size
        self._last = (stop - start, *(("clips", size) if full else ("samples", min(budget, total * max(samples)))))
        return stop

    def halve(self) -> None:
        """Halve what bounded the last micro-batch, which memory did not hold; InputError where that was one clip."""
        clips, unit, bound = self._last
        if clips == 1:
            raise InputError(
                "Memory ran out with a single clip in the micro-batch; take shorter clips, a smaller model, gradient "
                "checkpointing, or a lower precision (trainer.precision=bf16-mixed)."
            )
        self.memory[unit].halve(bound)
        now = self.memory[unit].size
        log.warning(
            "Out of memory: micro-batches shrink from %d to %d %s, and the same clips are run again.", bound, now, unit
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the limits of memory; those of heat are in the thermal callback's state."""
        return {"found": self.found, "memory": {unit: limit.state_dict() for unit, limit in self.memory.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.found = state["found"] if self.auto else None
        for unit, limit in self.memory.items():
            limit.load_state_dict(state["memory"][unit])


def _smallest(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)

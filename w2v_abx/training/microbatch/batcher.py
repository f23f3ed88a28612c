"""How much runs at once, and who limits it."""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Literal

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.batch import Batch, batch_size, clip_samples, piece_of
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch.memory import MemoryLimit

__all__ = ["MicroBatcher"]

log = logging.getLogger(__name__)


class MicroBatcher:
    """How much of the effective batch runs at once, and who limits it.

    A piece is the longest run of clips with at most ``size`` clips and at most ``samples`` samples of audio, padding
    counted; a clip longer than that is a piece of its own. Both are the smallest of the starting value and of the
    limits in force; None means no limit. Limits are kept per reason (``"heat"``, and memory's own), so that a device
    that has cooled does not grow back past what its memory holds. Each function in ``hooks`` is called before each
    piece, in order; it may sleep and change the limits.
    """

    def __init__(
        self,
        size: int | Literal["auto"] | None = None,
        seconds: float | None = None,
        grow_after: int | None = None,
    ) -> None:
        """``size``: clips in a piece to start with (None: the whole batch; auto: to be found). ``seconds``: of audio in
        a piece, padding counted (None: any). ``grow_after``: steps without running out of memory after which a limit
        that memory had halved doubles again (None: never). Raises InputError for values out of range."""
        self.auto = size == "auto"
        self.found: dict[str, int] | None = None  # what auto found: {"clips" or "samples": number}
        self._start = None if isinstance(size, str) and size == "auto" else _whole("microbatch", size, "clips")
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (number and math.isfinite(seconds) and seconds > 0):
            raise InputError(f"microbatch_seconds={seconds!r} must be a positive number of seconds, or null for any")
        self._start_samples = None if seconds is None else max(1, round(seconds * SAMPLE_RATE))
        grow_after = _whole("microbatch_grow_after", grow_after, "steps")
        self._limits: dict[str, int] = {}
        self.memory = {"clips": MemoryLimit(grow_after), "samples": MemoryLimit(grow_after)}
        self.hooks: list[Callable[[], None]] = []
        self.handed: tuple[int, int] | None = None  # clips of the last piece and of its batch; a hook may take it away
        self._last = (1, "clips", 1)  # clips of the last piece, what bounded it, and by how much

    @property
    def size(self) -> int | None:
        """Clips in a piece now; None: any number."""
        found = (self.found or {}).get("clips")
        return _smallest(self._start, found, self.memory["clips"].size, *self._limits.values())

    @property
    def samples(self) -> int | None:
        """Samples of audio in a piece now, padding counted; None: any number."""
        return _smallest(self._start_samples, (self.found or {}).get("samples"), self.memory["samples"].size)

    def limit(self, reason: str, size: int | None) -> None:
        """Hold pieces at or below ``size`` clips for this reason; None lifts the reason's limit."""
        if _whole("microbatch", size, "clips") is None:
            self._limits.pop(reason, None)
        else:
            assert size is not None
            self._limits[reason] = size

    def split(self, batch: Batch) -> Iterator[Batch]:
        """The batch in order, in pieces of the size that holds when each piece is asked for."""
        total, start = batch_size(batch), 0
        samples = self._samples_of(batch)
        while start < total:
            self._call_hooks()
            start = yield from self._hand(batch, start, self._stop(samples, start, total))

    def plan(self, batch: Batch) -> list[int]:
        """Where the pieces of the size that holds now would end."""
        samples = self._samples_of(batch)
        stops = [0]
        while stops[-1] < batch_size(batch):
            stops.append(self._stop(samples, stops[-1], batch_size(batch)))
        return stops[1:]

    def split_in(self, pieces: int, batch: Batch) -> Iterator[Batch]:
        """The batch in order, in so many pieces, or as many as it has clips: no fewer than ``plan`` makes of it."""
        stops = self.plan(batch)
        while len(stops) < min(pieces, batch_size(batch)):
            sizes = [stop - start for start, stop in zip([0, *stops], stops, strict=False)]
            widest = sizes.index(max(sizes))
            stops.insert(widest, stops[widest] - sizes[widest] // 2)
        start = 0
        for stop in stops:
            self._call_hooks()
            start = yield from self._hand(batch, start, stop)

    def _samples_of(self, batch: Batch) -> list[int] | None:
        samples = clip_samples(batch)
        if samples is None and self._start_samples is not None:
            raise InputError("microbatch_seconds counts audio, and this batch has none; give microbatch instead")
        return samples

    def _call_hooks(self) -> None:
        for hook in self.hooks:
            hook()

    def _hand(self, batch: Batch, start: int, stop: int) -> Generator[Batch, None, int]:
        self.handed = (stop - start, batch_size(batch))
        yield piece_of(batch, start, stop)
        return stop

    def _stop(self, samples: list[int] | None, start: int, total: int) -> int:
        """Where the piece from ``start`` on ends."""
        size, budget = self.size or total, self.samples
        most = min(total, start + size)
        if budget is None or samples is None:
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
        """Memory did not hold the last piece: halve what bounded it. Raises InputError where that was a single clip."""
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
        """What memory has taught; heat is the thermal callback's to keep."""
        return {"found": self.found, "memory": {unit: limit.state_dict() for unit, limit in self.memory.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.found = state["found"] if self.auto else None
        for unit, limit in self.memory.items():
            limit.load_state_dict(state["memory"][unit])


def _whole(key: str, value: Any, unit: str) -> int | None:
    """``value``, if it is None or a whole number from 1."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    others = "auto to have it found, or null for the whole batch" if key == "microbatch" else "or null"
    raise InputError(f"{key}={value!r} must be a whole number of {unit} from 1, {others}")


def _smallest(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)

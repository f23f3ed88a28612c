"""Find the largest micro-batch that fits in memory (GPU) or runs fastest (CPU): ``microbatch.clips=auto``."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.batch import Batch
from w2v_abx.data.dataset import ShardDataset
from w2v_abx.distributed.collectives import alone, largest
from w2v_abx.errors import InputError
from w2v_abx.system.machine import available_memory, resident_memory
from w2v_abx.training.microbatch.memory import free_memory, out_of_memory

__all__ = ["most_that_holds", "quickest", "search"]

ADAM_STATES = 2  # values per weight that Adam keeps, from its first step on
SPARE_MEMORY = 0.03  # of a device's memory, for what trials do not show: fragments, other losses
LEAST_SPEEDUP = 1.05  # of twice as many clips at once, below which more memory is not worth while
MEMORY_INTERVAL = 0.01  # s between looks at the memory of this process

log = logging.getLogger(__name__)


def search(module: Any, batch: Batch) -> dict[str, int]:
    """Find how many samples of audio, padding counted, to run at once; the same on all ranks.

    On a device that tells when its memory is full, as many as it holds; on a CPU, which does not, twice as many for as
    long as that is faster and there is room. Runs real forward and backward passes of ``module``, an `ElasticModule`,
    over the longest clip there is, and leaves weights, optimiser and random states as they were. No block is skipped
    meanwhile.

    Raises:
        InputError: on all ranks, if one of them does not hold a single clip.
    """
    began = time.perf_counter()
    most, samples = largest([len(batch), _longest(module, batch)])
    if module.microbatches.samples is not None:
        most = max(1, min(most, module.microbatches.samples // samples))
    trials = _Trials(module, batch, samples)
    with alone(), isolate_rng(), _every_block(module):
        found = most_that_holds(trials.hold, most) if trials.tells else quickest(trials.rate, most)
        trials.close()
    found = -largest([-found])[0]
    if not found:
        raise InputError(
            "Memory does not hold a single clip; take shorter clips (data.crop_seconds), a smaller model, gradient "
            "checkpointing, or a lower precision (trainer.precision=bf16-mixed)"
        )
    even = math.ceil(most / math.ceil(most / found))  # as many micro-batches, of like size
    if module.trainer.is_global_zero:
        took = time.perf_counter() - began
        seconds = samples / SAMPLE_RATE
        log.info("microbatch.clips=auto: %d clips of %g s at once (of %d, found in %.0f s)", even, seconds, most, took)
    return {"samples": even * samples}


def most_that_holds(hold: Callable[[int], bool], most: int) -> int:
    """Find the largest size from 1 to ``most`` for which ``hold`` is true, to within an eighth; 0 if there is none.

    Doubles, then bisects; a size that does not hold is held by no larger one.
    """
    low, high = 0, 1
    while low < most and hold(high):
        low, high = high, min(2 * high, most)
    if low in (0, most):
        return low
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if hold(middle) else (low, middle)
    return low


def quickest(rate: Callable[[int], float], most: int) -> int:
    """Find the size from 1 to ``most``, by doubling, after which ``rate``, clips per second, hardly rises; 0: none.

    A rate of zero says that there is no memory for it.
    """
    best, clips = rate(1), 1
    while best and clips < most:
        more = min(2 * clips, most)
        faster = rate(more)
        if faster < LEAST_SPEEDUP * best:
            break
        best, clips = faster, more
    return clips if best else 0


@contextmanager
def _every_block(module: nn.Module) -> Iterator[None]:
    """No transformer block is skipped at random: a step that skips none asks for the most memory."""
    every: list[Any] = [getattr(part, "config", None) for part in module.modules()]
    configs = [config for config in every if hasattr(config, "layerdrop")]
    kept = [config.layerdrop for config in configs]
    for config in configs:
        config.layerdrop = 0.0
    try:
        yield
    finally:
        for config, layer_drop in zip(configs, kept, strict=True):
            config.layerdrop = layer_drop


class _Trials:
    """Forward and backward passes over copies of the longest clip."""

    def __init__(self, module: Any, batch: Batch, samples: int) -> None:
        self.module, self.batch, self.samples = module, batch, samples
        device = module.device
        self.tells = tells(device)
        self._buffers = [buffer.clone() for buffer in module.buffers()]
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        optimizer = module.trainer.optimizers[0]
        # Room for what the first step of each will add.
        later = ADAM_STATES * sum(weight.nbytes for weight in weights if weight not in optimizer.state)
        if device.type == "cuda":
            later += int(SPARE_MEMORY * torch.cuda.get_device_properties(device).total_memory)
        self._reserved = torch.empty(later if self.tells else 0, dtype=torch.uint8, device=device)
        free_memory()  # else passes would be thought to take less than they do: what others have freed is used again
        self._room = available_memory() // max(1, module.trainer.num_devices) - later
        self._before = resident_memory()
        self._used = 0.0  # bytes per clip

    def hold(self, clips: int) -> bool:
        """Whether memory holds so many clips."""
        return self._seconds(clips) is not None

    def rate(self, clips: int) -> float:
        """Clips per second; 0 where memory does not hold so many, or would be too full for it."""
        if self._used * clips > self._room:
            return 0.0
        if clips == 1 and not self.hold(1):  # the first pass also takes what others find there
            return 0.0
        with _Peak() as peak:
            seconds = self._seconds(clips)
        self._used = (peak.bytes - self._before) / clips
        return 0.0 if seconds is None else clips / seconds

    def close(self) -> None:
        """Leave everything as it was."""
        del self._reserved
        self.module.zero_grad(set_to_none=True)
        free_memory()
        with torch.no_grad():
            for buffer, kept in zip(self.module.buffers(), self._buffers, strict=True):
                buffer.copy_(kept)

    def _seconds(self, clips: int) -> float | None:
        """What one pass forward and backward takes; None where memory does not hold it."""
        module = self.module
        module.zero_grad(set_to_none=True)
        began = time.perf_counter()
        try:
            batch = module.prepare(self.batch.longest(clips, self.samples))
            shares = module.loss(batch, module.totals(batch))
            if "loss" in shares:
                shares["loss"].backward()
            if module.device.type == "cuda":
                torch.cuda.synchronize(module.device)
            return time.perf_counter() - began
        except Exception as error:
            if not out_of_memory(error):
                raise
        free_memory()
        return None


class _Peak:
    """The most memory that this process takes meanwhile, ``bytes``."""

    def __enter__(self) -> "_Peak":
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, resident_memory())
            if self._over.wait(MEMORY_INTERVAL):
                return


def tells(device: torch.device) -> bool:
    """Whether the device says when its memory is full, rather than have the system end the process."""
    return device.type == "cuda"


def _longest(module: Any, batch: Batch) -> int:
    """Say how many samples the longest clip of a batch may have: this one's, where the loader does not know."""
    dataset = getattr(module.trainer.train_dataloader, "dataset", None)
    corpora = dataset.corpora if isinstance(dataset, ShardDataset) else ()
    return max([*batch.lengths.tolist(), *(int(corpus.lengths.max()) for corpus in corpora)])

"""Find the largest micro-batch that the memory of a GPU holds: ``microbatch.clips=auto``."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.batch import Batch
from w2v_abx.data.dataset import ShardDataset
from w2v_abx.distributed.collectives import alone, largest
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch.memory import free_memory, out_of_memory

__all__ = ["most_that_holds", "reports_full_memory", "search"]

ADAM_STATES = 2  # values per weight that Adam keeps, from its first step on
SPARE_MEMORY = 0.03  # of a device's memory, for what trials do not show: fragments, other losses

log = logging.getLogger(__name__)


def reports_full_memory(device: torch.device) -> bool:
    """Say whether the device raises an error when its memory is full: on a CPU the system ends the process."""
    return device.type == "cuda"


def search(module: Any, batch: Batch) -> int:
    """Find how many samples of audio, padding counted, the device holds at once; the same on all ranks.

    Runs real forward and backward passes of ``module``, an `ElasticModule`, over the longest clip there is, and leaves
    weights, optimiser and random states as they were. No block is skipped meanwhile.

    Raises:
        InputError: on all ranks, if one of them does not hold a single clip.
    """
    began = time.perf_counter()
    most, samples = largest([len(batch), _longest(module, batch)])
    if module.microbatches.samples is not None:
        most = max(1, min(most, module.microbatches.samples // samples))
    with alone(), isolate_rng(), _every_block(module), _unchanged(module):
        found = most_that_holds(lambda clips: _holds(module, batch.longest(clips, samples)), most)
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
    return even * samples


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


def _longest(module: Any, batch: Batch) -> int:
    """Return the samples of the longest clip of any batch: of this one's, where the loader does not know."""
    dataset = getattr(module.trainer.train_dataloader, "dataset", None)
    corpora = dataset.corpora if isinstance(dataset, ShardDataset) else ()
    return max([*batch.lengths.tolist(), *(int(corpus.lengths.max()) for corpus in corpora)])


@contextmanager
def _every_block(module: nn.Module) -> Iterator[None]:
    """Skip no transformer block at random: a step that skips none takes the most memory."""
    every: list[Any] = [getattr(part, "config", None) for part in module.modules()]
    before = [(config, config.layerdrop) for config in every if hasattr(config, "layerdrop")]
    for config, _ in before:
        config.layerdrop = 0.0
    try:
        yield
    finally:
        for config, layer_drop in before:
            config.layerdrop = layer_drop


@contextmanager
def _unchanged(module: Any) -> Iterator[None]:
    """Reserve what steps will add to memory, and leave gradients and buffers as they were."""
    buffers = [buffer.clone() for buffer in module.buffers()]
    reserved = _reserve(module)
    free_memory()
    yield
    del reserved
    module.zero_grad(set_to_none=True)
    free_memory()
    with torch.no_grad():
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)


def _reserve(module: Any) -> Tensor:
    """Allocate as many bytes as the first step of each weight will add, and spare ones."""
    states = module.trainer.optimizers[0].state
    weights = [weight for weight in module.parameters() if weight.requires_grad and weight not in states]
    size = ADAM_STATES * sum(weight.nbytes for weight in weights)
    if module.device.type == "cuda":
        size += int(SPARE_MEMORY * torch.cuda.get_device_properties(module.device).total_memory)
    return torch.empty(size, dtype=torch.uint8, device=module.device)


def _holds(module: Any, batch: Batch) -> bool:
    """Run a pass forward and backward; False where memory runs out."""
    module.zero_grad(set_to_none=True)
    try:
        batch = module.prepare(batch)
        shares = module.loss(batch, module.totals(batch))
        if "loss" in shares:
            shares["loss"].backward()
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        return True
    except Exception as error:
        if not out_of_memory(error):
            raise
    free_memory()
    return False

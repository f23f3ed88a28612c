"""Whether the loss and the gradient of a step are finite, and which clips they came from."""

from collections.abc import Callable

import torch
from torch import Tensor

from w2v_abx.data.batch import Batch
from w2v_abx.distributed.collectives import gather
from w2v_abx.errors import Unlearnable

__all__ = ["Finiteness", "NonFiniteLoss", "to_host"]


class NonFiniteLoss(Unlearnable):
    """The loss of a step, or its gradient, is NaN or infinite.

    ``keys`` are the clips of the micro-batches that it came from, of all ranks; of the whole step where no loss of a
    micro-batch is to blame. ``corpora`` are theirs. ``step`` counts from 0.
    """

    def __init__(self, step: int, clips: list[list[str]]) -> None:
        """``clips``: the key and the corpus of each."""
        keys = [key for key, _ in clips]
        shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        super().__init__(
            f"The loss is not finite at step {step}, in the micro-batches of the clips {shown}; the weights were not "
            "updated with it. Lower the learning rate, clip gradients, or look at these clips."
        )
        self.step = step
        self.keys = keys
        self.corpora = [corpus for _, corpus in clips]


def to_host(value: Tensor) -> Callable[[], Tensor]:
    """Start to copy a tensor to the host. Call the result to wait for it, and not for what was queued since."""
    if value.device.type != "cuda":
        return lambda: value
    copy = value.to("cpu", non_blocking=True)  # into pinned memory
    event = torch.cuda.Event()
    event.record()

    def received() -> Tensor:
        event.synchronize()
        return copy

    return received


class Finiteness:
    """Whether the losses and the gradient of one step are finite. Only ``error`` waits for the device.

    ``found``: whether the step is not finite, on the device; the same on all ranks.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.found: Tensor | None = None
        self._losses: list[Tensor] = []
        self._clips: list[list[list[str]]] = []  # key and corpus of each, by micro-batch

    def add(self, loss: Tensor, micro: Batch) -> None:
        """Add the loss of a micro-batch that has run."""
        self._losses.append(loss)
        self._clips.append([[key, corpus] for key, corpus in zip(micro.keys, micro.corpora, strict=True)])

    def failures(self) -> Tensor:
        """Count the micro-batches of this rank whose loss is not finite."""
        return (~torch.isfinite(torch.stack(self._losses))).sum() if self._losses else torch.zeros(())

    def error(self) -> NonFiniteLoss:
        """Make what to raise, on every rank; a collective."""
        finite = [bool(torch.isfinite(loss)) for loss in self._losses]
        bad = [clip for clips, fine in zip(self._clips, finite, strict=True) if not fine for clip in clips]
        found = [clip for clips in gather(bad) for clip in clips]
        every = [clip for clips in self._clips for clip in clips]
        return NonFiniteLoss(self.step, found or [clip for clips in gather(every) for clip in clips])

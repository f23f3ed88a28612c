"""The processes that share one evaluation: sums over them, and what each of them has gathered."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from w2v_abx.errors import InputError

__all__ = ["DistributedRanks"]

PIECE = 1 << 28  # bytes sent at once: what has to be staged on a GPU is never more


class DistributedRanks:
    """The ranks of a ``torch.distributed`` process group (gloo or NCCL).

    Every method is a collective: all ranks call it, in the same order.

    Attributes:
        rank, size: this process's number in the group, and how many there are.
    """

    def __init__(self, group: Any = None) -> None:
        """``group``: a process group, None for all processes. Raises InputError without ``torch.distributed``."""
        if not (dist.is_available() and dist.is_initialized()):
            raise InputError("There are no ranks to share the work: torch.distributed is not initialised.")
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        # NCCL moves tensors on the GPU alone; a group that has gloo, too, takes those of the CPU.
        on_gpu = "cpu:" not in dist.get_backend_config(group)
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sum over ranks of an int64, float64 or float32 array of one shape everywhere, the same on every rank.

        Where at most one rank has another number than zero, as where each rank scores its own cells, it is exact.
        """
        tensor = torch.from_numpy(np.array(values, order="C")).to(self._device)
        dist.all_reduce(tensor, group=self.group)
        total: npt.NDArray[Any] = tensor.cpu().numpy()
        return total

    def gather(self, data: Tensor) -> list[Tensor]:
        """The uint8 vectors of all ranks, of any lengths, by rank; on the device of this rank's own."""
        lengths = torch.zeros(self.size, dtype=torch.int64, device=self._device)
        lengths[self.rank] = data.numel()
        dist.all_reduce(lengths, group=self.group)
        gathered = []
        for rank, length in enumerate(lengths.tolist()):
            received = data if rank == self.rank else torch.empty(length, dtype=torch.uint8, device=data.device)
            source = rank if self.group is None else dist.get_global_rank(self.group, rank)
            for piece in received.split(PIECE) if length else ():
                staged = piece.to(self._device)
                dist.broadcast(staged, source, group=self.group)
                if staged.data_ptr() != piece.data_ptr() and rank != self.rank:
                    piece.copy_(staged)
            gathered.append(received)
        return gathered

    def gather_json(self, value: Any) -> list[Any]:
        """A JSON value of each rank, by rank. Unlike ``all_gather_object``, it unpickles nothing."""
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(bytes(part.numpy())) for part in self.gather(data)]

    def agree(self, error: Exception | None) -> None:
        """Raise on every rank if any of them comes with an error: its own there, and elsewhere one that quotes it.

        So that none waits for one that is gone.
        """
        messages = self.gather_json(None if error is None else str(error) or type(error).__name__)
        if error is not None:
            raise error
        for rank, message in enumerate(messages):
            if message is not None:
                raise InputError(f"Rank {rank} of {self.size} failed: {message}")

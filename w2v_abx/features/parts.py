"""Batches worked on in parts, one for each core or few: on a CPU, most operations are too small for all cores."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.features.extractor import Extractor

__all__ = ["Parts"]

LEAST = 10.0  # s of padded audio in a part: with less, threads wait for the interpreter


class Parts:
    """Extracts a batch part by part; on a CPU the parts are worked on at the same time, by threads of their own.

    Each part is padded to its own longest clip. The extractor must not change when it is called.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="extract")

    @classmethod
    @contextmanager
    def of_this_process(cls) -> Iterator["Parts"]:
        """As many parts at once as PyTorch has threads here; afterwards it has all of them again."""
        parts = cls(torch.get_num_threads())
        try:
            yield parts
        finally:
            parts._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(parts.threads)  # MKL knows but one number for the whole process

    def extract(
        self, extractor: Extractor, batch: dict[str, Any], layers: Sequence[int]
    ) -> list[tuple[list[str], Sequence[Tensor], Tensor]]:
        """For each part, in order: its keys, the hidden states of ``layers`` (B, F, D), and the frames of each clip.

        Args:
            batch: ``keys`` (list), ``waveforms`` (B, T), ``lengths`` (B,) in samples, as of `SpeechBatches`.
        """
        keys, waveforms, lengths = batch["keys"], batch["waveforms"], batch["lengths"]
        number = 1
        if waveforms.device.type == "cpu":
            number = max(1, min(self.threads, len(keys), int(waveforms.numel() / SAMPLE_RATE / LEAST)))
        if number == 1:
            return [(keys, *extractor(waveforms, lengths, layers))]
        # What a thread has of its own and the caller has set.
        inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        precision, mixed = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def work(rows: slice) -> tuple[list[str], Sequence[Tensor], Tensor]:
            torch.set_num_threads(self.threads // number)
            own = lengths[rows]
            with (
                torch.inference_mode(inference),
                torch.set_grad_enabled(gradients),
                torch.autocast("cpu", precision, mixed),
            ):
                return keys[rows], *extractor(waveforms[rows, : int(own.max())], own, layers)

        edges = [len(keys) * part // number for part in range(number + 1)]
        return list(self._pool.map(work, map(slice, edges[:-1], edges[1:])))

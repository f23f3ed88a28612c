"""Batches worked on in parts, one for each core or few: on a CPU, most operations are too small for all cores."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.models.extractor import Extractor

__all__ = ["ExtractInParts", "Part", "extracting_in_parts"]

MIN_PART_SECONDS = 10.0  # s of padded audio in a part: with less, threads wait for the interpreter

# Of a part of a batch: its keys, the hidden states of the asked layers (B, F, D), and the frames of each clip (B,).
Part = tuple[list[str], Sequence[Tensor], Tensor]
ExtractInParts = Callable[[Extractor, dict[str, Any], Sequence[int]], list[Part]]


@contextmanager
def extracting_in_parts() -> Iterator[ExtractInParts]:
    """Give a function that extracts layers of a batch of `SpeechBatches`, part by part and in order.

    On a CPU as many parts are worked on at once as PyTorch has threads, by threads of their own; afterwards it has all
    of its threads again. Each part is padded to its own longest clip. The extractor must not change when it is called.
    """
    threads = torch.get_num_threads()

    def extract(extractor: Extractor, batch: dict[str, Any], layers: Sequence[int]) -> list[Part]:
        keys, waveforms, lengths = batch["keys"], batch["waveforms"], batch["lengths"]
        number = 1
        if waveforms.device.type == "cpu":
            number = max(1, min(threads, len(keys), int(waveforms.numel() / SAMPLE_RATE / MIN_PART_SECONDS)))
        if number == 1:
            return [(keys, *extractor(waveforms, lengths, layers))]
        # Settings of the caller's thread, which another does not have.
        inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        precision, mixed = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def work(rows: slice) -> Part:
            torch.set_num_threads(threads // number)
            own = lengths[rows]
            with (
                torch.inference_mode(inference),
                torch.set_grad_enabled(gradients),
                torch.autocast("cpu", precision, mixed),
            ):
                return keys[rows], *extractor(waveforms[rows, : int(own.max())], own, layers)

        edges = [len(keys) * part // number for part in range(number + 1)]
        return list(pool.map(work, map(slice, edges[:-1], edges[1:])))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="extract")
    try:
        yield extract
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # MKL knows but one number for the whole process

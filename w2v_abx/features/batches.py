"""Batches of whole files of like length, decoded by threads while the model runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from w2v_abx import audio
from w2v_abx.system.machine import processors
from w2v_abx.system.prefetch import in_order
from w2v_abx.system.progress import tracked

__all__ = ["SpeechBatches"]

MAX_DECODING_THREADS = 8


class SpeechBatches:
    """Batches of whole files of like length, at most ``batch_seconds`` of padded audio each, for one of some ranks.

    A batch is a dict of ``keys`` (list), ``waveforms`` (B, T) float32 padded with zeros, and ``lengths`` (B,). What a
    batch holds does not depend on the number of ranks; each rank gets every so-manyth, so that all have about as much
    to do. A rank that gets none has one empty batch, without which Lightning would skip the loop there. A batch that
    cannot be read is ``{"error": the exception}``: to raise it is the loop's affair, which knows who else waits.

    Threads, not processes, decode: the readers release the lock, and nothing is forked or copied between processes.
    This is no ``DataLoader``, so Lightning gives it no sampler that repeats files to make ranks even.

    Raises:
        AudioError: a file that cannot be read.
    """

    def __init__(self, files: Mapping[str, Path], batch_seconds: float, rank: int = 0, size: int = 1) -> None:
        self.files = files
        seconds = {key: audio.info(path)[0] for key, path in tracked("lengths", files.items(), shown=not rank)}
        batches: list[list[str]] = []
        for key in sorted(seconds, key=lambda key: (-seconds[key], key)):
            longest = seconds[batches[-1][0]] if batches else 0.0
            if batches and longest * (len(batches[-1]) + 1) <= batch_seconds:
                batches[-1].append(key)
            else:
                batches.append([key])
        self.batches = batches[rank::size] or [[]]
        self.threads = min(max(processors() // size // 2, 1), MAX_DECODING_THREADS)  # ranks may share a machine

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return in_order(self.batches, self._load, self.threads, "decode")

    def _load(self, keys: list[str]) -> dict[str, Any]:
        if not keys:
            return {"keys": [], "waveforms": torch.zeros(0, 0), "lengths": torch.zeros(0, dtype=torch.int64)}
        try:
            waveforms = [torch.from_numpy(audio.load(self.files[key])) for key in keys]
        except Exception as error:
            return {"error": error}
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        return {"keys": keys, "waveforms": pad_sequence(waveforms, batch_first=True), "lengths": lengths}

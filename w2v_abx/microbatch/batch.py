"""An effective batch, and pieces of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from w2v_abx.errors import InputError

__all__ = ["Batch", "batch_size", "clip_samples", "longest_clip", "piece_of"]

Batch = dict[str, Any]


def batch_size(batch: Batch) -> int:
    """Clips in a batch: the length of ``keys``, else the first dimension of ``waveforms``, else of the first tensor."""
    for name in ("keys", "waveforms", *batch):
        value = batch.get(name)
        if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0):
            return len(value)
    raise InputError(
        f"A batch with the entries {', '.join(batch) or '(none)'} has no list or tensor to count clips by."
    )


def clip_samples(batch: Batch) -> list[int] | None:
    """Samples of audio in each clip, None for a batch without audio. Waits for no device: lengths stay on the CPU."""
    waveforms, lengths = batch.get("waveforms"), batch.get("lengths")
    if not isinstance(waveforms, Tensor) or waveforms.ndim < 2:
        return None
    return lengths.tolist() if isinstance(lengths, Tensor) else [waveforms.shape[1]] * len(waveforms)


def piece_of(batch: Batch, start: int, stop: int) -> Batch:
    """The clips from ``start`` up to ``stop``, trailing padding trimmed to the longest of them."""
    total = batch_size(batch)
    piece = {name: _rows(value, name, start, stop, total) for name, value in batch.items()}
    if samples := clip_samples(piece):
        piece["waveforms"] = piece["waveforms"][:, : max(samples)]
    return piece


def longest_clip(batch: Batch, clips: int, samples: int | None) -> Batch:
    """The longest clip of a batch ``clips`` times; its audio is repeated to ``samples`` where that is longer."""
    lengths = clip_samples(batch)
    row = 0 if lengths is None else lengths.index(max(lengths))
    only = piece_of(batch, row, row + 1)
    if lengths is not None and samples is not None and samples > lengths[row]:
        only["waveforms"] = only["waveforms"].repeat(1, -(-samples // lengths[row]))[:, :samples]
        if "lengths" in only:
            only["lengths"] = torch.full_like(only["lengths"], samples)
    return {name: _repeated(value, clips) for name, value in only.items()}


def _repeated(value: Any, clips: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _repeated(entry, clips) for key, entry in value.items()}
    if isinstance(value, Tensor) and value.ndim > 0:
        return value.repeat(clips, *[1] * (value.ndim - 1))
    return value * clips if isinstance(value, list) else value


def _rows(value: Any, name: str, start: int, stop: int, total: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _rows(entry, f"{name}.{key}", start, stop, total) for key, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0):
        if len(value) != total:
            raise InputError(f"The batch entry {name!r} has {len(value)} rows where the batch has {total} clips.")
        return value[start:stop]
    return value

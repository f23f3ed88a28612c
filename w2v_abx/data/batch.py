"""An effective batch, and pieces of it."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from w2v_abx.errors import InputError

__all__ = ["Batch", "batch_size", "clip_samples", "longest_clips", "piece_of"]

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


def longest_clips(batch: Batch, clips: int, samples: int | None) -> Batch:
    """So many clips, of each corpus in turn its longest in the batch, their audio repeated to ``samples``."""
    lengths, total = clip_samples(batch), batch_size(batch)
    corpora = batch.get("corpora", [None] * total)
    longest: dict[Any, int] = {}  # the row of each corpus
    for row, corpus in enumerate(corpora):
        if lengths is None or corpus not in longest or lengths[row] > lengths[longest[corpus]]:
            longest[corpus] = row
    rows = [row for row, _ in zip(itertools.cycle(longest.values()), range(clips), strict=False)]
    taken = {name: _chosen(value, rows) for name, value in batch.items()}
    if lengths is not None:
        most = samples or max(lengths[row] for row in rows)
        repeated = [
            wave[: lengths[row]].repeat(-(-most // lengths[row]))
            for row, wave in zip(rows, taken["waveforms"], strict=True)
        ]
        taken["waveforms"] = torch.stack([wave[:most] for wave in repeated])
        if "lengths" in taken:
            taken["lengths"] = torch.full_like(taken["lengths"], most)
    return taken


def _chosen(value: Any, rows: list[int]) -> Any:
    if isinstance(value, Mapping):
        return {key: _chosen(entry, rows) for key, entry in value.items()}
    if isinstance(value, Tensor) and value.ndim > 0:
        return value[torch.tensor(rows, device=value.device)]
    return [value[row] for row in rows] if isinstance(value, list) else value


def _rows(value: Any, name: str, start: int, stop: int, total: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _rows(entry, f"{name}.{key}", start, stop, total) for key, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0):
        if len(value) != total:
            raise InputError(f"The batch entry {name!r} has {len(value)} rows where the batch has {total} clips.")
        return value[start:stop]
    return value

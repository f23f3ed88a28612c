"""Store what a frozen encoder makes of a split's clips, once, so that no training step has to run it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import lightning
import torch
from torch import Tensor

from w2v_abx.data.dataset import Cut, ShardDataset
from w2v_abx.features.batches import MAX_DECODING_THREADS
from w2v_abx.features.cache import FeatureCache
from w2v_abx.features.digests import device_name, digest_extractor, running_code
from w2v_abx.features.extraction import extract_batch
from w2v_abx.features.parts import extracting_in_parts
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import signals
from w2v_abx.system.machine import processors
from w2v_abx.system.prefetch import in_order
from w2v_abx.system.progress import tracked

__all__ = ["store_frozen", "too_large"]

BATCH_SECONDS = 60.0  # s of padded audio that the encoder is given at once


def too_large(cache: FeatureCache, encoder: Encoder, layers: Sequence[int], datasets: Sequence[ShardDataset]) -> str:
    """Say why the features of these clips cannot be stored; empty: they can."""
    return cache.too_large(sum(_bytes(cache, encoder, layers, dataset) for dataset in datasets))


def store_frozen(
    cache: FeatureCache, encoder: Encoder, layers: Sequence[int], dataset: ShardDataset, trainer: lightning.Trainer
) -> FeatureStore:
    """Store the features of all clips of ``dataset``, unless they are, and open the store.

    They are the same where encoder, clips, layers, precision, device, code and libraries are.

    In the trainer's precision, in batches that do not depend on what an earlier process had done before it was
    killed: the features are the same, to the bit, whether it was or not.

    Raises:
        NotWritten: the disk is full, or fails.
    """
    device = device_name(next(encoder.parameters()).device)
    clips = json.dumps([dataset.content, device, running_code()])
    identity = StoreIdentity(
        extractor=digest_extractor(encoder),
        precision=str(trainer.precision),
        frequency=encoder.frequency,
        dim=encoder.dim,
        dtype=cache.dtype,
        layers=tuple(layers),
        clips=hashlib.sha256(clips.encode()).hexdigest(),
    )
    needed = _bytes(cache, encoder, layers, dataset)
    return cache.store(identity, needed, lambda writer: _extract(encoder, dataset, writer, trainer))


def _bytes(cache: FeatureCache, encoder: Encoder, layers: Sequence[int], dataset: ShardDataset) -> int:
    lengths = [torch.from_numpy(corpus.lengths.astype("int64")) for corpus in dataset.corpora]
    frames = sum(int(encoder.frame_lengths(each).sum()) for each in lengths)
    return cache.bytes_of(frames, encoder.dim, len(layers))


def _extract(encoder: Encoder, dataset: ShardDataset, writer: StoreWriter, trainer: lightning.Trainer) -> None:
    """Write the clips that are missing; a batch of which one is missing is run as a whole."""
    device = next(encoder.parameters()).device
    layers = writer.identity.layers

    def add(names: Sequence[str], hidden: Sequence[Tensor], lengths: Tensor) -> None:
        new = [row for row, name in enumerate(names) if name not in writer.frames]
        writer.add([names[row] for row in new], [states[new] for states in hidden], lengths[new])

    def read() -> Iterator[list[Cut]]:
        for batch in tracked("features of the frozen encoder", dataset.alike(BATCH_SECONDS)):
            clips = dataset.cut(*batch)
            if any(clip.name not in writer.frames for clip in clips):
                yield clips

    def decode(clips: list[Cut]) -> dict[str, Any]:
        waveforms, lengths = dataset.waveforms(clips)
        return {"keys": [clip.name for clip in clips], "waveforms": waveforms, "lengths": lengths}

    threads = min(max(processors() // 2, 1), MAX_DECODING_THREADS)
    with (
        closing(in_order(read(), decode, threads, "decode")) as batches,
        extracting_in_parts() as in_parts,
        torch.no_grad(),
        trainer.precision_plugin.forward_context(),
    ):
        for batch in batches:
            signals.check()
            extract_batch(encoder, {**batch, "waveforms": batch["waveforms"].to(device)}, layers, in_parts, add)

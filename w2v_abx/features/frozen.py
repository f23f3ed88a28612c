"""Store what a frozen encoder makes of a split's clips, once, so that no training step has to run it."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from w2v_abx.data.dataset import Cut, ShardDataset
from w2v_abx.features.batches import MAX_DECODING_THREADS
from w2v_abx.features.digests import device_name, digest_extractor, running_code
from w2v_abx.features.extraction import extract_batch
from w2v_abx.features.parts import extracting_in_parts
from w2v_abx.features.store import DTYPES, STORE, FeatureStore, StoreIdentity, is_store
from w2v_abx.features.writing import StoreWriter
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import signals
from w2v_abx.system.atomic import written
from w2v_abx.system.checks import choice, number
from w2v_abx.system.locks import alone
from w2v_abx.system.machine import processors
from w2v_abx.system.prefetch import in_order
from w2v_abx.system.progress import tracked

__all__ = ["FrozenFeatures"]

BATCH_SECONDS = 60.0  # s of padded audio that the encoder is given at once
GIGABYTE = 10**9  # bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenFeatures:
    """Where the features of frozen encoders are stored, by content.

    Args:
        folder: of all such stores; a run makes room by removing those that were not used for longest.
        gigabytes: that they may take together; 0: nothing is stored.
        dtype: ``float32`` or ``float16``.

    Raises:
        InputError: values out of range.
    """

    folder: Path
    gigabytes: float = 20.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        number("features.gigabytes", self.gigabytes, low=0)
        choice("features.dtype", self.dtype, DTYPES)

    def too_large(self, encoder: Encoder, layers: Sequence[int], datasets: Sequence[ShardDataset]) -> str:
        """Say why the features of these clips cannot be stored; empty: they can."""
        needed = sum(self._bytes(encoder, layers, dataset) for dataset in datasets)
        if needed > self.gigabytes * GIGABYTE:
            return f"their features take {needed / GIGABYTE:.1f} GB, and features.gigabytes={self.gigabytes:g}"
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        return f"their features take {needed / GIGABYTE:.1f} GB, and {self.folder} has no room" if needed > free else ""

    def store(
        self, encoder: Encoder, layers: Sequence[int], dataset: ShardDataset, trainer: lightning.Trainer
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
            dtype=self.dtype,
            layers=tuple(layers),
            clips=hashlib.sha256(clips.encode()).hexdigest(),
        )
        name = hashlib.sha256(json.dumps(identity.plain()).encode()).hexdigest()[:16]
        folder = self.folder / name
        with alone(self.folder / f".{name}.extraction"):  # which another run may do
            if is_store(folder):
                os.utime(folder / STORE)
                return FeatureStore(folder)
            self._make_room(self._bytes(encoder, layers, dataset))
            with StoreWriter(folder, identity) as writer:
                _extract(encoder, dataset, writer, trainer)
                return writer.finish()

    def _bytes(self, encoder: Encoder, layers: Sequence[int], dataset: ShardDataset) -> int:
        lengths = [torch.from_numpy(corpus.lengths.astype("int64")) for corpus in dataset.corpora]
        frames = sum(int(encoder.frame_lengths(each).sum()) for each in lengths)
        return frames * encoder.dim * len(layers) * int(self.dtype.removeprefix("float")) // 8

    def _make_room(self, needed: int) -> None:
        """Remove the stores that were not used for longest until there is room for one of so many bytes."""
        stores = sorted(filter(is_store, self.folder.iterdir()), key=lambda store: (store / STORE).stat().st_mtime)
        sizes = [sum(path.stat().st_size for path in store.iterdir()) for store in stores]
        total = sum(sizes) + needed
        for store, size in zip(stores, sizes, strict=True):
            if total <= self.gigabytes * GIGABYTE:
                break
            log.info("The features in %s are removed: features.gigabytes=%g.", store, self.gigabytes)
            shutil.rmtree(store)
            total -= size


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

"""Extract the layers of an encoder from audio files, in one pass: into memory, or into a store on disk."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import nn

from w2v_abx import audio
from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.features.batches import SpeechBatches
from w2v_abx.features.cache import FeatureCache
from w2v_abx.features.digests import device_name, digest_extractor, digest_files, running_code
from w2v_abx.features.memory import Add, LayerFeatures, NeededFrames, collecting
from w2v_abx.features.parts import ExtractInParts, extracting_in_parts
from w2v_abx.features.store import FeatureStore, StoreIdentity, is_store
from w2v_abx.features.writing import StoreWriter
from w2v_abx.models.extractor import Extractor

__all__ = ["bytes_needed", "extract", "extract_batch", "extract_cached", "extract_in_memory", "preserve_training_mode"]

log = logging.getLogger(__name__)


class Extraction(lightning.LightningModule):
    """One pass over some files, see `extract_batch`.

    No step waits for another rank, so ranks may have different numbers of batches. Where there are several, one that
    fails stores its ``error``, takes no more batches and comes to the end like the others, which would otherwise wait
    for it.
    """

    def __init__(
        self,
        extractor: Extractor,
        files: Mapping[str, Path],
        layers: Sequence[int],
        batch_seconds: float,
        add: Add,
        in_parts: ExtractInParts,
    ) -> None:
        super().__init__()
        self.extractor = extractor  # registered as a submodule where it is one, and so moved to the device
        self.files, self.layers, self.batch_seconds = files, list(layers), batch_seconds
        self.add, self.in_parts = add, in_parts
        self.error: Exception | None = None

    def test_dataloader(self) -> SpeechBatches:
        rank, size = self.trainer.global_rank, self.trainer.world_size
        try:
            return SpeechBatches(self.files, self.batch_seconds, rank, size)
        except Exception as error:
            self._fail(error)
            return SpeechBatches({}, self.batch_seconds)

    def test_step(self, batch: dict[str, Any], batch_index: int) -> None:
        if self.error is None:
            try:
                extract_batch(self.extractor, batch, self.layers, self.in_parts, self.add)
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.trainer.world_size == 1:
            raise error
        self.error = error


def extract_batch(
    extractor: Extractor, batch: dict[str, Any], layers: Sequence[int], in_parts: ExtractInParts, add: Add
) -> None:
    """Extract ``layers`` of a batch of `SpeechBatches`, and give those of each part to ``add``.

    Raises the error of a batch that could not be read.
    """
    if "error" in batch:
        raise batch["error"]
    if batch["keys"]:
        for keys, hidden, lengths in in_parts(extractor, batch, layers):
            # Else those who get the features could not change them in place.
            with torch.inference_mode(False):
                add(keys, hidden, lengths)


def extract(
    extractor: Extractor,
    clips: Mapping[str, Path],
    layers: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    batch_seconds: float = 60.0,
    dtype: str = "float32",
    trainer: lightning.Trainer | None = None,
) -> FeatureStore:
    """Write the features of ``clips`` at ``layers`` to the store in ``folder``, with one batch at a time in memory.

    A store of the same extractor, clips, layers, type and precision that is there is returned as it is; one that a
    killed process has left unfinished is completed; another is replaced.

    Args:
        clips: the audio file of each.
        batch_seconds: padded audio per batch.
        dtype: ``float32`` or ``float16``.
        trainer: runs the loop, on its device and in its precision, in one process; None: a silent one on an accelerator
            where there is one.

    Raises:
        InputError: a file that cannot be read; several processes; a damaged store, or something else, in ``folder``;
            an extractor that is not a module; values too large for float16.
        NotWritten: the disk is full, or fails. What is written is gone on with.
    """
    trainer = trainer or lightning.Trainer(
        devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    _check_alone(trainer, "features.keep=true needs")
    folder = Path(folder)
    identity = _identity(extractor, clips, layers, dtype, trainer)
    if is_store(folder):
        store = FeatureStore(folder)
        if store.identity == identity:
            log.info("The features in %s are reused: encoder, clips and layers are the same.", folder)
            return store
        log.info("The features in %s are of another encoder, other clips or layers: they are replaced.", folder)
    with StoreWriter(folder, identity) as writer:
        if writer.frames:
            log.info("The features in %s go on: %d of %d clips are there.", folder, len(writer.frames), len(clips))
        _write_missing(extractor, clips, batch_seconds, trainer, writer)
        return writer.finish()


def extract_cached(
    extractor: Extractor,
    clips: Mapping[str, Path],
    layers: Sequence[int],
    cache: FeatureCache,
    kept: Iterable[Path] = (),
    *,
    batch_seconds: float = 60.0,
    trainer: lightning.Trainer,
) -> FeatureStore:
    """Open the features of ``clips`` at ``layers``: those that a run has kept, or the cache's, written if need be.

    Args:
        kept: folders in which a run may have kept them.
        batch_seconds, trainer: see `extract`.

    Raises:
        InputError: see `extract`; they take more room than the cache has.
        NotWritten: the disk is full, or fails.
    """
    _check_alone(trainer, "analyses need")
    identity = _identity(extractor, clips, layers, cache.dtype, trainer)
    for folder in filter(is_store, kept):
        store = FeatureStore(folder)
        if set(layers) <= set(store.layers) and replace(store.identity, layers=identity.layers) == identity:
            log.info("The features in %s are reused: encoder and clips are the same.", folder)
            return store
    needed = bytes_needed(extractor, clips, layers, cache)
    if reason := cache.over_limit(needed):
        raise InputError(f"{reason}: raise it, analyse fewer layers, or take features.dtype=float16")
    # Of another device, or other code, they may differ in the last digits.
    sources = json.dumps([identity.clips, device_name(trainer.strategy.root_device), running_code()])
    identity = replace(identity, clips=hashlib.sha256(sources.encode()).hexdigest())
    return cache.store(identity, needed, partial(_write_missing, extractor, clips, batch_seconds, trainer))


def bytes_needed(extractor: Extractor, clips: Mapping[str, Path], layers: Sequence[int], cache: FeatureCache) -> int:
    """Count the bytes of features that `extract_cached` stores where they are not there yet."""
    seconds = sum(audio.info(path)[0] for path in clips.values())
    return cache.bytes_of(round(seconds * extractor.frequency), extractor.dim, len(set(layers)))


def _identity(
    extractor: Extractor, clips: Mapping[str, Path], layers: Sequence[int], dtype: str, trainer: lightning.Trainer
) -> StoreIdentity:
    return StoreIdentity(
        extractor=digest_extractor(extractor),
        precision=str(trainer.precision),
        frequency=float(extractor.frequency),
        dim=extractor.dim,
        dtype=dtype,
        layers=tuple(sorted(set(layers))),
        clips=digest_files(clips),
    )


def _write_missing(
    extractor: Extractor,
    clips: Mapping[str, Path],
    batch_seconds: float,
    trainer: lightning.Trainer,
    writer: StoreWriter,
) -> None:
    """Extract the clips that a store does not have yet."""
    missing = {key: path for key, path in clips.items() if key not in writer.frames}
    if missing:
        _run(extractor, missing, writer.identity.layers, batch_seconds, trainer, writer.add)


def extract_in_memory(
    extractor: Extractor,
    files: Mapping[str, Path],
    layers: Sequence[int],
    batch_seconds: float,
    trainer: lightning.Trainer,
    needed: NeededFrames | None = None,
) -> tuple[dict[int, LayerFeatures], DistributedRanks | None]:
    """Extract the ``needed`` frames (None: all) of ``files`` at all ``layers`` in one pass over the audio.

    They have the type that the model gave them and stay on its device while there is room for them.

    Args:
        batch_seconds: padded audio per batch.
        trainer: runs the loop, on its device and in its precision.

    Returns:
        The features by layer, and the ranks where there are several: then they are those of this rank's share of the
        files, to be `gathered`.

    Raises:
        InputError: a file that cannot be read; a strategy that starts processes by spawning or forking.
    """
    features, add = collecting(layers, needed)
    return features, _run(extractor, files, layers, batch_seconds, trainer, add)


@contextmanager
def preserve_training_mode(module: nn.Module) -> Iterator[None]:
    """Put every submodule back into the mode, of training or not, that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _run(
    extractor: Extractor,
    files: Mapping[str, Path],
    layers: Sequence[int],
    batch_seconds: float,
    trainer: lightning.Trainer,
    add: Add,
) -> DistributedRanks | None:
    """Run the loop; return the ranks where there are several, once all of them have come to its end."""
    _check_launcher(trainer)
    with extracting_in_parts() as in_parts:
        loop = Extraction(extractor, files, layers, batch_seconds, add, in_parts)
        with preserve_training_mode(loop):
            trainer.test(loop, verbose=False)
    if trainer.world_size == 1:
        return None
    ranks = DistributedRanks()
    ranks.agree(loop.error)
    return ranks


def _check_alone(trainer: lightning.Trainer, needs: str) -> None:
    """Raise InputError where a trainer has several processes: one alone writes a store."""
    _check_launcher(trainer)
    if trainer.world_size > 1:
        raise InputError(f"{needs} one process; set trainer.devices=1")


def _check_launcher(trainer: lightning.Trainer) -> None:
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError(
            "ABX cannot get features back from processes that a strategy spawns or forks; "
            "set trainer.strategy=ddp or trainer.devices=1"
        )

"""Extract the layers of an encoder from audio files, in one pass: into memory, or into a store on disk."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn

from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.features.batches import SpeechBatches
from w2v_abx.features.extractor import Extractor, digest
from w2v_abx.features.kept import Kept, NeededFrames, Room, exchange, keep_layers
from w2v_abx.features.parts import Parts
from w2v_abx.features.store import FeatureStore, StoreIdentity, is_store
from w2v_abx.features.writing import StoreWriter

__all__ = ["extract", "extract_in_memory", "extract_needed", "gather", "modes_kept"]

log = logging.getLogger(__name__)

Add = Callable[[Sequence[str], Sequence[Tensor], Tensor], None]  # clips, of each layer (B, F, D), frames (B,)


class Extraction(lightning.LightningModule):
    """One pass over some files; hands the features of the asked layers of each part of a batch to ``add``.

    No step waits for another rank, so ranks may have different numbers of batches. Where there are several, one that
    fails keeps its ``error``, takes no more batches and comes to the end like the others, which would otherwise wait
    for it.
    """

    def __init__(
        self,
        extractor: Extractor,
        files: Mapping[str, Path],
        layers: Sequence[int],
        batch_seconds: float,
        add: Add,
        parts: Parts,
    ) -> None:
        super().__init__()
        self.extractor = extractor  # registered as a submodule where it is one, and so moved to the device
        self.files, self.layers, self.batch_seconds = files, list(layers), batch_seconds
        self.add, self.parts = add, parts
        self.error: Exception | None = None

    def test_dataloader(self) -> SpeechBatches:
        rank, size = self.trainer.global_rank, self.trainer.world_size
        try:
            return SpeechBatches(self.files, self.batch_seconds, rank, size)
        except Exception as error:
            self._fail(error)
            return SpeechBatches({}, self.batch_seconds)

    def test_step(self, batch: dict[str, Any], batch_index: int) -> None:
        if self.error is not None:
            return
        try:
            if "error" in batch:
                raise batch["error"]
            if batch["keys"]:
                for keys, hidden, lengths in self.parts.extract(self.extractor, batch, self.layers):
                    # Else the features could not be changed in place by those who get them.
                    with torch.inference_mode(False):
                        self.add(keys, hidden, lengths)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.trainer.world_size == 1:
            raise error
        self.error = error


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
    _check_launcher(trainer)
    if trainer.world_size > 1:
        raise InputError("features.keep=true needs one process; set trainer.devices=1")
    folder = Path(folder)
    identity = StoreIdentity(
        extractor=digest(extractor),
        precision=str(trainer.precision),
        frequency=float(extractor.frequency),
        dim=extractor.dim,
        dtype=dtype,
        layers=tuple(sorted(set(layers))),
        clips=_digest_of_files(clips),
    )
    if is_store(folder):
        store = FeatureStore(folder)
        if store.identity == identity:
            log.info("The features in %s are reused: encoder, clips and layers are the same.", folder)
            return store
        log.info("The features in %s are of another encoder, other clips or layers: they are replaced.", folder)
    with StoreWriter(folder, identity) as writer:
        missing = {key: path for key, path in clips.items() if key not in writer.frames}
        if writer.frames:
            log.info("The features in %s go on: %d of %d clips are there.", folder, len(writer.frames), len(clips))
        if missing:
            _run(extractor, missing, identity.layers, batch_seconds, trainer, writer.add)
        return writer.finish()


def extract_in_memory(
    extractor: Extractor,
    files: Mapping[str, Path],
    layers: Sequence[int],
    batch_seconds: float,
    trainer: lightning.Trainer,
) -> dict[int, dict[str, Tensor]]:
    """The features of ``files`` in one pass over the audio: for each layer, a (T, D) tensor for each file.

    They have the type that the model gave them and stay on its device while there is room for them. Distributed, each
    file is read by one rank, and every rank returns all.

    Args:
        batch_seconds: padded audio per batch.
        trainer: runs the loop, on its device and in its precision.

    Raises:
        InputError: a file that cannot be read; a strategy that starts processes by spawning or forking.
    """
    kept: dict[int, dict[str, Kept]] = {layer: {} for layer in layers}
    room = Room()

    def add(keys: Sequence[str], hidden: Sequence[Tensor], lengths: Tensor) -> None:
        counts = lengths.tolist()
        for own, features in zip(kept.values(), hidden, strict=True):
            for key, row, count in zip(keys, features, counts, strict=True):
                own[key] = Kept(count, room.place(row[:count].detach().clone()))

    ranks = _run(extractor, files, layers, batch_seconds, trainer, add)
    return {layer: {key: frames for key, (_, frames) in gather(kept.pop(layer), ranks).items()} for layer in list(kept)}


def extract_needed(
    extractor: Extractor,
    files: Mapping[str, Path],
    layers: Sequence[int],
    batch_seconds: float,
    trainer: lightning.Trainer,
    needed: NeededFrames,
) -> tuple[dict[int, dict[str, Kept]], DistributedRanks | None]:
    """The needed frames of the files that this rank was given, and the ranks where there are several.

    Arguments and errors are those of `extract_in_memory`.
    """
    kept: dict[int, dict[str, Kept]] = {layer: {} for layer in layers}
    room = Room()

    def add(keys: Sequence[str], hidden: Sequence[Tensor], lengths: Tensor) -> None:
        keep_layers(kept, needed, room, keys, hidden, lengths)

    ranks = _run(extractor, files, layers, batch_seconds, trainer, add)
    return kept, ranks


def gather(kept: dict[str, Kept], ranks: DistributedRanks | None) -> dict[str, Kept]:
    """What all ranks have kept of one layer."""
    return kept if ranks is None else exchange(kept, ranks.gather)


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
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
    """Run the loop; returns the ranks where there are several, once all of them have come to its end."""
    _check_launcher(trainer)
    with Parts.of_this_process() as parts:
        loop = Extraction(extractor, files, layers, batch_seconds, add, parts)
        with modes_kept(loop):
            trainer.test(loop, verbose=False)
    if trainer.world_size == 1:
        return None
    ranks = DistributedRanks()
    ranks.agree(loop.error)
    return ranks


def _check_launcher(trainer: lightning.Trainer) -> None:
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError(
            "ABX cannot bring features back from processes that a strategy spawns or forks; "
            "set trainer.strategy=ddp or trainer.devices=1"
        )


def _digest_of_files(files: Mapping[str, Path]) -> str:
    hashed = hashlib.sha256()
    for key in sorted(files):
        try:
            with Path(files[key]).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise InputError(f"{files[key]} cannot be read ({error.strerror or error})") from error
        hashed.update(hashlib.sha256(key.encode()).digest() + content)
    return hashed.hexdigest()

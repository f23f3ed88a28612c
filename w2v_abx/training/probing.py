"""Probe a frozen encoder: its features are computed once, and read in each step (SUPERB; Yang et al., 2021)."""

import logging
from functools import partial
from typing import Any

from torch.nn import functional

from w2v_abx.data.batch import Batch
from w2v_abx.data.dataset import STATES
from w2v_abx.distributed import current_process
from w2v_abx.features.cache import FeatureCache
from w2v_abx.features.frozen import store_frozen, too_large
from w2v_abx.heads.head import Head, States
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc

__all__ = ["store_features", "stored_states"]

log = logging.getLogger(__name__)


def store_features(objective: Any, cache: FeatureCache) -> None:
    """Have the batches of training and validation hold features instead of audio, where no step would change these.

    ``objective`` is an `Objective` whose training begins. The first rank extracts what is not stored yet, and all read
    it. Where the encoder is frozen but its features cannot be stored, one line says why.
    """
    encoder, heads = objective.encoder, list(objective.heads.values())
    if not cache.gigabytes or any(weight.requires_grad for weight in encoder.parameters()):
        return
    if isinstance(encoder, Mfcc):  # sooner computed than read
        return
    data = objective.trainer.datamodule
    datasets = {"train": data.train_dataloader().dataset}
    if objective.validates:
        datasets["valid"] = data.val_dataloader().dataset
    layers = sorted({layer for head in heads for layer in head.layers})
    own = next((head.name for head in heads if not _is_plain(head)), None)
    if type(encoder) is not Encoder:
        reason = f"nobody knows here what {type(encoder).__name__}, a class of your own, depends on"
    elif own is not None:
        reason = f"objective.heads.{own} makes its own input"
    elif objective.masking is not None:
        reason = "objective.masking hides other frames in each step"
    else:
        reason = datasets["train"].varies or too_large(cache, encoder, layers, list(datasets.values()))
    if reason:
        log.info("The frozen encoder runs in every step: %s.", reason)
        return
    for split, dataset in datasets.items():
        work = partial(store_frozen, cache, encoder, layers, dataset, objective.trainer)
        store = current_process().in_turn(work)
        data.stored[split] = {layer: store.layer(layer) for layer in layers}
        log.info("The encoder is frozen: its features are read from %s, in place of %s clips.", store.folder, split)


def stored_states(encoder: Encoder, batch: Batch, layers: list[int]) -> States:
    """Take the states of some clips out of the batch, as `Head.encode` would make them."""
    frames = encoder.frame_lengths(batch.lengths)
    longest, dtype = int(frames.max()), next(encoder.parameters()).dtype
    states = {layer: batch.extra[STATES][layer].to(dtype) for layer in layers}
    if (padding := longest - states[layers[0]].shape[1]) != 0:
        # A micro-batch may hold the shorter clips, and a trial of the most that memory holds longer ones.
        states = {layer: functional.pad(hidden, (0, 0, 0, padding)) for layer, hidden in states.items()}
    return States(states, frames.to(batch.waveforms.device, non_blocking=True))


def _is_plain(head: Head) -> bool:
    """Whether a head sees clips as they are, in the pass that heads share."""
    return head.shares_pass and type(head).encode is Head.encode

"""The keys of the config group ``data``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from w2v_abx.config import unwrap
from w2v_abx.data.noise import NoiseSetting
from w2v_abx.errors import InputError
from w2v_abx.system.checks import boolean, fail, number, whole

__all__ = ["DataSettings", "MixSetting"]

SHORTEST = 0.025  # seconds: what one frame of the encoder sees
LEAST_PADDING = 0.001  # share of a batch: less makes more kinds of lengths than there are clips
MOST_MIXED = 0.999  # share of all clips: an epoch is one pass over the rest


@dataclass(frozen=True)
class MixSetting:
    """One entry of ``data.mix``: a corpus that is mixed into the main one.

    ``folder`` as ``data.folder``; ``weight``: its share of all clips; ``crop_seconds``: as ``data.crop_seconds``, which
    it defaults to; ``targets``: its labels are of the same kind as the main corpus's, so that a category that a clip
    does not carry is one that it lacks; ``split``: which of its clips are trained on.
    """

    folder: str
    weight: float
    crop_seconds: float | None
    targets: bool = False
    split: str = "train"


@dataclass(frozen=True)
class DataSettings:
    """How the clips of prepared folders become batches.

    Args:
        batch_size: clips in one step of all ranks together: the effective batch.
        batch_seconds: in training, instead: seconds in one step of all ranks together, padding counted, of clips of
            like length; see `w2v_abx.data.order.SecondsOrder`.
        max_padding: with ``batch_seconds``: the largest share of a batch that may be padding.
        like_length: sort the clips of so many batches of a rank by length, so that those of a batch are alike.
        group: a label; clips that share its value, as many for each value, come in one batch (not in one micro-batch).
            ``max_padding`` holds for the longest of each. Prepare them side by side with ``prepare.group``.
        crop_seconds: length of a random span of longer clips in training; ``None``: whole clips.
        eval_crop_seconds: length of the middle span of longer clips in validation and test; ``None``: whole clips.
        num_workers: threads that decode ahead; 0: the training thread does.
        shuffle: by less than so many places a clip moves in the order of reading; as many encoded clips are held, and
            with ``batch_seconds`` up to a batch of each length more.
        drop_last: leave out an epoch's last clips when they fill no batch.
        max_clips: use only so many clips of each split (the first in the shards, whose order is by hash), but all
            training clips of corpora that are mixed in.
        mix: corpora to mix into the training batches, by name: see `MixSetting`.
        balance: a label; clips of its rare categories come more often: see `w2v_abx.data.order.balance`.
        balance_strength: from 0 (every clip as often) to 1 (every category as often).
        cache: a folder of this machine that keeps shards that came from an address.
        cache_gigabytes: how much it may hold.
        noise: mixed into clips; None: none.
        seed: of order, crops and noise.

    Raises:
        InputError: settings that are wrong whatever the clips are.
    """

    batch_size: int = 16
    batch_seconds: float | None = None
    max_padding: float = 0.1
    like_length: int | None = None
    group: str | None = None
    crop_seconds: float | None = None
    eval_crop_seconds: float | None = None
    num_workers: int = 0
    shuffle: int = 256
    drop_last: bool = False
    max_clips: int | None = None
    mix: Mapping[str, MixSetting] = field(default_factory=dict)
    balance: str | None = None
    balance_strength: float = 1.0
    cache: str | None = None
    cache_gigabytes: float = 100.0
    noise: NoiseSetting | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        whole("data.batch_size", self.batch_size, 1)
        number("data.batch_seconds", self.batch_seconds, low=SHORTEST, unit="seconds", optional="for data.batch_size")
        number("data.max_padding", self.max_padding, low=LEAST_PADDING, below=1)
        whole("data.like_length", self.like_length, 2, optional="for batches of any lengths")
        number("data.crop_seconds", self.crop_seconds, low=SHORTEST, unit="seconds", optional="for whole clips")
        number(
            "data.eval_crop_seconds", self.eval_crop_seconds, low=SHORTEST, unit="seconds", optional="for whole clips"
        )
        whole("data.num_workers", self.num_workers, 0)
        whole("data.shuffle", self.shuffle, 1)
        boolean("data.drop_last", self.drop_last)
        whole("data.max_clips", self.max_clips, 1, optional="for all")
        number("data.balance_strength", self.balance_strength, low=0, high=1)
        number("data.cache_gigabytes", self.cache_gigabytes, low=0)
        whole("data.seed", self.seed, 0)
        object.__setattr__(self, "mix", _mix(self.mix, self.crop_seconds))
        if self.batch_seconds is not None:
            for name in ("balance", "like_length", "drop_last"):
                if getattr(self, name):
                    raise InputError(f"data.batch_seconds does not go with data.{name}: set one of them only")

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "DataSettings":
        """Read the settings out of the config group, which holds the class and the folder, too."""
        return cls(**{field.name: group[field.name] for field in fields(cls) if field.name in group})


def _mix(mix: Mapping[str, Any] | None, crop_seconds: float | None) -> dict[str, MixSetting]:
    """Read the entries of ``data.mix``, by name."""
    settings: dict[str, MixSetting] = {}
    known = [field.name for field in fields(MixSetting)]
    for name, entry in (unwrap(mix) or {}).items():
        key = f"data.mix.{name}"
        if entry is None:
            continue  # a way to take an entry out again
        if not isinstance(entry, Mapping):
            raise InputError(f"{key}={entry} must be a group with the keys folder and weight")
        for part in entry:
            if part not in known:
                raise InputError(f"unknown key {key}.{part}; {key} has {', '.join(known)}")
        for part in ("folder", "weight"):
            if entry.get(part) is None:
                raise InputError(f"{key}.{part} is missing; give {key}.{part}=…")
        number(f"{key}.weight", entry["weight"], above=0, below=1)
        crop = entry.get("crop_seconds", crop_seconds)
        number(f"{key}.crop_seconds", crop, low=SHORTEST, unit="seconds", optional="for whole clips")
        boolean(f"{key}.targets", entry.get("targets", False))
        if not isinstance(split := entry.get("split", "train"), str):
            raise fail(f"{key}.split", split, "the name of a split, such as train")
        settings[name] = MixSetting(**{**entry, "folder": str(entry["folder"]), "crop_seconds": crop})
    if (total := math.fsum(setting.weight for setting in settings.values())) > MOST_MIXED:
        raise InputError(
            f"the weights of data.mix make {total:g} together: leave {1 - MOST_MIXED:g} or more for the main corpus"
        )
    return settings

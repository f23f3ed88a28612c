"""Corpora that are mixed into the main one, as the configuration names them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from w2v_abx.config import unwrap
from w2v_abx.errors import InputError

__all__ = ["MixSetting", "mix_settings"]


@dataclass(frozen=True)
class MixSetting:
    """One entry of ``data.mix``.

    ``folder`` as ``data.folder``; ``weight``: its share of all clips; ``crop_seconds``: as ``data.crop_seconds``, which
    it defaults to; ``targets``: its labels are of the same kind as the main corpus's, so that a category that a clip
    does not carry is one that it lacks; ``split``: which of its clips.
    """

    folder: str
    weight: float
    crop_seconds: float | None
    targets: bool = False
    split: str = "train"


def mix_settings(mix: Mapping[str, Any] | None, crop_seconds: float | None) -> dict[str, MixSetting]:
    """The entries of ``data.mix`` by name; raises `InputError` for what cannot be one."""
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
        weight, crop = entry["weight"], entry.get("crop_seconds", crop_seconds)
        if not _is_number(weight) or not 0 < weight < 1:
            raise InputError(f"{key}.weight={weight} must lie between 0 and 1")
        if crop is not None and (not _is_number(crop) or not crop >= 0.025):
            raise InputError(f"{key}.crop_seconds={crop} must be 0.025 or more")
        if not isinstance(entry.get("targets", False), bool):
            raise InputError(f"{key}.targets={entry['targets']} must be true or false")
        settings[name] = MixSetting(**{**entry, "folder": str(entry["folder"]), "crop_seconds": crop})
    if (total := sum(setting.weight for setting in settings.values())) >= 1:
        raise InputError(f"the weights of data.mix make {total:g} together: leave something for the main corpus")
    return settings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

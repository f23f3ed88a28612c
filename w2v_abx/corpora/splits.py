"""Which clips are held out from training."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from w2v_abx.clips import Clip
from w2v_abx.errors import InputError

__all__ = ["by_fold", "held_out", "hold_out", "uniform"]


def held_out(valid: Mapping[str, Any] | None) -> dict[str, Any]:
    """``corpus.valid`` checked: empty, or ``{label, values}``, or ``{fraction, seed?, label?}``; else `InputError`."""
    settings = {key: value for key, value in (valid or {}).items() if value is not None}
    if "values" in settings:  # a share is but the default
        settings = {key: value for key, value in settings.items() if key not in ("fraction", "seed")}
    form = set(settings)
    if settings and not (form == {"label", "values"} or {"fraction"} <= form <= {"fraction", "seed", "label"}):
        raise InputError(
            f"corpus.valid has the keys {', '.join(sorted(form))}: give label and values, or fraction (with "
            f"seed and label if wanted), and set the others to null"
        )
    fraction = settings.get("fraction", 0.5)
    if not isinstance(fraction, int | float) or not 0 < fraction < 1:
        raise InputError(f"corpus.valid.fraction={fraction!r} must lie between 0 and 1")
    if isinstance(settings.get("values", []), str):
        raise InputError(f"corpus.valid.values={settings['values']!r} must be a list, such as [{settings['values']}]")
    return settings


def hold_out(clips: list[Clip], valid: Mapping[str, Any]) -> list[Clip]:
    """The clips, those that ``valid`` (see :func:`held_out`) chooses in the split valid.

    Raises `InputError` for a label that a clip lacks, a value that no clip has, and where no clip is left to train on.
    """
    if not valid:
        return clips
    label = valid.get("label")
    if label:
        without = next((clip for clip in clips if not isinstance(clip.labels.get(label), str)), None)
        if without:
            known = ", ".join(sorted(key for key, value in without.labels.items() if isinstance(value, str)))
            raise InputError(
                f"corpus.valid.label={label!r}: {without.path} has no such label (single labels: {known or 'none'})"
            )
    groups = {clip.key: clip.labels[label] if label else clip.key for clip in clips}
    present = sorted(set(groups.values()))
    if "values" in valid:
        held = {str(value) for value in valid["values"]}
        if unknown := sorted(held.difference(present)):
            raise InputError(
                f"corpus.valid.values: no clip has {label}={unknown[0]!r} (values: {', '.join(present[:20])})"
            )
    else:
        rank = {group: uniform(f"{valid.get('seed', 0)}/{group}") for group in present}
        held = {group for group in present if rank[group] < valid["fraction"]}
        # A handful of clips may fall on one side altogether, and training needs both.
        held = held or {min(present, key=rank.__getitem__)}
        if len(held) == len(present) > 1:
            held.remove(max(present, key=rank.__getitem__))
    if len(held) == len(present):
        raise InputError(f"corpus.valid={valid} holds out every clip: leave some to train on")
    return [replace(clip, split="valid") if groups[clip.key] in held else clip for clip in clips]


def by_fold(folds: Iterable[str], valid: Sequence[Any] | None, test: Sequence[Any] | None) -> dict[str, str]:
    """The split of each fold that is present; ``None`` asks for no fold.

    Raises `InputError` for a fold that is not present, or is asked for twice.
    """
    present = sorted(set(folds), key=lambda fold: (len(fold), fold))
    splits = dict.fromkeys(present, "train")
    chosen: dict[str, str] = {}
    for split, wanted in (("valid", valid), ("test", test)):
        if isinstance(wanted, str | int):
            raise InputError(f"corpus.{split}_folds={wanted!r} must be a list, such as [{wanted}]")
        for fold in map(str, () if wanted is None else wanted):
            if fold not in splits:
                raise InputError(f"corpus.{split}_folds: there is no fold {fold!r} (folds: {', '.join(present)})")
            if chosen.setdefault(fold, split) != split:
                raise InputError(f"fold {fold} is in both corpus.valid_folds and corpus.test_folds: leave it in one")
    return splits | chosen


def uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48

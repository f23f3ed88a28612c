"""Features that a command is given instead of a model."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from w2v_abx.abx.rates import check_clock
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import find_audio
from w2v_abx.features.foreign import stored_layers
from w2v_abx.features.store import is_store
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE, Items
from w2v_abx.items.names import matched

__all__ = ["features_given"]

log = logging.getLogger(__name__)


def features_given(
    config: DictConfig, items: Items, setting: AbxSetting
) -> tuple[Iterable[tuple[int, Mapping[str, Any]]], float]:
    """Open ``features.folder``, layer by layer, with its frames a second; only the files that items name.

    Raises:
        InputError: there is no frequency, or it does not fit the audio in ``abx.root`` or, without audio, the items.
    """
    folder, names = config.features.folder, items.frame[FILE].unique().to_list()
    layers, frequency = stored_layers(folder, config.abx.frequency, setting.layers)
    named = ((layer, {name: stored[key] for name, key in matched(names, stored).items()}) for layer, stored in layers)
    if is_store(folder):
        return named, frequency
    made_elsewhere = list(named)  # one layer
    root = config.abx.get("root")
    files = find_audio(items, root) if root is not None and Path(root).is_dir() else None
    if files is None:
        log.warning("abx.root=%s has no audio: abx.frequency=%s is not compared with its lengths.", root, frequency)
    available = {name: len(frames) for name, frames in made_elsewhere[0][1].items()}
    check_clock(items, available, exact_frequency(frequency), files)
    return made_elsewhere, frequency

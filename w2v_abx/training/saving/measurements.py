"""ABX of models that no training has changed, stored by content: other runs that measure the same need not."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning

import w2v_abx
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.features.digests import device_name, digest_extractor, digest_files, running_code
from w2v_abx.models.extractor import Extractor
from w2v_abx.system import atomic
from w2v_abx.training.saving.phases import add_phase, phases_done

__all__ = ["measurement_key", "reuse_measurement", "store_measurement"]

log = logging.getLogger(__name__)


def measurement_key(
    extractor: Extractor, speech: Speech, setting: AbxSetting, trainer: lightning.Trainer, state: Any = None
) -> str | None:
    """Hash (SHA-256) all that scores depend on: weights, audio, items, settings, precision, device, code, libraries.

    None for an extractor of somebody's own class, whose code and options nobody knows here.

    ``state``: what else scores, or what is stored beside them, depend on, as JSON.
    """
    if not type(extractor).__module__.startswith(f"{w2v_abx.__name__}."):
        return None
    named, device = set(speech.items.frame["#file"]), trainer.strategy.root_device
    parts = [
        digest_extractor(extractor),
        digest_files({name: path for name, path in speech.files.items() if name in named}),
        hashlib.sha256(speech.items.frame.write_csv().encode()).hexdigest(),
        asdict(setting),
        [str(trainer.precision), device_name(device)],
        running_code(),
        state,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def reuse_measurement(stored: Path, key: str, run: Path, tag: str) -> dict[str, Any] | None:
    """Copy the scores stored under ``key`` to ``abx/<tag>`` of a run, and return their facts; None: there are none.

    Damaged ones are removed.
    """
    entry = stored / tag / key
    if not entry.is_dir():  # it comes whole, by a rename
        return None
    facts = phases_done(entry).get(tag)
    if facts is None:
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with atomic.written(run / "abx" / tag):
            shutil.copytree(entry / "abx" / tag, run / "abx" / tag, dirs_exist_ok=True)
    return facts


def store_measurement(stored: Path, key: str, run: Path, tag: str, facts: Mapping[str, Any]) -> None:
    """Store the scores in ``abx/<tag>`` of a run under ``key``, unless another run was faster.

    A folder that cannot be written is warned of: the run has its scores.
    """

    def fill(folder: Path) -> None:
        shutil.copytree(run / "abx" / tag, folder / "abx" / tag)
        add_phase(folder, tag, (folder / "abx" / tag).iterdir(), **facts)

    try:
        atomic.write_folder(stored / tag / key, fill)
    except OSError as error:
        log.warning("%s cannot be written (%s): other runs will measure %s again.", stored, error.strerror, tag)

"""Whole pretraining models on disk: an encoder with the quantiser and the projections of its contrastive loss.

In the layout of Hugging Face's ``Wav2Vec2ForPreTraining``; around HuBERT and WavLM, for which it has no such class, the
same with their prefix.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from w2v_abx.errors import InputError
from w2v_abx.models import checkpoints
from w2v_abx.models.encoder import Encoder

__all__ = ["load", "save"]

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"


def load(
    part: nn.Module, source: str | Path | Mapping[str, Any] | None, revision: str | None, key: str, otherwise: str
) -> frozenset[str]:
    """Load into ``part`` those of its parameters that the checkpoint ``source`` has, and say which it has not.

    The names of the former are returned. A mapping, which describes a random encoder, has none. ``otherwise`` is what
    becomes of the others, ``key`` what the settings' names begin with.

    Raises:
        InputError: the checkpoint cannot be read, or its parameters have other shapes.
    """
    own = {name: weight for name, weight in part.state_dict().items() if name != "mixture"}  # is not of the checkpoint
    nothing = source is None or isinstance(source, Mapping)
    found = {} if nothing else checkpoints.tensors(source, revision, own)  # type: ignore[arg-type]
    for name, weight in found.items():
        if weight.shape != own[name].shape:
            raise InputError(
                f"{source} has a quantiser of other sizes than asked for ({name} is {tuple(weight.shape)} there and "
                f"{tuple(own[name].shape)} here): leave {key}sizes at null, or give {key}source=null to "
                f"begin a new one"
            )
    part.load_state_dict({**own, **found})
    if missing := sorted(own.keys() - found.keys()):
        log.warning("%s%s: %s", "" if nothing else f"{source} lacks ", ", ".join(missing), otherwise)
    return frozenset(found)


def save(
    encoder: Encoder,
    part: nn.Module,
    sizes: Mapping[str, int],
    folder: Path,
) -> None:
    """Write the encoder and the parameters of ``part`` to ``folder``, each file atomically.

    ``sizes`` go into its config.json, under the names that they have there.
    """
    with checkpoints.scratch(folder) as temporary:
        encoder.save(temporary)
        all_weights = {name: weight.detach().cpu().contiguous() for name, weight in part.state_dict().items()}
        for file in temporary.glob("*.safetensors"):
            prefix = f"{encoder.model.base_model_prefix}."
            all_weights |= {prefix + name: weight for name, weight in load_file(file).items()}
            file.unlink()
        for index in temporary.glob("*.index.json"):
            index.unlink()
        save_file(all_weights, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
        settings = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
        if settings["model_type"] == "wav2vec2":
            settings["architectures"] = ["Wav2Vec2ForPreTraining"]
        text = json.dumps({**settings, **sizes}, indent=2, sort_keys=True) + "\n"
        (temporary / "config.json").write_text(text, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for file in temporary.iterdir():
            file.replace(folder / file.name)

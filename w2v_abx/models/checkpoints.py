"""Checkpoints in Hugging Face layout: find, check, read and write."""

import json
import logging
import os
import pickle
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError, safe_open
from transformers import (
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)
from transformers.utils import logging as hf_logging

from w2v_abx.errors import InputError, NotWritten
from w2v_abx.models.sizes import Sizes
from w2v_abx.system import atomic

__all__ = [
    "checkpoint_folder",
    "configuration",
    "load",
    "normalizes",
    "overrides",
    "random",
    "read_json",
    "read_weights",
    "require_weights",
    "save",
    "scratch",
    "tensors",
]

log = logging.getLogger(__name__)

FAMILIES: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}
ACCEPTED = "a wav2vec2, hubert or wavlm checkpoint in Hugging Face layout (a folder or a hub name)"
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
TORCH_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"  # transformers ≤ 4, and from 5 on
CHEAP = 100_000_000  # parameters that are built and drawn within seconds
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, EOFError, SafetensorError, pickle.UnpicklingError)


def overrides(dropout: float | None, layer_drop: float | None) -> dict[str, float]:
    """The configuration keys that ``dropout`` and ``layer_drop`` replace."""
    for name, value in (("dropout", dropout), ("layer_drop", layer_drop)):
        if value is not None and not 0 <= value < 1:
            raise InputError(f"{name}={value} must be a probability from 0 to below 1")
    changed: dict[str, float] = {} if layer_drop is None else {"layerdrop": layer_drop}
    if dropout is not None:
        names = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
        changed |= dict.fromkeys(names, dropout)
    return changed


def load(source: str | Path, revision: str | None, changed: Mapping[str, Any]) -> tuple[PreTrainedModel, bool]:
    """The base model of ``source`` in float32, and whether its input is normalised. Raises InputError."""
    folder = checkpoint_folder(source, revision)
    config, model_class = configuration(source, read_json(source, folder / "config.json"), changed)
    require_weights(source, folder)
    _require_bytes(source, folder, config)
    model, found = read_weights(model_class, source, folder, config=config, ignore_mismatched_sizes=True)
    _check(source, model, found)
    return model, normalizes(source, folder)


def read_weights(
    model_class: Any, source: str | Path, folder: Path, accepted: str = ACCEPTED, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model in float32 with the weights in ``folder``, and which keys were missing, unexpected or of another shape.

    ``options`` are those of ``from_pretrained``. Nothing is unpickled but tensors. Raises InputError, naming ``source``
    and what is ``accepted`` for it, where the weights cannot be read.
    """
    try:
        # What is missing would be drawn at random before it is reported.
        with torch.random.fork_rng(devices=[]), _quiet():
            return model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                weights_only=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except UNREADABLE as error:
        raise InputError(f"the weights of {source} cannot be read ({_reason(error)}): give {accepted}") from error


def random(
    source: str | Path | Mapping[str, Any], seed: int, revision: str | None, changed: Mapping[str, Any]
) -> tuple[PreTrainedModel, bool]:
    """As ``load``, with weights drawn from ``seed``; a mapping stands for the content of a config.json."""
    if isinstance(source, Mapping):
        name: str | Path = "the given configuration"
        plain = OmegaConf.to_container(source, resolve=True) if isinstance(source, DictConfig) else source
        settings, normalized = dict(cast(Mapping[str, Any], plain)), True
    else:
        folder = checkpoint_folder(source, revision, weights=False)
        name, settings, normalized = source, read_json(source, folder / "config.json"), normalizes(source, folder)
    config, model_class = configuration(name, settings, changed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config), normalized


def tensors(source: str | Path, revision: str | None, names: Container[str]) -> dict[str, torch.Tensor]:
    """Those of the weights of ``source`` whose names are among ``names``, in float32. Raises InputError."""
    folder = checkpoint_folder(source, revision)
    present = require_weights(source, folder)
    files = {present}
    try:
        if present.endswith(".index.json"):
            places: dict[str, str] = read_json(source, folder / present)["weight_map"]
            files = {file for name, file in places.items() if name in names}
        found: dict[str, torch.Tensor] = {}
        for file in sorted(files):
            if file.endswith(".safetensors"):
                with safe_open(folder / file, framework="pt") as opened:
                    found |= {name: opened.get_tensor(name) for name in opened.keys() if name in names}  # noqa: SIM118
            else:
                weights = torch.load(folder / file, map_location="cpu", weights_only=True)
                found |= {name: weight for name, weight in weights.items() if name in names}
        return {name: weight.float() for name, weight in found.items()}
    except UNREADABLE as error:
        raise InputError(f"the weights of {source} cannot be read ({_reason(error)}): give {ACCEPTED}") from error


def save(
    model: PreTrainedModel, normalized: bool, folder: str | Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write config, weights (safetensors) and preprocessor to ``folder``, each file atomically.

    The preprocessor's file is the older one, which every transformers reads.

    ``weights``: those to write, where they are not the model's own.
    """
    folder = Path(folder)
    with scratch(folder) as temporary:
        with _quiet():
            model.save_pretrained(temporary, state_dict=weights)
        attends = model.config.feat_extract_norm == "layer"
        Wav2Vec2FeatureExtractor(do_normalize=normalized, return_attention_mask=attends).save_pretrained(temporary)
        folder.mkdir(exist_ok=True)
        (folder / PROCESSOR).unlink(missing_ok=True)  # another model's, which transformers 5 would believe
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes for its owner alone
            file.replace(folder / file.name)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Make a folder for what is to go to ``folder``. Raises NotWritten where that cannot be written."""
    try:
        with atomic.scratch_folder(folder.parent, folder.name) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:  # safetensors has none but its own
        raise NotWritten(f"{folder} cannot be written ({getattr(error, 'strerror', None) or error})") from error


def checkpoint_folder(
    source: str | Path,
    revision: str | None,
    *,
    files: Sequence[str] = ("config.json", PREPROCESSOR, PROCESSOR),
    accepted: str = ACCEPTED,
    weights: bool = True,
    setting: str = "",
) -> Path:
    """The folder that holds ``source``: itself, or a snapshot from the hub (or its cache).

    Of a snapshot, ``files`` (patterns) are had, and with ``weights`` these. Raises InputError, naming ``setting`` and
    what is ``accepted`` for it, where there is none with a config.json.
    """
    path, name = Path(source).expanduser(), f"{setting}={source}" if setting else str(source)
    if path.exists():
        if not (path / "config.json").is_file():
            raise InputError(f"{name} has no config.json: give {accepted}")
        return path
    if isinstance(source, Path) or source.startswith((".", "~", os.sep)) or source.count("/") > 1:
        raise InputError(f"there is no folder {name}: give {accepted}")
    folder = _snapshot(source, name, revision, files, accepted, weights=weights)
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} has no config.json on the hub or in its cache: give {accepted}")
    return folder


def require_weights(source: str | Path, folder: Path, accepted: str = ACCEPTED) -> str:
    """The name of the first file of weights in ``folder``. Raises InputError where there is none."""
    present = [name for name in (*SAFETENSORS, *TORCH_WEIGHTS) if (folder / name).is_file()]
    if not present:
        raise InputError(f"{source} has no weights (model.safetensors or pytorch_model.bin): give {accepted}")
    return present[0]


def _require_bytes(source: str | Path, folder: Path, config: Any) -> None:
    """Refuse a config.json of a model that the weights cannot fill: it would be built, and drawn, to find that out."""
    held, wanted = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()), Sizes.of(config).encoder
    if wanted > max(held, CHEAP):  # two bytes each, or four
        raise InputError(
            f"{source} has {held} bytes of weights for the {wanted} parameters of its config.json: give {ACCEPTED}"
        )


def _snapshot(
    source: str, name: str, revision: str | None, files: Sequence[str], accepted: str, *, weights: bool
) -> Path:
    try:
        # Safetensors alone where they exist; the torch weights of the same repository would double the download.
        safe = ["model*.safetensors*"] if weights else []
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=[*files, *safe]))
        if weights and not any((folder / file).is_file() for file in SAFETENSORS):
            folder = Path(snapshot_download(source, revision=revision, allow_patterns=[*files, "pytorch_model*.bin*"]))
    except Exception as error:  # a network library: its errors share no base class
        raise InputError(
            f"{name} is neither a folder here nor found on the hub or in its cache ({_reason(error)}): give {accepted}"
        ) from error
    return folder


def read_json(source: str | Path, path: Path) -> dict[str, Any]:
    """The JSON object in a file of the checkpoint ``source``. Raises InputError, which names both."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} of {source} cannot be read as JSON ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} of {source} must hold one JSON object")
    return content


def configuration(source: str | Path, settings: Mapping[str, Any], changed: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration that a config.json makes, and the class of its model, once its sizes are those of one.

    Of ``settings`` only what describes a model is passed on: other keys would have transformers fetch code
    (``_attn_implementation``, ``auto_map``), or load otherwise than is asked for here. Raises InputError.
    """
    family = settings.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(f"{source} has model_type {family!r} in its config.json: give {ACCEPTED}")
    config_class, model_class = FAMILIES[family]
    # Of any family: a HuBERT that was pretrained here has the codebooks of a wav2vec 2.0.
    described = {key for one, _ in FAMILIES.values() for key in one().to_dict()}
    known = described - PreTrainedConfig().to_dict().keys()
    try:
        config = config_class.from_dict({key: settings[key] for key in known & settings.keys()} | dict(changed))
        Sizes.of(config)
        # Even without memory, building a model draws from the global random state.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model_class(config)
    except Exception as error:  # whatever a wrong value trips first, deep in transformers
        raise InputError(f"the config.json of {source} does not make a {family} model ({_reason(error)})") from error
    return config, model_class


def _check(source: str | Path, model: PreTrainedModel, found: Mapping[str, Any]) -> None:
    """Refuse weights that are not exactly those of the encoder; heads on top of it are left out."""
    missing = set(found["missing_keys"])
    if "masked_spec_embed" in missing:
        # Checkpoints fine-tuned elsewhere often lack it. No feature depends on it unless a mask is given.
        missing.remove("masked_spec_embed")
        torch.nn.init.zeros_(model.get_parameter("masked_spec_embed"))
        log.warning("%s has no mask embedding (masked_spec_embed): it starts at zero", source)
    parts = tuple(f"{name}." for name, _ in model.named_children())
    prefix = f"{model.base_model_prefix}."
    unexpected = {key for key in found["unexpected_keys"] if key.removeprefix(prefix).startswith(parts)}
    mismatched = {key for key, *_ in found["mismatched_keys"]}
    for kind, keys in (
        ("lack", missing),
        ("have shapes other than config.json says in", mismatched),
        ("have unknown", unexpected),
    ):
        if keys:
            raise InputError(
                f"the weights of {source} {kind} {len(keys)} tensors, such as {min(keys)}: give {ACCEPTED}"
            )


def normalizes(source: str | Path, folder: Path) -> bool:
    """Read whether the model of ``source`` expects clips of zero mean and unit variance, as transformers reads it.

    From ``feature_extractor`` (``audio_processor``) in processor_config.json, which transformers 5 writes, else from
    preprocessor_config.json; without either, Hugging Face's default. Raises InputError for a model of another rate than
    16 kHz, and for settings that are none.
    """
    found = {}
    for file in (PROCESSOR, PREPROCESSOR):
        settings: Any = read_json(source, folder / file) if (folder / file).is_file() else None
        if settings is not None and file == PROCESSOR:
            settings = settings.get("feature_extractor", settings.get("audio_processor"))
        if settings is None:
            continue
        rate, normalized = (
            settings.get(key, default) if isinstance(settings, dict) else None
            for key, default in (("sampling_rate", 16_000), ("do_normalize", True))
        )
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not isinstance(normalized, bool):
            raise InputError(
                f"{file} of {source} says sampling_rate={rate!r} and do_normalize={normalized!r}: write a number of Hz "
                "and true or false"
            )
        found[file] = rate, normalized
    if not found:
        return True
    file, (rate, normalized) = next(iter(found.items()))
    if len(set(found.values())) > 1:
        log.warning("%s and %s of %s disagree: the former counts, as in transformers", PROCESSOR, PREPROCESSOR, source)
    if rate != 16_000:
        raise InputError(f"{source} expects {rate:g} Hz ({file}): give a 16000 Hz model")
    return bool(normalized)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading report and progress bars off the terminal: what matters in them is checked here."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()

"""A config.json of a model that nobody has, or that asks for code, is refused before anything is built."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from w2v_abx.config import PACKAGE
from w2v_abx.errors import InputError
from w2v_abx.models import checkpoints
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.sizes import Sizes

TINY = PACKAGE / "pretrained" / "tiny"
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def changed(folder: Path, **settings: Any) -> Path:
    """The shipped model with another config.json."""
    folder.mkdir()
    for path in TINY.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((TINY / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


@pytest.mark.parametrize("large", [{}, LARGE])
@pytest.mark.parametrize(
    ("config", "model"),
    [(Wav2Vec2Config, Wav2Vec2Model), (HubertConfig, HubertModel), (WavLMConfig, WavLMModel)],
)
def test_parameters_are_about_those_of_the_model(config: Any, model: Any, large: dict[str, int]) -> None:
    with torch.device("meta"):
        true = sum(weight.numel() for weight in model(config(**large)).parameters())
    assert 0.97 * true < Sizes.of(config(**large)).encoder < true


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 1_000_000},
        {"num_hidden_layers": 10**400},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": True},
        {"num_hidden_layers": 4.0},
        {"hidden_size": 1 << 20, "num_attention_heads": 1, "num_conv_pos_embedding_groups": 1},
        {"hidden_size": 1 << 40},
        {"intermediate_size": 1 << 40},
        {"conv_dim": [1 << 19] * 7},
        {"conv_kernel": [1 << 30] * 7},
        {"conv_dim": [1] * 20_000, "conv_kernel": [1] * 20_000, "conv_stride": [1] * 20_000},
        {"num_conv_pos_embeddings": 1 << 40},
        {"vocab_size": 1 << 40},
        {"num_codevectors_per_group": 1 << 20, "codevector_dim": 1 << 20},
        {"num_codevector_groups": 1 << 40},
        {"add_adapter": True, "num_adapter_layers": 1_000_000},
        {"add_adapter": True, "output_hidden_size": 1 << 20},
        {"adapter_attn_dim": 1 << 40},
        {"model_type": "wavlm", "num_buckets": 1 << 40},
        {"conv_stride": None},
        {"hidden_size": "192"},
    ],
    ids="-".join,
)
def test_sizes_that_no_model_has(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = changed(tmp_path / "model", **settings)
    for make in (Encoder.load, Encoder.random):
        with pytest.raises(InputError, match=r"^the config\.json of .* does not make a wav(2vec2|lm) model"):
            make(folder)


def test_a_model_that_its_weights_cannot_fill(tmp_path: Path) -> None:
    """Within what a model may have, but it would be drawn before its weights are seen to be absent."""
    folder = changed(tmp_path / "model", num_hidden_layers=99, hidden_size=768, intermediate_size=768)
    with pytest.raises(InputError, match=r"bytes of weights for the \d+ parameters of its config\.json"):
        Encoder.load(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation_internal": "someone/kernel"},
        {"auto_map": {"AutoModel": "evil.Evil"}, "trust_remote_code": True},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"kernel_config": {"a": "someone/kernel"}, "use_kernels": True, "experts_implementation": "someone/kernel"},
        {"return_dict": False, "output_attentions": True, "torchscript": True},
        {"_name_or_path": "someone/model", "id2label": {str(n): "x" for n in range(10)}, "num_labels": 10**9},
    ],
    ids="-".join,
)
def test_keys_that_describe_no_model_are_not_passed_on(tmp_path: Path, settings: dict[str, Any]) -> None:
    plain, _ = checkpoints.configuration("plain", json.loads((TINY / "config.json").read_text()), {})
    folder = changed(tmp_path / "model", **settings)
    config, _ = checkpoints.configuration("odd", json.loads((folder / "config.json").read_text()), {})
    assert vars(config) == vars(plain)
    wave = torch.linspace(-1, 1, 4000)[None]
    outcomes = [Encoder.load(source)(wave, torch.tensor([4000]), [4]).layers[0] for source in (TINY, folder)]
    assert torch.equal(*outcomes)

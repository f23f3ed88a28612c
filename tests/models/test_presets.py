"""Models by name: what `model=` chooses, and that a checkpoint of each one's layout loads as transformers loads it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    WavLMConfig,
    WavLMModel,
)

from w2v_abx.config import CONF
from w2v_abx.models.encoder import Encoder

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "initializer_range": 0.5,
}
GROUP = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False, "num_hidden_layers": 3}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "num_hidden_layers": 5}
W2V2, HUBERT, WAVLM = (Wav2Vec2Config, Wav2Vec2ForPreTraining), (HubertConfig, HubertModel), (WavLMConfig, WavLMModel)
# What is on the hub under each name: the classes and the layout of its config.json, in small, and do_normalize.
LAYOUTS: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "wav2vec2_base": (W2V2, GROUP, True),
    "wav2vec2_large": (W2V2, {**GROUP, "num_hidden_layers": 5}, True),
    "wav2vec2_large_lv60": (W2V2, LAYER, True),
    "xlsr_53": (W2V2, LAYER, True),
    "xls_r_300m": (W2V2, LAYER, True),
    "mms_300m": (W2V2, LAYER, True),
    "wav2vec2_finnish": (W2V2, LAYER, True),
    "wav2vec2_mandarin": (W2V2, LAYER, True),
    "hubert_base": (HUBERT, GROUP, True),
    "hubert_large": (HUBERT, LAYER, True),
    "mhubert_147": (HUBERT, GROUP, True),
    # Its blocks take the convolutions without a layer norm, and nothing masks them.
    "distilhubert": (
        HUBERT,
        {**GROUP, "num_hidden_layers": 2, "feat_proj_layer_norm": False, "mask_time_prob": 0.0},
        False,
    ),
    "wavlm_base": (WAVLM, GROUP, False),
    "wavlm_base_plus": (WAVLM, GROUP, False),
    "wavlm_large": (WAVLM, {**LAYER, "conv_bias": False}, True),
}


def test_every_preset_of_the_hub_has_a_layout_here_and_a_name_there() -> None:
    presets = {path.stem for path in (CONF / "model").glob("*.yaml") if "\n  - hub\n" in path.read_text()}
    assert presets == LAYOUTS.keys()
    sources = set()
    for name in presets:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            model = compose("train", [f"model={name}"]).model
        assert get_method(model["_target_"]) == Encoder.load
        assert model.source.count("/") == 1
        assert (model.train, model.revision, model.lora.rank) == ("transformer", None, 8)
        normalised = LAYOUTS[name][2]
        line = next(line for line in (CONF / "model" / f"{name}.yaml").read_text().splitlines() if "source: " in line)
        assert ("not normalised" in line) != normalised
        sources.add(model.source)
    assert len(sources) == len(presets)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_checkpoint_of_its_layout_gives_the_hidden_states_of_transformers(name: str, tmp_path: Path) -> None:
    (config_class, model_class), layout, normalised = LAYOUTS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config_class(**SIZES, **layout)).eval()
    # As they were uploaded: torch weights, of which the positional convolution's norm has its former names.
    now = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    weights = {
        key.replace(now[0], "weight_g").replace(now[1], "weight_v"): weight
        for key, weight in model.state_dict().items()
    }
    assert any(key.endswith("weight_g") for key in weights)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_diff_dict()))
    preprocessor = Wav2Vec2FeatureExtractor(do_normalize=normalised, return_attention_mask=layout is LAYER)
    preprocessor.save_pretrained(tmp_path)
    encoder = Encoder.load(tmp_path)
    assert encoder.normalized == normalised
    assert encoder.n_layers == layout["num_hidden_layers"] + 1
    clip = torch.randn(2000, generator=torch.Generator().manual_seed(1)) * 0.1 + 0.05
    values = preprocessor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        base = getattr(model, model.base_model_prefix, model)
        expected = base(values, output_hidden_states=True).hidden_states
        found = encoder(clip[None], torch.tensor([2000])).layers
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

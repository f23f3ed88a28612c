import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModel

from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.lora import TARGETS, Lora, has_lora, is_lora

ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 32],
    "conv_stride": [10, 32],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "initializer_range": 0.3,
}
FAMILIES = ("wav2vec2", "hubert", "wavlm")
EVERYTHING = Lora(rank=3, alpha=6.0, targets=tuple(TARGETS))
LENGTHS = torch.tensor([6_400, 4_000])


def encoder(family: str, lora: Lora | None = None, **settings: Any) -> Encoder:
    source = {"model_type": family, **ARCHITECTURE}
    return Encoder.random(source, train="all" if lora is None else "lora", lora=lora, **settings)


def waveforms() -> torch.Tensor:
    return torch.randn(2, 6_400, generator=torch.Generator().manual_seed(1))


def stirred(model: Encoder) -> Encoder:
    """As after some steps: the updates are no longer zero."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if is_lora(name):
            parameter.data.normal_(0, 0.3, generator=generator)
    return model


def same(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    for first, second in zip(ours, theirs, strict=True):
        torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_start_as_those_of_the_plain_model(family: str) -> None:
    plain, adapted = encoder(family), encoder(family, EVERYTHING)
    with torch.no_grad():
        same(adapted(waveforms(), LENGTHS).layers, plain(waveforms(), LENGTHS).layers)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_update_acts_as_if_it_were_in_the_weight(family: str, target: str) -> None:
    """Where a model takes a bare weight, as WavLM's attention does, an adapter would do nothing."""
    adapted = stirred(encoder(family, Lora(rank=2, alpha=3.0, targets=[target])))
    plain = encoder(family)
    moved = 0
    updates = dict(adapted.model.named_parameters())
    with torch.no_grad():
        for name, weight in plain.model.named_parameters():
            place = name.removesuffix(".weight")
            if place.endswith(target) and name.endswith(".weight"):
                first, second = (updates[f"{place}.lora_{factor}.default.weight"] for factor in "AB")
                weight.add_(3.0 / 2 * second @ first)
                moved += 1
        assert moved == 2
        same(adapted(waveforms(), LENGTHS).layers, plain(waveforms(), LENGTHS).layers)
        with pytest.raises(AssertionError):
            same(adapted(waveforms(), LENGTHS).layers, encoder(family)(waveforms(), LENGTHS).layers)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_updates_learn(family: str, checkpointing: bool) -> None:
    adapted = encoder(family, EVERYTHING, gradient_checkpointing=checkpointing)
    start = copy.deepcopy(adapted.state_dict())
    adapted.train()
    optimizer = torch.optim.SGD(adapted.parameters(), lr=1.0)
    target = torch.randn(2, 20, 16)
    for _ in range(2):  # the first factor has a gradient once the second is no longer zero
        optimizer.zero_grad()
        functional.mse_loss(adapted(waveforms(), LENGTHS).layers[-1], target).backward()
        optimizer.step()
    for name, value in adapted.state_dict().items():
        assert torch.equal(value, start[name]) != is_lora(name), name


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_merged_and_training_goes_on(family: str, tmp_path: Path) -> None:
    adapted = stirred(encoder(family, EVERYTHING))
    before = copy.deepcopy(adapted.state_dict())
    adapted.save(tmp_path / "encoder")
    assert list(adapted.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in adapted.state_dict().items())

    loaded = Encoder.load(tmp_path / "encoder")
    assert not has_lora(loaded)
    with torch.no_grad():
        same(loaded(waveforms(), LENGTHS).layers, adapted(waveforms(), LENGTHS).layers)
    model, found = AutoModel.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    clip = waveforms()[:1]
    normal = (clip - clip.mean()) / clip.std(correction=0)
    with torch.no_grad():
        theirs = model.eval()(normal, output_hidden_states=True).hidden_states
        same(adapted(clip, LENGTHS[:1]).layers, theirs, 2e-5)


def test_dropout_is_of_training_only() -> None:
    adapted = stirred(encoder("wavlm", Lora(dropout=0.5)))
    with torch.no_grad():
        same(adapted(waveforms(), LENGTHS).layers, adapted(waveforms(), LENGTHS).layers)
        adapted.train()
        with pytest.raises(AssertionError):
            same(adapted(waveforms(), LENGTHS).layers, adapted(waveforms(), LENGTHS).layers)


def test_the_start_is_a_function_of_the_seed() -> None:
    def start(seed: int) -> dict[str, torch.Tensor]:
        return encoder("wav2vec2", Lora(seed=seed)).state_dict()

    torch.manual_seed(5)
    state, first = torch.get_rng_state(), start(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    again, other = start(1), start(2)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_another_choice_after_lora_is_refused() -> None:
    adapted = encoder("wav2vec2", Lora())
    adapted.trainable("head")
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
    adapted.trainable("lora")
    assert any(parameter.requires_grad for parameter in adapted.parameters())
    for mode in ("all", "transformer", "top-1"):
        with pytest.raises(InputError, match=f"model.train='{mode}' is not a choice for an encoder with LoRA"):
            adapted.trainable(mode)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "model.lora.rank=0"),
        ({"rank": 2.0}, "model.lora.rank=2.0"),
        ({"rank": 17}, "model.lora.rank=17 is more than 16"),
        ({"alpha": 0}, "model.lora.alpha=0"),
        ({"dropout": 1.0}, "model.lora.dropout=1.0"),
        ({"targets": []}, "model.lora.targets=[]"),
        ({"targets": ["q_proj", "query"]}, "output_dense"),
        ({"targets": "q_proj"}, "model.lora.targets=q_proj must be a list"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        encoder("wav2vec2", Lora(**settings))
    assert message in str(refused.value)

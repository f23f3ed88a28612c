"""Every run ends with an encoder that transformers loads and that gives the same features."""

from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model
from tuned import BLOCKS, SaveAt, Tuned, assert_equal, fit, weights

from w2v_abx.models.encoder import Encoder
from w2v_abx.training.callbacks import Ema

MODES = ("all", "transformer", "top-1", "lora", "head")


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("train", MODES)
def test_transformers_loads_it_and_finds_the_same_features(train: str, average: bool, tmp_path: Path) -> None:
    module = fit(Tuned(train=train), tmp_path, [Ema(0.8)] if average else [], max_steps=4)
    module.encoder.save(tmp_path / "encoder")
    model, told = Wav2Vec2Model.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    clip = torch.randn(4_000, generator=torch.Generator().manual_seed(1))
    values = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "encoder")(
        clip.numpy(), sampling_rate=16_000, return_tensors="pt"
    ).input_values
    module.eval()
    with torch.no_grad():
        theirs = model.eval()(values, output_hidden_states=True).hidden_states
        ours = module.encoder(clip[None], torch.tensor([4_000])).layers
        before = Tuned().encoder(clip[None], torch.tensor([4_000])).layers
    assert len(ours) == len(theirs) == BLOCKS + 1
    for first, second in zip(ours, theirs, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours[-1], before[-1]) == (train == "head")


@pytest.mark.parametrize("train", MODES)
def test_a_resumed_run_ends_with_the_same_weights(train: str, tmp_path: Path) -> None:
    whole = fit(Tuned(train=train), tmp_path, [SaveAt(4, tmp_path / "part.ckpt")])
    again = Tuned(train=train, seed=3)
    fit(again, tmp_path, resume=tmp_path / "part.ckpt")
    assert_equal(weights(again), weights(whole))


def test_lora_trains_on_after_it_was_saved(tmp_path: Path) -> None:
    """As a run does that is saved on the way: what is written is merged, what trains is not."""
    module = fit(Tuned(train="lora"), tmp_path, max_steps=3)
    before = weights(module)
    module.encoder.save(tmp_path / "encoder")
    assert_equal(weights(module), before)
    assert Encoder.load(tmp_path / "encoder").state_dict().keys() == Tuned().encoder.state_dict().keys()

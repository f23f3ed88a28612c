import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import ARCHITECTURE, quiet_trainer
from torch.utils.data import DataLoader
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.specaugment import SpecAugment

MASKING = SpecAugment(mask_time_prob=0.4, mask_time_length=3, mask_feature_prob=0.3, mask_feature_length=4)


@given(
    frames=st.lists(st.integers(1, 80), min_size=1, max_size=5),
    share=st.floats(0.0, 1.0),
    span=st.integers(1, 20),
    step=st.integers(0, 50),
)
def test_what_is_hidden_is_spans_within_each_clip(frames: list[int], share: float, span: int, step: int) -> None:
    masking = SpecAugment(share, span, share, span)
    keys = [f"clip {number}" for number in range(len(frames))]
    masks = masking.draw(keys, torch.tensor(frames), 24, step)
    assert set(masks) == ({"time_mask", "feature_mask"} if share else set())
    for name, counts in (("time_mask", frames), ("feature_mask", [24] * len(frames))):
        for row, count in zip(masks.get(name, []), counts, strict=False):
            hidden = row.tolist()
            assert not any(hidden[count:])
            runs = "".join("x" if value else " " for value in hidden).split()
            assert all(len(run) >= span for run in runs)
            assert sum(hidden) <= span * int(share * count / span + 1)


@pytest.mark.parametrize(("length", "share", "span"), [(200, 0.5, 10), (192, 0.1, 64), (50, 0.05, 10)])
def test_as_much_is_hidden_as_by_transformers(length: int, share: float, span: int) -> None:
    clips = 3_000
    masking = SpecAugment(share, span, 0.0)
    ours = masking.draw([str(number) for number in range(clips)], torch.full((clips,), length), 8, 0)["time_mask"]
    np.random.seed(0)  # noqa: NPY002 what transformers draws from
    theirs = np.concatenate(
        [_compute_mask_indices((1, length), mask_prob=share, mask_length=span) for _ in range(clips)]
    )
    assert float(ours.float().mean()) == pytest.approx(theirs.mean(), abs=0.01)


def test_a_clip_is_hidden_as_it_is_whatever_comes_with_it() -> None:
    keys, frames = ["a", "b", "c", "a"], torch.tensor([30, 20, 40, 30])
    whole = MASKING.draw(keys, frames, 16, 3)
    part = MASKING.draw(keys[1:3], frames[1:3], 16, 3)
    for name in whole:
        assert torch.equal(whole[name][1:3], part[name])
        assert not torch.equal(whole[name], MASKING.draw(keys, frames, 16, 4)[name])
        assert not torch.equal(whole[name][0], whole[name][3])  # a clip that is drawn twice is not hidden twice alike
    other = SpecAugment(0.4, 3, 0.3, 4, seed=1).draw(keys, frames, 16, 3)
    assert not torch.equal(whole["time_mask"], other["time_mask"])


def test_the_encoder_does_not_see_what_is_hidden() -> None:
    encoder = Encoder.random(ARCHITECTURE)
    clips, lengths = torch.randn(2, 6_400), torch.tensor([6_400, 4_800])
    masks = MASKING.draw(["a", "b"], encoder.frame_lengths(lengths), encoder.dim, 0)

    def hide(module: Any, inputs: Any, outputs: Any) -> Any:
        hidden = outputs[0].clone()
        hidden[masks["time_mask"]] = encoder.model.masked_spec_embed
        for row, channels in zip(hidden, masks["feature_mask"], strict=True):
            row[:, channels] = 0.0
        return hidden, *outputs[1:]

    with torch.no_grad():
        ours = encoder(clips, lengths, None, masks["time_mask"], masks["feature_mask"]).layers
        hook = encoder.model.feature_projection.register_forward_hook(hide)
        theirs = encoder(clips, lengths).layers
        hook.remove()
        plain = encoder(clips, lengths).layers
    for first, second, third in zip(ours, theirs, plain, strict=True):
        torch.testing.assert_close(first, second)
        assert not torch.allclose(first, third, atol=1e-3)
    for wrong in (torch.zeros(2, 16), torch.zeros(2, 15, dtype=torch.bool), torch.zeros(16, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"channels must be bool and \(2, 16\)"):
            encoder(clips, lengths, channels=wrong)


class Tones:
    """Tones of two heights and different lengths."""

    name = "tones"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clips(self) -> list[Clip]:
        made = []
        for number in range(8):
            time = np.arange(5_000 + 700 * number) / 16_000
            path = self.folder / f"{number}.wav"
            audio.save(path, (0.2 * np.sin(2 * np.pi * (200 + 2_800 * (number % 2)) * time)).astype(np.float32))
            labels = {"labels": [["low"], ["high"]][number % 2]}
            made.append(Clip(path.stem, path, split="valid" if number >= 6 else "train", labels=labels))
        return made


@pytest.fixture
def data(tmp_path: Path) -> ShardDataModule:
    shards.prepare(Tones(tmp_path / "audio"), tmp_path / "shards")
    return ShardDataModule(tmp_path / "shards", batch_size=6)


def supervised(data: ShardDataModule, masking: SpecAugment | None, microbatch: int | None = None) -> Objective:
    torch.manual_seed(0)
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.1), warmup_share=0.0)
    heads = {"labels": Multilabel}
    running = MicroBatching(microbatch)
    encoder = Encoder.random(ARCHITECTURE)
    return Objective(encoder, heads, data, optimization, microbatch=running, masking=masking).train()


def test_the_micro_batch_changes_nothing(data: ShardDataModule, tmp_path: Path) -> None:
    modules = [supervised(data, MASKING), supervised(data, MASKING, microbatch=1), supervised(data, None)]
    for module in modules:
        quiet_trainer(tmp_path, max_epochs=3, limit_val_batches=0).fit(module, datamodule=data)
    whole, split, plain = (torch.cat([weight.flatten() for weight in module.parameters()]) for module in modules)
    torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole, plain, rtol=1e-4, atol=1e-5)


def test_nothing_is_hidden_in_validation(data: ShardDataModule, tmp_path: Path) -> None:
    found = []
    for masking in (MASKING, None):
        module = supervised(data, masking)
        trainer = quiet_trainer(tmp_path)
        trainer.validate(module, DataLoader([*data.val_dataloader()], batch_size=None), verbose=False)
        found.append(float(trainer.callback_metrics["valid/labels_loss"]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_time_prob": 1.5}, "objective.masking.mask_time_prob=1.5"),
        ({"mask_feature_prob": -0.1}, "objective.masking.mask_feature_prob=-0.1"),
        ({"mask_time_length": 0}, "objective.masking.mask_time_length=0"),
        ({"mask_feature_length": 2.5}, "objective.masking.mask_feature_length=2.5"),
        ({"mask_feature_length": 17}, "objective.masking.mask_feature_length=17 is more than the 16 channels"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        SpecAugment(**settings).check(Encoder.random(ARCHITECTURE))
    assert message in str(refused.value)


def test_a_model_without_a_mask_embedding_is_refused() -> None:
    encoder = Encoder.random({**ARCHITECTURE, "mask_time_prob": 0.0, "mask_feature_prob": 0.0})
    with pytest.raises(InputError, match="objective.masking.mask_time_prob=0.4 needs a mask embedding"):
        MASKING.check(encoder)
    SpecAugment(mask_time_prob=0.0, mask_feature_length=4).check(encoder)

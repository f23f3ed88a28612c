import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from small import ARCHITECTURE
from torch import nn
from tuned import BLOCKS, DECAY, PEAK, STEPS, SaveAt, Tuned, adamw, assert_close, batches, fit, weights

from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.parameters import groups, trainable_layers
from w2v_abx.training.schedules import Schedule


def of_each(module: Tuned, key: str) -> dict[str, float]:
    """What the optimiser has under ``key`` for every parameter, by name."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = module.trainer.optimizers[0].param_groups
    return {names[id(parameter)]: group[key] for group in groups for parameter in group["params"]}


def test_layers_learn_the_slower_the_deeper_they_lie(tmp_path: Path) -> None:
    module = fit(Tuned(Optimization(adamw(), layer_decay=0.5, head_factor=3.0)), tmp_path)
    scales = of_each(module, "lr_scale")
    assert set(scales) == {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, scale in scales.items():
        expected = 0.5 ** (BLOCKS + 1)
        if name.startswith("head."):
            expected = 3.0
        for block in range(BLOCKS):
            if name.startswith(f"encoder.model.encoder.layers.{block}."):
                expected = 0.5 ** (BLOCKS - block)
        assert scale == pytest.approx(expected), name


@pytest.mark.parametrize(("stable", "scale"), [(True, 0.5), (False, 0.25)])
def test_a_norm_after_the_last_block_lies_as_deep_as_that_block(stable: bool, scale: float) -> None:
    module: Any = nn.Module()
    module.encoder = Encoder.random({**ARCHITECTURE, "do_stable_layer_norm": stable})
    norm = module.encoder.model.encoder.layer_norm.weight.requires_grad_(True)
    (found,) = (group for group in groups(module, 1, 0.5, 1.0, False) if any(norm is each for each in group["params"]))
    assert found["lr_scale"] == scale


@pytest.mark.parametrize("architecture", [{}, {"do_stable_layer_norm": True}, {"model_type": "wavlm"}])
@pytest.mark.parametrize(
    ("train", "seen", "expected"),
    [
        ("all", 3, [0, 1, 2, 3]),
        ("transformer", 1, [0, 1, 2, 3]),
        ("top-3", 3, [1, 2, 3]),
        ("top-2", 3, [2, 3]),
        ("top-2", 2, [2, 3]),  # the last block has no gradient, but another input
        ("top-1", 3, [3]),
        ("top-2", 1, []),
        ("lora", 3, [1, 2, 3]),
        ("lora", 0, []),
        ("head", 3, []),
    ],
)
def test_layers_that_training_can_change_are_those_that_it_does(
    train: str, seen: int, expected: list[int], architecture: dict[str, Any]
) -> None:
    module: Any = nn.Module()
    module.encoder = encoder = Encoder.random({**ARCHITECTURE, "num_hidden_layers": 3, **architecture}, train=train)
    module.heads = nn.ModuleDict({"probe": nn.Linear(encoder.dim, 1)})
    module.heads["probe"].layers = [seen]
    assert trainable_layers(module) == expected
    clip = torch.randn(1, 3200, generator=torch.Generator().manual_seed(0)), torch.tensor([3200])
    before = [state.detach().clone() for state in encoder(*clip).layers]
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # LoRA's A and B are not both changed by the first step
        optimizer.zero_grad()
        module.heads["probe"](encoder(*clip, layers=[seen]).layers[0]).sum().backward()
        optimizer.step()
    after = encoder(*clip).layers
    assert [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)] == expected


def test_the_rate_of_every_group_follows_the_schedule(tmp_path: Path) -> None:
    schedule = Schedule("exponential", 0.3, 0.01, 0.05)
    module = fit(Tuned(Optimization(adamw(), 0.2, schedule, layer_decay=0.5)), tmp_path)
    scales = [group["lr_scale"] for group in module.trainer.optimizers[0].param_groups]
    expected = [[PEAK * schedule.factor(step, 2, STEPS) * scale for scale in scales] for step in range(STEPS)]
    assert len(module.rates) == STEPS
    for found, wanted in zip(module.rates, expected, strict=True):
        assert found == pytest.approx(wanted)


def test_a_warmup_of_almost_all_steps(tmp_path: Path) -> None:
    module = fit(Tuned(Optimization(adamw(), 0.96)), tmp_path)
    assert module.rates[-1] == pytest.approx([PEAK] * len(module.rates[-1]))


def test_by_default_the_steps_are_those_of_one_group(tmp_path: Path) -> None:
    """No decay by layer, and the straight line: what a plain AdamW does at rates written out."""
    module = fit(Tuned(Optimization(adamw(), warmup_share=0.3, decay_all=True)), tmp_path)

    plain = Tuned()
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=DECAY)
    rates = [PEAK * factor for factor in (1 / 4, 2 / 4, 3 / 4, *(1 - n / 7 for n in range(7)))]
    for batch, rate in zip(batches(), rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        plain.loss(batch, {"clips": float(len(batch))})["loss"].backward()
        optimizer.step()
    assert_close(weights(module), weights(plain))


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_biases_and_norms_do_not_decay(family: str, tmp_path: Path) -> None:
    module = fit(Tuned(Optimization(adamw()), family=family), tmp_path, max_steps=1)
    decay = of_each(module, "weight_decay")
    matrices = {
        f"{place}.weight"
        for place, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Embedding) and "pos_conv_embed" not in place
    }
    matrices.add("encoder.model.encoder.pos_conv_embed.conv.parametrizations.weight.original1")
    assert {name for name, value in decay.items() if value} == matrices
    assert set(decay.values()) == {0.0, DECAY}
    everything = fit(Tuned(Optimization(adamw(), decay_all=True), family=family), tmp_path, max_steps=1)
    assert set(of_each(everything, "weight_decay").values()) == {DECAY}


def test_lora_learns_by_depth_too(tmp_path: Path) -> None:
    module = fit(Tuned(Optimization(adamw(), layer_decay=0.5), train="lora"), tmp_path, max_steps=1)
    scales = of_each(module, "lr_scale")
    assert {value for name, value in scales.items() if "lora_A" in name} == {0.5, 0.25, 0.125}
    decay = of_each(module, "weight_decay")
    assert all(value == DECAY for name, value in decay.items() if "lora" in name)  # of one row and column, too


def test_the_fused_step_is_the_plain_one_to_rounding(tmp_path: Path) -> None:
    fused = fit(Tuned(Optimization(adamw()), gradient_clip_norm=0.5), tmp_path)
    plain = fit(Tuned(Optimization(adamw(fused=False)), gradient_clip_norm=0.5), tmp_path)
    assert fused.trainer.optimizers[0].param_groups[0]["fused"] is True
    assert not plain.trainer.optimizers[0].param_groups[0]["fused"]
    assert_close(weights(fused), weights(plain))


def test_a_fused_step_can_be_clipped_under_mixed_precision(tmp_path: Path) -> None:
    """Which Lightning's own clipping refuses."""
    module = fit(Tuned(gradient_clip_norm=1e-9), tmp_path, precision="bf16-mixed", max_steps=1)
    assert module.trainer.optimizers[0].param_groups[0]["fused"] is True


def test_an_optimiser_without_a_fused_form(tmp_path: Path) -> None:
    optimization = Optimization(functools.partial(torch.optim.RMSprop, lr=1e-3), schedule=Schedule(final_scale=1.0))
    module = fit(Tuned(optimization), tmp_path)
    assert module.rates[-1] == pytest.approx([1e-3] * len(module.rates[-1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_share": 1.0}, "optimizer.warmup_share=1.0"),
        ({"layer_decay": 0.0}, "optimizer.layer_decay=0.0"),
        ({"layer_decay": 1.2}, "optimizer.layer_decay=1.2"),
        ({"head_factor": 0.0}, "optimizer.head_factor=0.0"),
        ({"warmup_share": 0.7, "schedule": Schedule(hold_share=0.4)}, "optimizer.schedule.hold_share=0.4"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Optimization(adamw(), **settings)
    assert message in str(refused.value)


def test_a_factor_for_heads_that_do_not_train_is_refused(tmp_path: Path) -> None:
    module = Tuned(Optimization(adamw(), head_factor=2.0))
    module.head.requires_grad_(False)
    with pytest.raises(InputError, match="optimizer.head_factor=2.0 is for heads"):
        fit(module, tmp_path)


def test_a_decay_by_layer_without_layers_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(Tuned(Optimization(adamw(), layer_decay=0.5), train="head"), tmp_path, max_steps=1)
    assert "optimizer.layer_decay=0.5 changes nothing" in caplog.text


@pytest.mark.parametrize("changed", [{"train": "top-1"}, {"optimization": Optimization(adamw(), layer_decay=0.5)}])
def test_a_checkpoint_of_other_groups_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    fit(Tuned(), tmp_path, [SaveAt(2, tmp_path / "part.ckpt")], max_steps=2)
    with pytest.raises(
        InputError, match="give model.train, optimizer.layer_decay and optimizer.decay_all as they were"
    ):
        fit(Tuned(**changed), tmp_path, resume=tmp_path / "part.ckpt")

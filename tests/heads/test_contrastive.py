import math
from typing import Any

import numpy as np
import pytest
import torch
from small import ARCHITECTURE
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from w2v_abx.data import Batch
from w2v_abx.errors import InputError
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.quantizer import GumbelTemperature, QuantizerSizes
from w2v_abx.models.convolutions import normalize
from w2v_abx.models.encoder import Encoder

SIZES = {"groups": 2, "entries": 6, "codevector_dim": 8, "projection_dim": 12}
SETTINGS: dict[str, Any] = {"sizes": QuantizerSizes(**SIZES), "num_negatives": 7, "mask_time_length": 3, "seed": 1}
THEIRS = {
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 6,
    "codevector_dim": 8,
    "proj_codevector_dim": 12,
    "num_negatives": 7,
    "mask_time_prob": 0.5,
}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def make_batch(lengths: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    waveforms = 0.1 * torch.randn(len(lengths), max(lengths), generator=generator)
    for row, length in zip(waveforms, lengths, strict=True):
        row[length:] = 0
    keys = [f"clip{index}" for index in range(len(lengths))]
    return Batch(keys, ["noise"] * len(keys), waveforms, torch.tensor(lengths))


def made(encoder: Encoder, **settings: Any) -> Contrastive:
    return Contrastive(encoder, None, "head", **{**SETTINGS, **settings})  # type: ignore[arg-type]


def drawn(prepared: Batch) -> dict[str, Any]:
    found: dict[str, Any] = prepared.extra["head"]
    return found


def gentle(part: Contrastive) -> Contrastive:
    """Logits near zero: as they are drawn, the entries are all but certain, and most gradients rounding."""
    with torch.no_grad():
        part.quantizer.weight_proj.weight.mul_(0.2)
    return part


def negative_indices(prepared: Batch) -> Tensor:
    """Our negatives as Hugging Face's indices ``(B, F, K)`` into all frames ``(B · F)``."""
    own = drawn(prepared)
    clips, frames = own["mask"].shape
    indices = torch.zeros(clips, frames, SETTINGS["num_negatives"], dtype=torch.long)
    for clip in range(clips):
        count = own["counts"][clip]
        places, negatives = own["places"][clip, :count], own["negatives"][clip, :count, :count]
        for frame, times in zip(places, negatives, strict=True):
            indices[clip, frame] = clip * frames + places.repeat_interleave(times.long())
    return indices


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("architecture", [{}, LARGE], ids=["base", "large"])
def test_it_is_the_loss_of_transformers(
    architecture: dict[str, Any], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.random({**ARCHITECTURE, **THEIRS, **architecture}, seed=3)
    part = gentle(made(encoder, feature_penalty=0.0, extractor_gradient=1.0))
    batch = make_batch([12_000] * 3)
    for module in (encoder, part):
        module.train(training)
    prepared = part.prepare(encoder, batch, 40)
    ours = part.terms(encoder, prepared)

    theirs = Wav2Vec2ForPreTraining(Wav2Vec2Config(**{**ARCHITECTURE, **THEIRS, **architecture})).train(training)
    theirs.wav2vec2.load_state_dict(encoder.model.state_dict())
    left = theirs.load_state_dict(part.state_dict(), strict=False)
    assert not left.unexpected_keys
    own = drawn(prepared)
    theirs.set_gumbel_temperature(own["temperature"].value)
    noise = torch.zeros(*own["mask"].shape, 2, 6)
    inside = part._rated(prepared)[1]
    noise[own["mask"]] = part._noise(own, inside)[inside]

    def gumbel_softmax(logits: Tensor, tau: float, hard: bool) -> Tensor:
        soft = ((logits + noise.reshape(logits.shape)) / tau).softmax(-1)
        return nn.functional.one_hot(soft.argmax(-1), 6) - soft.detach() + soft

    monkeypatch.setattr(nn.functional, "gumbel_softmax", gumbel_softmax)
    expected = theirs(
        normalize(batch.waveforms, batch.lengths),
        mask_time_indices=own["mask"],
        sampled_negative_indices=negative_indices(prepared),
    )
    torch.testing.assert_close(ours["contrastive"], expected.contrastive_loss)
    if not training:
        summary = part.summary(ours, part.total(prepared))
        torch.testing.assert_close(summary["code_perplexity"], expected.codevector_perplexity)  # it counts choices
    else:
        perplexity = ours["perplexity"] / part.total(prepared)
        torch.testing.assert_close(perplexity, expected.codevector_perplexity)
        torch.testing.assert_close(ours["diversity"], expected.diversity_loss)
        torch.testing.assert_close(ours["loss"], expected.loss)
        ours["loss"].backward()
        expected.loss.backward()
        wanted = dict(theirs.named_parameters())
        for name, parameter in [*encoder.model.named_parameters(prefix="wav2vec2"), *part.named_parameters()]:
            if parameter.requires_grad:
                torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-3, atol=1e-4, msg=name)


def split(batch: Batch, sizes: list[int]) -> list[Batch]:
    return [batch.slice(stop - size, stop) for size, stop in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def slow_reference(encoder: Encoder, part: Contrastive, prepared: Batch, negatives: Tensor) -> dict[str, float]:
    """The mean losses in plain loops, one clip and one frame at a time; ``negatives`` as Hugging Face's."""
    weights = {name: value.detach().double().numpy() for name, value in part.state_dict().items()}
    codebooks = weights["quantizer.codevectors"].reshape(2, 6, 4)
    losses, right, usage, squares, total = [], [], [], [], 0
    for clip, length in enumerate(prepared.lengths.tolist()):
        waveform, lengths = prepared.waveforms[clip : clip + 1, :length], prepared.lengths[clip : clip + 1]
        frames = int(encoder.frame_lengths(lengths))
        mask = drawn(prepared)["mask"][clip : clip + 1, :frames]
        total += frames
        with torch.no_grad():
            raw = encoder.model.feature_extractor(normalize(waveform, lengths))[0].T
            features = encoder.model.feature_projection.layer_norm(raw)
            hidden = encoder(waveform, lengths, [1], mask=mask).layers[0][0].double().numpy()
        squares.append(raw.double().square().mean(1).sum().item())
        masked = mask[0].nonzero()[:, 0].tolist()
        if len(masked) < 2:
            continue
        noise = part._noise(drawn(prepared), part._rated(prepared)[1])[clip, : len(masked)].double().numpy()
        codes, targets = {}, {}
        for frame, gumbel in zip(masked, noise, strict=True):
            logits = features[frame].double().numpy() @ weights["quantizer.weight_proj.weight"].T
            logits = (logits + weights["quantizer.weight_proj.bias"]).reshape(2, 6)
            usage.append(softmax(logits))
            codes[frame] = (logits + gumbel).argmax(-1)
            vector = np.concatenate([codebooks[group, code] for group, code in enumerate(codes[frame])])
            targets[frame] = weights["project_q.weight"] @ vector + weights["project_q.bias"]
        for frame in masked:
            predicted = weights["project_hid.weight"] @ hidden[frame] + weights["project_hid.bias"]
            others = [int(index) - clip * drawn(prepared)["mask"].shape[1] for index in negatives[clip, frame]]
            logits = [cosine(predicted, targets[frame]) / 0.1]
            logits += [
                cosine(predicted, targets[other]) / 0.1 for other in others if (codes[other] != codes[frame]).any()
            ]
            losses.append(-math.log(softmax(np.array(logits))[0]))
            right.append(len(logits) > 1 and logits[0] > max(logits[1:]))
    marginal = np.mean(usage, axis=0)
    perplexity = float(np.exp(-(marginal * np.log(marginal)).sum(-1)).sum())
    found = {
        "contrastive": float(np.mean(losses)),
        "accuracy": float(np.mean(right)),
        "perplexity": perplexity,
        "diversity": 1 - perplexity / 12,
        "penalty": sum(squares) / total,
    }
    return found | {"loss": found["contrastive"] + 0.1 * found["diversity"] + 10 * found["penalty"]}


MIXED = [12_000, 9_111, 3_000, 400, 7_000]  # the fourth has a single frame, which has no negatives


def test_clips_of_mixed_lengths_equal_a_slow_reference() -> None:
    encoder = Encoder.random({**ARCHITECTURE, **THEIRS}, seed=3)
    part = gentle(made(encoder)).train()
    prepared = part.prepare(encoder, make_batch(MIXED), 3)
    assert drawn(prepared)["counts"][3] == 0
    assert drawn(prepared)["mask"][3].any()
    ours = part.terms(encoder, prepared)
    for name, expected in slow_reference(encoder, part, prepared, negative_indices(prepared)).items():
        assert float(ours[name].detach()) / part.total(prepared) == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("train", ["all", "transformer"])
def test_micro_batches_add_up_to_the_whole(family: str, train: str) -> None:
    """Losses and gradients, diversity's among them, of any encoder and in any micro-batches."""
    architecture = {**ARCHITECTURE, "model_type": family, "mask_time_prob": 0.5, "num_hidden_layers": 2}
    encoder = Encoder.random(architecture, seed=3, train=train).train()
    # Mostly the diversity loss, whose gradient depends on clips that are elsewhere.
    part = gentle(made(encoder, diversity_weight=30.0)).train()
    batch, modules = make_batch(MIXED), nn.ModuleList([encoder, part])
    results = []
    for sizes in ([5], [2, 3], [1] * 5):
        modules.zero_grad()
        part.split = lambda batch, sizes=sizes: split(batch, sizes)
        prepared = part.prepare(encoder, batch, 3)
        sums: dict[str, float] = {}
        for micro in split(prepared, sizes):
            terms = part.terms(encoder, micro)
            terms["loss"].backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        gradients = {name: p.grad.clone() for name, p in modules.named_parameters() if p.grad is not None}
        results.append((sums, gradients))
    whole, *others = results
    assert any("weight_proj" in name for name in whole[1])
    assert any("feature_extractor" in name for name in whole[1]) == (train == "all")
    for sums, gradients in others:
        assert sums == pytest.approx(whole[0], rel=1e-5)
        assert gradients.keys() == whole[1].keys()
        for name, gradient in gradients.items():
            scale = float(whole[1][name].abs().max())
            torch.testing.assert_close(gradient, whole[1][name], rtol=1e-4, atol=1e-5 * scale + 1e-6, msg=name)


def test_dropout_leaves_the_usage_of_the_codebooks_alone() -> None:
    """In whole batches and in micro-batches, whose usage a pass before them finds."""
    encoder = Encoder.random(ARCHITECTURE, seed=3).train()
    perplexities = []
    for dropout, sizes in ((0.0, [5]), (0.5, [5]), (0.5, [2, 3])):
        part = gentle(made(encoder, feature_dropout=dropout)).train()
        prepared = part.prepare(encoder, make_batch(MIXED), 3)
        micros = split(prepared, sizes)
        perplexities.append(sum(float(part.terms(encoder, micro)["perplexity"]) for micro in micros))
    assert perplexities == pytest.approx([perplexities[0]] * 3, rel=1e-5)


def test_bfloat16_micro_batches_keep_their_gradients() -> None:
    """The pass that finds the usage of the codebooks leaves nothing in autocast's cache that has no gradient."""
    encoder = Encoder.random(ARCHITECTURE, seed=3).train()
    part = gentle(made(encoder)).train()
    found = []
    for size in (3, 1):
        nn.ModuleList([encoder, part]).zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            prepared = part.prepare(encoder, make_batch([6_000] * 3), 0)
            if size == 1:
                drawn(prepared)["coupling"].value[1]()  # as where there are several ranks
            for start in range(0, 3, size):
                part.terms(encoder, prepared.slice(start, start + size))["loss"].backward()
        found.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        if gradient.norm() > 0.1:
            assert torch.cosine_similarity(gradient.flatten(), found[0][name].flatten(), dim=0) > 0.9, name


def test_the_convolutions_learn_more_slowly() -> None:
    gradients = []
    for factor in (1.0, 0.25, 0.0):
        encoder = Encoder.random(ARCHITECTURE, seed=3).train()
        part = gentle(made(encoder, extractor_gradient=factor)).train()
        part.terms(encoder, part.prepare(encoder, make_batch([6_000] * 2), 0))["loss"].backward()
        gradients.append({name: p.grad for name, p in encoder.model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        for other, factor in ((gradients[1], 0.25), (gradients[2], 0.0)):
            expected = gradient * (factor if name.startswith("feature_extractor") else 1.0)
            torch.testing.assert_close(other[name], expected, msg=name)


def test_a_collapsed_codebook_is_no_success() -> None:
    """All frames alike: nothing is to be told apart, and the accuracy says so, and so does the perplexity."""
    encoder = Encoder.random(ARCHITECTURE, seed=3)
    part = made(encoder).train()
    with torch.no_grad():
        part.quantizer.weight_proj.weight.zero_()
        part.quantizer.weight_proj.bias.copy_(100.0 * (torch.arange(12) % 6 == 2))
    prepared = part.prepare(encoder, make_batch([6_000] * 2), 0)
    rated = part.total(prepared)
    sums = {name: float(value.detach()) / rated for name, value in part.terms(encoder, prepared).items()}
    assert sums["contrastive"] == pytest.approx(0.0, abs=1e-6)
    assert sums["accuracy"] == 0.0
    assert sums["perplexity"] == sums["code_perplexity"] == pytest.approx(2.0)
    assert sums["diversity"] == pytest.approx(1 - 2 / 12)


def test_the_temperature_falls_to_its_floor() -> None:
    encoder = Encoder.random(ARCHITECTURE)
    part = made(encoder, gumbel=GumbelTemperature(2.0, 0.5, 0.3)).train()
    batch = make_batch([6_000] * 2)
    prepared = [part.prepare(encoder, batch, step) for step in range(5)]
    assert [drawn(each)["temperature"].value for each in prepared] == [2.0, 1.0, 0.5, 0.3, 0.3]
    sums = part.terms(encoder, prepared[1])
    assert float(sums["temperature"]) / part.total(prepared[1]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_negatives": 0}, "num_negatives=0 must be a whole number from 1"),
        ({"mask_time_length": 2.5}, "mask_time_length=2.5"),
        ({"mask_time_prob": 0.0}, "mask_time_prob=0.0"),
        ({"sizes": QuantizerSizes(**{**SIZES, "entries": 0})}, "sizes.entries=0"),
        (
            {"sizes": QuantizerSizes(**{**SIZES, "groups": 3})},
            "sizes.codevector_dim=8 must be a multiple of objective.heads.head.sizes.groups=3",
        ),
        ({"contrast_temperature": 0.0}, "contrast_temperature=0.0"),
        ({"gumbel": GumbelTemperature(start=-1.0)}, "gumbel.start=-1.0"),
        ({"gumbel": GumbelTemperature(decay=1.1)}, "gumbel.decay=1.1"),
        ({"gumbel": GumbelTemperature(floor=3.0)}, "gumbel.floor=3.0 must be .*objective.heads.head.gumbel.start=2.0"),
        ({"diversity_weight": math.nan}, "diversity_weight=nan"),
        ({"feature_penalty": -1.0}, "feature_penalty=-1.0"),
        ({"extractor_gradient": 2.0}, "extractor_gradient=2.0"),
        ({"feature_dropout": 1.0}, "feature_dropout=1.0"),
    ],
)
def test_values_out_of_range_are_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"objective\.heads\.head\.{message}"):
        made(Encoder.random(ARCHITECTURE), **setting)

import json
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from small import ARCHITECTURE
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertModel,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMForCTC,
    WavLMModel,
)

from w2v_abx.errors import InputError
from w2v_abx.models.convolutions import convolve, frame_count
from w2v_abx.models.encoder import Encoder

FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2ForPreTraining),
    "hubert": (HubertConfig, HubertModel, HubertForCTC),
    "wavlm": (WavLMConfig, WavLMModel, WavLMForCTC),
}
MODELS = [f"{family}-{norm}" for family in FAMILIES for norm in ("group", "layer")]
MODELS += ["hubert-batch", "wav2vec2-eager-layer"]
BLOCKS = 3
FIELD = 400  # samples under one frame of these convolutions


def family(name: str) -> str:
    return name.partition("-")[0]


def attention(name: str) -> str:
    """The attention kernel; each wants its mask in another form, and WavLM has one of its own."""
    return "eager" if "eager" in name or family(name) == "wavlm" else "sdpa"


def tiny(name: str) -> Any:
    """The configuration of a small model of the family and norm that ``name`` says."""
    large = name.endswith("layer")
    settings: dict[str, Any] = {"conv_pos_batch_norm": True} if name.endswith("batch") else {}
    return FAMILIES[family(name)][0](
        hidden_size=16,
        num_hidden_layers=BLOCKS,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=[8] * 7,
        conv_bias=large,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        num_codevectors_per_group=4,
        codevector_dim=8,
        proj_codevector_dim=8,
        vocab_size=5,
        # Attention of an untrained model is all but uniform; larger weights let a leak through it show.
        initializer_range=0.5,
        **settings,
    )


def randomised(model: Any) -> Any:
    """Give norms and biases, which start at one and zero, values that a mistake cannot hide behind."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if value.ndim == 1 and value.is_floating_point():
                value.uniform_(0.5, 1.5, generator=generator) if "weight" in name or "var" in name else value.normal_(
                    generator=generator
                )
    return model


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These models are too small for more to help."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with a head on top, for each model."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name in MODELS:
            randomised(FAMILIES[family(name)][2](tiny(name))).save_pretrained(folder / name)
    return {name: folder / name for name in MODELS}


@pytest.fixture(scope="session")
def encoders(folders: dict[str, Path]) -> dict[str, Encoder]:
    encoders = {name: Encoder.load(folder) for name, folder in folders.items()}
    for name, encoder in encoders.items():
        encoder.model.set_attn_implementation(attention(name))
    return encoders


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Noise whose level drifts and that has an offset, so that statistics over too much or too little show."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(*shape, generator=generator) * torch.linspace(0.02, 0.2, shape[-1])
    return samples + 0.05


def far(values: torch.Tensor, reference: torch.Tensor) -> float:
    return float((values - reference).norm() / reference.norm())


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_alone_gives_the_hidden_states_of_hugging_face(
    folders: dict[str, Path], encoders: dict[str, Encoder], name: str
) -> None:
    model = FAMILIES[family(name)][1].from_pretrained(folders[name]).eval()
    model.set_attn_implementation(attention(name))
    clip = noise(5000)
    values = Wav2Vec2FeatureExtractor()(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = model(values, output_hidden_states=True).hidden_states
        features = encoders[name](clip[None], torch.tensor([5000]))
    assert len(features.layers) == len(expected) == encoders[name].n_layers == BLOCKS + 1
    assert features.lengths.tolist() == [expected[0].shape[1]]
    for ours, theirs in zip(features.layers, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=6, deadline=None)
@given(
    lengths=st.lists(st.integers(FIELD, 4000), min_size=2, max_size=4),
    extra=st.integers(0, 2000),
    seed=st.integers(0, 2**32 - 1),
)
def test_padding_never_changes_features(
    encoders: dict[str, Encoder], name: str, lengths: list[int], extra: int, seed: int
) -> None:
    encoder = encoders[name]
    # What lies past a clip's end is anything at all, not only zeros.
    waveforms = noise(len(lengths), max(lengths) + extra, seed=seed)
    waveforms[0, lengths[0] :] = torch.nan
    with torch.no_grad():
        batch = encoder(waveforms, torch.tensor(lengths))
        for n, length in enumerate(lengths):
            alone = encoder(waveforms[n : n + 1, :length], torch.tensor([length]))
            frames = int(alone.lengths)
            assert batch.lengths[n] == frames == alone.layers[0].shape[1]
            for padded, expected in zip(batch.layers, alone.layers, strict=True):
                assert far(padded[n, :frames], expected[0]) < 1e-4
                assert not padded[n, frames:].any()


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernels", "strides"), [((10, 3, 2), (5, 2, 2)), ((5, 1, 7), (2, 1, 3)), ((3, 2), (4, 3))])
def test_convolutions_and_their_gradients_are_those_of_each_clip_alone(
    norm: str, bias: bool, kernels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    shapes = {
        "conv_dim": [6] * len(kernels),
        "conv_kernel": kernels,
        "conv_stride": strides,
        "num_feat_extract_layers": len(kernels),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {**tiny(f"wav2vec2-{norm}").to_dict(), **shapes, "conv_bias": bias}
        model = Wav2Vec2Model(Wav2Vec2Config(**config))
    extractor = randomised(model).feature_extractor.eval()
    lengths = torch.tensor([700, 400, 555])
    waveforms = noise(3, 700).masked_fill(torch.arange(700) >= lengths[:, None], 0.0)
    alone = [extractor(waveforms[n : n + 1, :length])[0].T for n, length in enumerate(lengths.tolist())]
    sum(output.square().sum() for output in alone).backward()
    expected = [parameter.grad for parameter in extractor.parameters()]
    scale = max(float(gradient.abs().max()) for gradient in expected)
    extractor.zero_grad()
    batch = convolve(extractor.conv_layers, waveforms, lengths, checkpointing=False)
    assert batch.shape == (3, frame_count(700, kernels, strides), 6)
    together = [output[: len(reference)] for output, reference in zip(batch, alone, strict=True)]
    for output, reference in zip(together, alone, strict=True):
        torch.testing.assert_close(output, reference, rtol=1e-4, atol=1e-5)
    sum(output.square().sum() for output in together).backward()
    for parameter, reference in zip(extractor.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, reference, rtol=1e-3, atol=1e-5 * scale)


def test_the_group_norm_of_a_channel_that_hears_little_of_a_clip(folders: dict[str, Path]) -> None:
    # The clip is a slow wave that a first difference all but cancels, and noise 80 dB below it.
    encoder = Encoder.load(folders["wav2vec2-group"])
    layer = encoder.model.feature_extractor.conv_layers[0]
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[:, 0, 4], layer.conv.weight[:, 0, 5] = 1.0, -1.0
    clip = torch.sin(torch.arange(16_000) * 0.001)[None] + noise(1, 16_000) / 1000
    with torch.no_grad():
        exact = layer.double()(clip.double()[:, None])
        layer.float()
        found = convolve([layer], torch.nn.functional.pad(clip, (0, 777)), torch.tensor([16_000]), checkpointing=False)
    assert far(found[0, : exact.shape[2]].double(), exact[0].T) < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_of_nan_stays_alone(encoders: dict[str, Encoder], name: str) -> None:
    waveforms, lengths = noise(3, 2000), torch.tensor([2000, 1300, 1999])
    with torch.no_grad():
        expected = encoders[name](waveforms, lengths).layers[-1]
        waveforms[1, 0] = torch.nan
        found = encoders[name](waveforms, lengths).layers[-1]
    assert found[1].isnan().any()
    torch.testing.assert_close(found[::2], expected[::2])


class NoWaiting(TorchDispatchMode):
    """Refuses to read a value of a tensor, which on an accelerator would wait for all that is under way."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["wav2vec2-group", "wav2vec2-layer", "hubert-batch"])
def test_nothing_waits_for_the_device(encoders: dict[str, Encoder], name: str) -> None:
    with torch.no_grad(), NoWaiting():
        encoders[name](noise(2, 3000), torch.tensor([3000, 2000]), mask=torch.ones(2, 9, dtype=torch.bool))


def test_samples_as_they_are_where_the_preprocessor_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = Encoder.load(folders["wav2vec2-layer"])
    encoder.normalized = False
    encoder.save(tmp_path / "plain")
    plain = Encoder.load(tmp_path / "plain")
    model = Wav2Vec2Model.from_pretrained(tmp_path / "plain").eval()
    waveforms = noise(2, 3000)
    with torch.no_grad():
        expected = model(waveforms[:1, :2000], output_hidden_states=True).hidden_states[-1]
        features = plain(waveforms, torch.tensor([2000, 3000]), [BLOCKS])
    torch.testing.assert_close(features.layers[0][0, : expected.shape[1]], expected[0], rtol=1e-5, atol=2e-5)


def test_asked_layers_come_in_the_order_asked(encoders: dict[str, Encoder]) -> None:
    encoder = encoders["wavlm-layer"]
    waveforms, lengths = noise(2, 3000), torch.tensor([3000, 2500])
    with torch.no_grad():
        every = encoder(waveforms, lengths).layers
        some = encoder(waveforms, lengths, [2, 0, 2]).layers
    assert [torch.equal(a, every[n]) for a, n in zip(some, [2, 0, 2], strict=True)] == [True] * 3


def test_blocks_above_the_highest_asked_layer_do_not_run(encoders: dict[str, Encoder]) -> None:
    encoder, ran = encoders["wav2vec2-group"], []
    hooks = [
        block.register_forward_hook(lambda *_, n=n: ran.append(n))
        for n, block in enumerate(encoder.model.encoder.layers)
    ]
    encoder(noise(1, 1000), torch.tensor([1000]), [1])
    for hook in hooks:
        hook.remove()
    assert ran == [0]


@pytest.mark.parametrize("layers", [[], [BLOCKS + 1], [-1]])
def test_a_layer_that_is_not_there_is_an_error(encoders: dict[str, Encoder], layers: list[int]) -> None:
    with pytest.raises(InputError, match="from 0 to 3"):
        encoders["hubert-group"](noise(1, 1000), torch.tensor([1000]), layers)


def test_a_clip_shorter_than_a_frame_is_an_error(encoders: dict[str, Encoder]) -> None:
    encoder = encoders["wav2vec2-group"]
    assert encoder.receptive_field == FIELD
    assert encoder.frequency == 50.0
    assert encoder.frame_lengths(torch.tensor([0, 399, 400, 719, 720, 16_000])).tolist() == [0, 0, 1, 1, 2, 49]
    with pytest.raises(InputError, match=r"clip 1 .* 399 samples.*400 samples, 25 ms"):
        encoder(noise(2, 1000), torch.tensor([1000, 399]))


@pytest.mark.parametrize(
    ("waveforms", "lengths"),
    [
        (noise(1000), torch.tensor([1000])),
        (noise(2, 1000), torch.tensor([1000])),
        (noise(1, 1000), torch.tensor([1001])),
        (torch.ones(1, 1000, dtype=torch.int16), torch.tensor([1000])),
    ],
)
def test_tensors_of_the_wrong_shape_are_errors(
    encoders: dict[str, Encoder], waveforms: torch.Tensor, lengths: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match=r"waveforms must be|said to have"):
        encoders["wav2vec2-group"](waveforms, lengths)


@pytest.mark.parametrize("name", ["wav2vec2-group", "hubert-layer"])
def test_a_masked_frame_is_unseen_and_its_neighbours_notice(encoders: dict[str, Encoder], name: str) -> None:
    encoder = encoders[name]
    waveforms, lengths = noise(2, 4000), torch.tensor([4000, 3000])
    mask = torch.zeros(2, int(encoder.frame_lengths(lengths).max()), dtype=torch.bool)
    mask[0, 3:6] = True
    with torch.no_grad():
        plain, masked = encoder(waveforms, lengths).layers, encoder(waveforms, lengths, mask=mask).layers
        everything = encoder(waveforms, lengths, mask=torch.ones_like(mask)).layers[-1]
        other = encoder(noise(2, 4000, seed=5), lengths, mask=torch.ones_like(mask)).layers[-1]
        # A mask drawn for the clips, in a batch that is padded further.
        further = encoder(torch.nn.functional.pad(waveforms, (0, 3000)), lengths, mask=mask).layers
    assert far(masked[-1][0], plain[-1][0]) > 0.01
    torch.testing.assert_close(masked[-1][1], plain[-1][1])
    torch.testing.assert_close(everything, other)
    torch.testing.assert_close(further[-1][:, : mask.shape[1]], masked[-1], rtol=1e-4, atol=1e-4)
    for wrong in (mask[:1], mask[:, :-1], mask.float()):
        with pytest.raises(ValueError, match="mask must be bool"):
            encoder(waveforms, lengths, mask=wrong)


@pytest.mark.parametrize("name", ["wav2vec2-group", "wav2vec2-layer", "hubert-batch", "wavlm-group"])
def test_saved_models_load_here_and_in_transformers(encoders: dict[str, Encoder], tmp_path: Path, name: str) -> None:
    encoder, folder = encoders[name], tmp_path / "a" / "model"
    encoder.save(folder)
    (folder / "notes.txt").write_text("mine")
    encoder.save(folder)  # over itself
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "notes.txt",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    theirs = FAMILIES[family(name)][1].from_pretrained(folder).eval()
    prepare = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    assert prepare.return_attention_mask == (name.endswith("layer"))
    clip, length = noise(2000), torch.tensor([2000])
    with torch.no_grad():
        expected = encoder(clip[None], length).layers
        again = Encoder.load(str(folder))(clip[None], length).layers
        values = prepare(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
        states = theirs(values, output_hidden_states=True).hidden_states
    for a, b, c in zip(expected, again, states, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=1e-5, atol=2e-5)


def test_torch_weights_and_shards_load(folders: dict[str, Path], encoders: dict[str, Encoder], tmp_path: Path) -> None:
    source = folders["wavlm-group"]
    torch_folder, sharded = tmp_path / "torch", tmp_path / "sharded"
    torch_folder.mkdir()
    torch.save(load_file(source / "model.safetensors"), torch_folder / "pytorch_model.bin")
    (torch_folder / "config.json").write_bytes((source / "config.json").read_bytes())
    encoders["wavlm-group"].model.save_pretrained(sharded, max_shard_size="8KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    expected = encoders["wavlm-group"].model.state_dict()
    for folder in (torch_folder, sharded):
        loaded = Encoder.load(folder).model.state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)


class Evil:
    """Unpickles by running code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def copy(source: Path, target: Path, **changed: Any) -> Path:
    """A checkpoint as ``source``, with other values in its config.json."""
    target.mkdir()
    for name in ("config.json", "model.safetensors"):
        (target / name).write_bytes((source / name).read_bytes())
    settings = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**settings, **changed}))
    return target


def test_checkpoints_that_cannot_be_are_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    source = folders["wav2vec2-group"]
    tensors = load_file(source / "model.safetensors")

    def altered(name: str, content: dict[str, torch.Tensor]) -> Path:
        folder = copy(source, tmp_path / name)
        save_file(content, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    bert = tmp_path / "bert"
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    ).save_pretrained(bert)
    disguised = tmp_path / "disguised"
    disguised.mkdir()
    (disguised / "config.json").write_bytes((source / "config.json").read_bytes())
    (disguised / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    truncated = copy(source, tmp_path / "truncated")
    (truncated / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:-1000])
    garbled = copy(source, tmp_path / "garbled")
    (garbled / "config.json").write_text("{")
    weightless = copy(source, tmp_path / "weightless")
    (weightless / "model.safetensors").unlink()
    evil = copy(source, tmp_path / "evil")
    (evil / "model.safetensors").unlink()
    torch.save({"x": Evil(tmp_path / "ran")}, evil / "pytorch_model.bin")
    slow = copy(source, tmp_path / "slow")
    (slow / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    (tmp_path / "empty").mkdir()
    file = tmp_path / "file.txt"
    file.write_text("no model")
    bias = "wav2vec2.encoder.layers.1.attention.k_proj.bias"
    cases = {
        bert: "model_type 'bert'",
        disguised: "lack",
        truncated: "cannot be read",
        garbled: "JSON",
        weightless: "has no weights",
        evil: "cannot be read",
        slow: "8000 Hz",
        tmp_path / "empty": "no config.json",
        file: "no config.json",
        tmp_path / "absent": "there is no folder",
        altered(
            "less", {key: value for key, value in tensors.items() if key != bias}
        ): f"lack 1 tensors, such as {bias[9:]}",
        altered("more", {**tensors, "wav2vec2.encoder.layers.3.final.bias": torch.zeros(2)}): "unknown 1 tensors",
        altered("other", {**tensors, bias: torch.zeros(3)}): "shapes",
        copy(source, tmp_path / "fewer", num_hidden_layers=2): "unknown",
        copy(source, tmp_path / "wider", intermediate_size=32): "shapes",
        copy(source, tmp_path / "odd", num_attention_heads=3): "does not make a wav2vec2 model",
        copy(source, tmp_path / "type", hidden_size="wide"): "does not make a wav2vec2 model",
    }
    for folder, message in cases.items():
        with pytest.raises(InputError) as caught:
            Encoder.load(folder)
        assert message in str(caught.value), folder
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["someone/no-such-model", "./nowhere", "/no/where", "a/b/c", "not a name"])
def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="wav2vec2, hubert or wavlm checkpoint") as caught:
        Encoder.load(source)
    assert source in str(caught.value)


def test_a_model_in_the_hub_cache_loads_without_a_network(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path], tmp_path: Path
) -> None:
    commit = "0" * 40
    repository = tmp_path / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    copy(folders["hubert-group"], repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert Encoder.load("someone/tiny").n_layers == BLOCKS + 1


def test_a_checkpoint_without_mask_embedding_loads_and_says_so(
    folders: dict[str, Path], encoders: dict[str, Encoder], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy(folders["wav2vec2-group"], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["wav2vec2.masked_spec_embed"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = Encoder.load(folder)
    assert "no mask embedding" in caplog.text
    assert not encoder.model.masked_spec_embed.any()
    clip, length = noise(1, 2000), torch.tensor([2000])
    with torch.no_grad():
        assert torch.equal(encoder(clip, length).layers[-1], encoders["wav2vec2-group"](clip, length).layers[-1])


@pytest.mark.parametrize("name", ["wav2vec2-group", "wavlm-layer"])
def test_random_weights_are_a_function_of_the_seed(folders: dict[str, Path], name: str) -> None:
    state, other_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (Encoder.random(folders[name], seed).model.state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == other_state).all()  # noqa: NPY002
    assert first.keys() == FAMILIES[family(name)][1].from_pretrained(folders[name]).state_dict().keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["masked_spec_embed"], other["masked_spec_embed"])
    weight = "encoder.layers.1.attention.k_proj.weight"
    assert not torch.equal(first[weight], other[weight])


def test_a_random_model_from_a_configuration(tmp_path: Path) -> None:
    content = {key: value for key, value in tiny("hubert-group").to_dict().items() if value is not None}
    plain, hydra = Encoder.random(content, 1), Encoder.random(OmegaConf.create(content), 1)
    clip = noise(1, 1000)
    with torch.no_grad():
        expected = plain(clip, torch.tensor([1000])).layers[-1]
        assert torch.equal(hydra(clip, torch.tensor([1000])).layers[-1], expected)
    hydra.save(tmp_path / "model")
    with pytest.raises(InputError, match="the given configuration has model_type None"):
        Encoder.random({"hidden_size": 8})


def test_loading_leaves_the_random_state(folders: dict[str, Path]) -> None:
    state = torch.get_rng_state()
    Encoder.load(folders["wav2vec2-group"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["wav2vec2-layer", "wavlm-group"])
@pytest.mark.parametrize(
    ("mode", "trains"),
    [
        ("all", ("feature_extractor", "feature_projection", "encoder.pos_conv_embed", "encoder.layers.0")),
        ("transformer", ("feature_projection", "encoder.pos_conv_embed", "encoder.layers.0", "encoder.layers.1")),
        ("top-1", ("encoder.layers.2",)),
        ("top-3", ("encoder.layers.0", "encoder.layers.1", "encoder.layers.2")),
        ("head", ()),
    ],
)
def test_what_trains(folders: dict[str, Path], name: str, mode: str, trains: tuple[str, ...]) -> None:
    encoder = Encoder.load(folders[name], train=mode, layer_drop=0.0)
    encoder.train()
    hidden = encoder(noise(2, 2000), torch.tensor([2000, 1500]), [BLOCKS]).layers[0]
    trainable = {key for key, value in encoder.model.named_parameters() if value.requires_grad}
    assert bool(trainable) == hidden.requires_grad
    if trainable:
        (hidden * noise(16)).sum().backward()
    moved = {key for key, value in encoder.model.named_parameters() if value.grad is not None}
    # Whatever is said to train gets a gradient; the mask embedding does when there is a mask.
    assert trainable - moved <= {"masked_spec_embed"}
    assert all(any(key.startswith(part) for key in moved) for part in trains)
    if mode.startswith("top") or mode == "head":
        assert all(key.startswith(trains) for key in trainable)
    assert any(key.startswith("feature_extractor") for key in moved) == (mode == "all")


@pytest.mark.parametrize("mode", ["top-0", "top-4", "top", "some", ""])
def test_an_unknown_way_to_train(folders: dict[str, Path], mode: str) -> None:
    with pytest.raises(InputError, match="top-N with N from 1 to 3"):
        Encoder.load(folders["wav2vec2-group"], train=mode)


def test_frozen_parts_stay_in_evaluation_mode(folders: dict[str, Path]) -> None:
    encoder = Encoder.load(folders["hubert-batch"], train="top-1", dropout=0.5)
    clip, length = noise(1, 3000), torch.tensor([3000])
    still = encoder(clip, length).layers
    encoder.train()
    moving = encoder(clip, length).layers
    assert [torch.equal(a, b) for a, b in zip(still, moving, strict=True)] == [True, True, True, False]


@pytest.mark.parametrize(("mode", "keeps"), [("all", True), ("transformer", False), ("top-1", False), ("head", False)])
def test_a_frozen_convolutional_stack_keeps_nothing_for_a_backward_pass(
    folders: dict[str, Path], mode: str, keeps: bool
) -> None:
    encoder = Encoder.load(folders["wav2vec2-group"], train=mode, layer_drop=0.0).train()
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 1
        return tensor

    def entered(module: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        assert (kept > 0, given[0].requires_grad) == (keeps, keeps)

    encoder.model.feature_projection.register_forward_pre_hook(entered)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(noise(2, 8_000), torch.tensor([8_000, 6_000]))
    assert (kept > 0) == (mode != "head")


def test_layer_drop_skips_blocks_in_training_alone(folders: dict[str, Path]) -> None:
    encoder = Encoder.load(folders["wavlm-group"], dropout=0.0, layer_drop=0.999)
    clip, length = noise(1, 2000), torch.tensor([2000])
    whole = encoder(clip, length).layers
    encoder.train()
    torch.manual_seed(0)
    dropped = encoder(clip, length).layers
    assert torch.equal(dropped[1], whole[1])  # the first block of WavLM makes the position bias and stays
    assert torch.equal(dropped[3], dropped[1])
    assert not torch.equal(whole[3], whole[1])


@pytest.mark.parametrize("changed", [{"dropout": -0.1}, {"dropout": 1.0}, {"layer_drop": 2.0}])
def test_probabilities_out_of_range(folders: dict[str, Path], changed: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be a probability"):
        Encoder.load(folders["wav2vec2-group"], **changed)


@pytest.mark.parametrize("name", ["wav2vec2-group", "hubert-layer", "wavlm-layer"])
def test_gradient_checkpointing_changes_no_gradient(folders: dict[str, Path], name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = Encoder.load(folders[name], dropout=0.1, gradient_checkpointing=checkpointing)
        encoder.train()
        calls: list[int] = []
        hook = encoder.model.encoder.layers[1].attention.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(0)
        hidden = encoder(noise(2, 3000), torch.tensor([3000, 2000]), [BLOCKS]).layers[0]
        hidden.square().sum().backward()
        hook.remove()
        assert len(calls) == 1 + checkpointing
        gradients.append({key: p.grad for key, p in encoder.named_parameters() if p.grad is not None})
    plain, recomputed = gradients
    assert plain.keys() == recomputed.keys()
    for key in plain:
        torch.testing.assert_close(recomputed[key], plain[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["wav2vec2-group", "hubert-layer", "wavlm-group"])
def test_bf16_autocast_runs_and_trains(folders: dict[str, Path], name: str) -> None:
    encoder = Encoder.load(folders[name], dropout=0.0, layer_drop=0.0)
    waveforms, lengths = noise(2, 4000), torch.tensor([4000, 3000])
    exact = encoder(waveforms, lengths).layers[-1].detach()
    encoder.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(waveforms, lengths).layers[-1]
    assert far(rounded.detach().float(), exact) < 0.3
    rounded.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_loud_clips_keep_their_statistics_under_autocast(encoders: dict[str, Encoder]) -> None:
    # Sums over a second of audio are far beyond what bfloat16 can add up.
    encoder = encoders["wav2vec2-group"]
    clip = torch.cat([torch.full((8000,), 0.9), torch.full((8000,), 0.8)])[None] + noise(1, 16_000) / 50
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        alone = encoder(clip, torch.tensor([16_000]), [0]).layers[0]
        padded = encoder(torch.nn.functional.pad(clip, (0, 9000)), torch.tensor([16_000]), [0]).layers[0]
    assert far(padded[:, :49].float(), alone.float()) < 0.02


def test_compiled_blocks_give_the_same_features_and_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced and differentiated as ever, but not turned into C++, which takes a minute.
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    plain, compiled = (Encoder.random(ARCHITECTURE, 0, compile=compile) for compile in (False, True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    waveforms, lengths = torch.randn(2, 8_000), torch.tensor([8_000, 5_000])
    found = []
    for encoder in (plain, compiled):
        features = encoder(waveforms, lengths)
        features.layers[-1].square().mean(1).sin().sum().backward()
        found.append((features.layers, [parameter.grad for parameter in encoder.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    compiled.save(tmp_path / "saved")
    torch.testing.assert_close(Encoder.load(tmp_path / "saved")(waveforms, lengths).layers, found[0][0])

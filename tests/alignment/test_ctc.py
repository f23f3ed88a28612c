"""Forced alignment against every path there is, and the times that come of it."""

import json
from itertools import groupby, pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small import ARCHITECTURE
from tiny_ctc import save_ctc
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining

from w2v_abx.alignment.ctc import CtcModel, Span, align, fits, times
from w2v_abx.errors import InputError


def slowly_aligned(emissions: np.ndarray, tokens: list[int]) -> tuple[float, list[tuple[int, ...]]]:
    """The best score over all paths that spell ``tokens`` (blank 0), and the paths that reach it."""
    found: dict[tuple[int, ...], float] = {}
    for path in product(range(emissions.shape[1]), repeat=len(emissions)):
        if [token for token, _ in groupby(path) if token] == tokens:
            found[path] = sum(float(emissions[frame, token]) for frame, token in enumerate(path))
    best = max(found.values())
    return best, [path for path, score in found.items() if score > best - 1e-5]


@given(st.integers(0, 10_000), st.integers(1, 6), st.lists(st.integers(1, 2), min_size=1, max_size=4))
def test_the_alignment_is_the_best_of_all_paths(seed: int, frames: int, tokens: list[int]) -> None:
    emissions = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (frames, 3)).astype(np.float32)).log_softmax(
        -1
    )
    spellable = any(
        [token for token, _ in groupby(path) if token] == tokens for path in product(range(3), repeat=frames)
    )
    assert fits(tokens, frames) == spellable
    if not spellable:
        return
    spans = align(emissions, tokens, blank=0)
    path = [0] * frames
    for span, token in zip(spans, tokens, strict=True):
        path[span.start : span.end] = [token] * (span.end - span.start)
        assert span.score == pytest.approx(float(emissions[span.start : span.end, token].mean()), abs=1e-5)
    assert tuple(path) in slowly_aligned(emissions.numpy(), tokens)[1]


def test_times_are_those_of_the_frames() -> None:
    """wav2vec 2.0: frame n is centred at 20·n + 12.5 ms, hence stands for 20·n + 2.5 to 20·n + 22.5 ms."""
    spans = [Span(5, 6, 0), Span(6, 8, 0), Span(12, 13, 0), Span(40, 41, 0)]
    found = times(spans, stride=320, field=400, seconds=1.0, reach=0.1)
    assert found == [(0.0025, 0.1225), (0.1225, 0.2025), (0.2025, 0.3625), (0.7025, 0.9225)]
    assert times(spans, stride=320, field=400, seconds=1.0, reach=0.0)[1] == (0.1225, 0.1625)
    whole = times(spans, stride=320, field=400, seconds=1.0, reach=0.1, joined={3})
    assert whole == [(0.0025, 0.1225), (0.1225, 0.2025), (0.2025, 0.5325), (0.5325, 0.9225)]


spans_of = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=10)


@given(spans_of, st.integers(0, 5), st.integers(0, 319), st.floats(0, 0.3), st.sets(st.integers(1, 9)))
def test_times_run_forward_inside_the_clip(
    gaps: list[tuple[int, int]], after: int, rest: int, reach: float, joined: set[int]
) -> None:
    spans, frame = [], 0
    for gap, length in gaps:
        spans.append(Span(frame + gap, frame + gap + length, 0.0))
        frame += gap + length
    seconds = ((frame + after - 1) * 320 + 400 + rest) / 16_000
    found = times(spans, stride=320, field=400, seconds=seconds, reach=reach, joined=joined)
    assert found[0][0] >= 0
    assert found[-1][1] <= round(seconds, 6)
    assert all(before[1] <= later[0] for before, later in pairwise(found))
    for span, (onset, offset) in zip(spans, found, strict=True):
        assert onset < offset
        centre = (span.start * 320 + 200) / 16_000
        assert onset < centre < offset


def test_emissions_are_those_of_transformers(tmp_path: Path) -> None:
    folder = save_ctc(tmp_path / "model", ["a", "b"])
    model = CtcModel(folder, device="cpu")
    assert model.vocabulary == {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3, "|": 4}
    assert (model.symbols, model.delimiter, model.blank) == (["a", "b"], "|", 0)
    samples = (3 + 5 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)
    reference = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.no_grad():
        expected = reference(torch.from_numpy(normal)[None]).logits[0].log_softmax(-1)
    found = model.emissions(samples)
    assert found.shape == (model.frames(4000), 5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_digest_is_that_of_the_weights(tmp_path: Path) -> None:
    one = CtcModel(save_ctc(tmp_path / "one", ["a", "b"])).digest
    assert CtcModel(save_ctc(tmp_path / "two", ["a", "b"])).digest == one
    weights = load_file(tmp_path / "two" / "model.safetensors")
    weights["lm_head.bias"] += 1
    save_file(weights, tmp_path / "two" / "model.safetensors", {"format": "pt"})
    assert CtcModel(tmp_path / "two").digest != one


def test_what_is_no_ctc_model_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_ctc(tmp_path / "model", ["a"])
    vocabulary = (folder / "vocab.json").read_text()

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=f"align.model=.*{message}"):
            CtcModel(folder, device="cpu").model  # noqa: B018

    (folder / "vocab.json").write_text("[]")
    refused("must hold one JSON object")
    (folder / "vocab.json").write_text('{"fin": {"a": 1}}')
    refused("a model of many languages")
    (folder / "vocab.json").write_text('{"<pad>": 0, "z": 99}')
    refused("has 4 outputs, fewer than its vocab.json numbers")
    (folder / "vocab.json").unlink()
    refused("has no vocab.json")
    (folder / "vocab.json").write_text(vocabulary)
    CtcModel(folder).model.config  # noqa: B018
    (folder / "model.safetensors").write_bytes(b"broken")
    refused("cannot be read")
    settings = {**ARCHITECTURE, "codevector_dim": 8, "num_codevectors_per_group": 4, "num_codevector_groups": 1}
    Wav2Vec2ForPreTraining(Wav2Vec2Config.from_dict(settings)).save_pretrained(folder)
    refused("lack 2 tensors, such as lm_head.bias: a model that was pretrained alone has no CTC head")
    (folder / "model.safetensors").unlink()
    refused("has no weights")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    (folder / "model.safetensors").touch()
    refused("has model_type 'bert'")
    with pytest.raises(InputError, match="there is no folder align.model="):
        CtcModel(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither a folder here nor found on the hub"):
        CtcModel("no/such-model")

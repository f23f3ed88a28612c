"""What is kept of a head beside the encoder says of frames and clips what the head does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import ARCHITECTURE
from sounds import Fixed

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.ctc import Ctc
from w2v_abx.heads.framewise import Framewise
from w2v_abx.heads.head import Head, States
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.readout import Readout, read_readouts
from w2v_abx.heads.utterance import Utterance
from w2v_abx.models.encoder import Encoder


@pytest.fixture
def readout() -> Readout:
    torch.manual_seed(0)
    shares = torch.tensor([0.25, 0.75])
    return Readout("phones", ["", "ä", "b"], "ctc", torch.randn(3, 4), torch.randn(3), [1, 3], shares)


def test_it_is_read_as_it_was_written(readout: Readout, tmp_path: Path) -> None:
    readout.save(tmp_path / "heads" / "mine.safetensors")
    (read,) = read_readouts(tmp_path).values()
    hidden = {layer: torch.randn(7, 4) for layer in (1, 2, 3)}
    assert torch.equal(read(hidden), readout(hidden))
    assert (read.label, read.outputs, read.kind, read.layers) == ("phones", ["", "ä", "b"], "ctc", [1, 3])


def test_it_mixes_layers_and_clips_are_means_of_frames(readout: Readout) -> None:
    hidden = {layer: torch.randn(7, 4) for layer in (1, 3)}
    frames = readout(hidden)
    for frame in range(7):
        mixed = 0.25 * hidden[1][frame] + 0.75 * hidden[3][frame]
        torch.testing.assert_close(frames[frame], readout.weight @ mixed + readout.bias)
    clip = Readout("sex", ["f", "m", "x"], "utterance", readout.weight, readout.bias, [1, 3], readout.shares)
    torch.testing.assert_close(clip(hidden), frames.mean(0))


def test_a_folder_without_heads_has_none(tmp_path: Path) -> None:
    assert read_readouts(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"\x10" * 64])
def test_another_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "heads" / "odd.safetensors"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"heads/odd\.safetensors does not hold a head"):
        read_readouts(tmp_path)


def test_tensors_of_another_kind_are_no_head(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "heads").mkdir()
    save_file({"weight": torch.zeros(2)}, tmp_path / "heads" / "odd.safetensors")
    with pytest.raises(InputError, match=r"heads/odd\.safetensors does not hold a head"):
        read_readouts(tmp_path)


@pytest.mark.parametrize("layers", [-1, [0, 1], "weighted"])
@pytest.mark.parametrize("kind", [Framewise, Ctc, Utterance, Multilabel])
def test_it_says_what_the_head_does(kind: type[Head], layers: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = []
    for number in range(6):
        path = tmp_path / f"{number}.wav"
        audio.save(path, (0.1 * rng.standard_normal(6_400)).astype(np.float32))
        labels = {"phones": [[0, 0.2, "a"], [0.2, 0.4, "b" if number % 2 else "c"]], "sex": "fm"[number % 2]}
        clips.append(Clip(str(number), path, split="valid" if number > 3 else "train", labels=labels))
    shards.prepare(Fixed(clips, "words"), tmp_path / "shards")
    data, encoder = ShardDataModule(tmp_path / "shards", batch_size=4), Encoder.random(ARCHITECTURE)
    head = kind(encoder, data, "mine", "phones" if kind in (Framewise, Ctc) else "sex", layers=layers)
    if head.mixture is not None:
        head.mixture.data = torch.tensor([0.5, -1.0])
    features = encoder(torch.from_numpy(audio.load(clips[0].path))[None], torch.tensor([6_400]))
    states = States(dict(enumerate(features.layers)), features.lengths)
    readout = head.readout()
    assert readout is not None
    mixed = head.mixed(states)
    own = head.linear(mixed if kind in (Framewise, Ctc) else head.pooling(mixed, states.frames))  # type: ignore[operator]
    torch.testing.assert_close(readout({layer: hidden[0] for layer, hidden in states.layers.items()}), own[0])
    assert len(readout.outputs) == own.shape[-1]
    assert readout.outputs[0] == ("" if kind is Ctc else "a" if kind is Framewise else "f")

"""Batches in parts: the same features, and the settings of the caller's thread in those that work for it."""

from collections.abc import Sequence

import pytest
import torch
from small import ARCHITECTURE
from torch import Tensor

from w2v_abx.features import parts
from w2v_abx.features.parts import extracting_in_parts
from w2v_abx.models.encoder import Encoder, Features


@pytest.fixture(autouse=True)
def _three_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def batch() -> dict:
    lengths = torch.tensor([9_000, 8_000, 7_900, 3_000, 500])
    waveforms = torch.randn(5, 9_000, generator=torch.Generator().manual_seed(0))
    return {"keys": list("abcde"), "waveforms": waveforms, "lengths": lengths}


def test_features_are_those_of_the_whole_batch(batch: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MIN_PART_SECONDS", 0.1)
    encoder = Encoder.random(ARCHITECTURE)
    with torch.inference_mode():
        whole = encoder(batch["waveforms"], batch["lengths"])
        with extracting_in_parts() as extract:
            found = extract(encoder, batch, [0, 1])
    assert [keys for keys, _, _ in found] == [["a"], ["b", "c"], ["d", "e"]]
    assert torch.cat([lengths for _, _, lengths in found]).equal(whole.lengths)
    rows = [[row for _, hidden, _ in found for row in hidden[number]] for number in (0, 1)]
    for layer, parted in zip((0, 1), rows, strict=True):
        for row, own, count in zip(whole.layers[layer], parted, whole.lengths.tolist(), strict=True):
            torch.testing.assert_close(own[:count], row[:count], rtol=1e-4, atol=1e-5)
    assert torch.get_num_threads() == 3


def test_a_little_batch_stays_whole(batch: dict) -> None:
    with torch.no_grad(), extracting_in_parts() as extract:
        assert [keys for keys, _, _ in extract(Encoder.random(ARCHITECTURE), batch, [0])] == [list("abcde")]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_parts_work_as_their_caller_would(batch: dict, mode: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MIN_PART_SECONDS", 0.1)

    def settings() -> tuple:
        return (
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
        )  # fmt: skip

    seen: list[tuple] = []

    class Watching:
        n_layers, frequency = 1, 50.0

        def __call__(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> Features:
            seen.append((*settings(), torch.get_num_threads()))
            return Features((waveforms[..., None],), lengths)

    with mode(), torch.autocast("cpu", torch.bfloat16), extracting_in_parts() as extract:
        extract(Watching(), batch, [0])
        assert seen == [(*settings(), 1)] * 3


def test_what_fails_in_a_part_fails(batch: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MIN_PART_SECONDS", 0.1)

    def fail(*_: object) -> Features:
        raise ValueError("a part failed")

    with pytest.raises(ValueError, match="a part failed"), extracting_in_parts() as extract:
        extract(fail, batch, [0])  # type: ignore[arg-type]
    assert torch.get_num_threads() == 3

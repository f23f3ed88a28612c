"""The output of the convolutions, as a model of one layer."""

import pytest
import torch
from small import ARCHITECTURE

from w2v_abx.errors import InputError
from w2v_abx.models.convolved import Convolved
from w2v_abx.models.encoder import Encoder


def waves(*samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    batch = torch.zeros(len(samples), max(samples))
    for row, count in zip(batch, samples, strict=True):
        row[:count] = torch.randn(count) / 10
    return batch, torch.tensor(samples)


@pytest.mark.parametrize("normalized", [True, False])
def test_equal_hugging_face(normalized: bool) -> None:
    encoder = Encoder.random(ARCHITECTURE)
    encoder.normalized = normalized
    model = Convolved(encoder)
    batch, lengths = waves(16_000)
    (found,), frames = model(batch, lengths)
    given = (batch - batch.mean()) / batch.std(correction=0) if normalized else batch
    expected = encoder.model.feature_extractor(given).transpose(1, 2)
    assert found.shape == (1, int(frames[0]), model.dim)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_clip_is_the_same_in_any_batch_and_has_the_frames_of_the_layers() -> None:
    encoder = Encoder.random(ARCHITECTURE)
    batch, lengths = waves(16_000, 7_777)
    (found,), frames = Convolved(encoder)(batch, lengths, [0])
    (alone,), _ = Convolved(encoder)(batch[1:, :7_777], lengths[1:])
    assert torch.equal(frames, encoder(batch, lengths, [0]).lengths)
    torch.testing.assert_close(found[1, : frames[1]], alone[0], rtol=1e-4, atol=1e-5)
    assert not found[1, frames[1] :].any()


def test_refused() -> None:
    model = Convolved(Encoder.random(ARCHITECTURE))
    with pytest.raises(InputError, match=r"layers=\[1\]: the convolutions have layer 0 alone"):
        model(*waves(16_000), [1])
    with pytest.raises(InputError, match="fewer samples than a frame"):
        model(*waves(16_000, 100))

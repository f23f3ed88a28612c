import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.models.mfcc import Mfcc


@pytest.fixture(scope="module")
def mfcc() -> Mfcc:
    return Mfcc()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(400, 5000), min_size=1, max_size=4),
    extra=st.integers(0, 2000),
    seed=st.integers(0, 2**32 - 1),
)
def test_padding_never_changes_features(mfcc: Mfcc, lengths: list[int], extra: int, seed: int) -> None:
    waveforms = noise(len(lengths), max(lengths) + extra, seed=seed)
    waveforms[0, lengths[0] :] = torch.nan
    (batch,), frames = mfcc(waveforms, torch.tensor(lengths))
    assert torch.equal(frames, mfcc.frame_lengths(torch.tensor(lengths)))
    assert batch.shape == (len(lengths), int(frames.max()), mfcc.dim)
    for n, length in enumerate(lengths):
        (alone,), _ = mfcc(waveforms[n : n + 1, :length], torch.tensor([length]))
        assert alone.shape[1] == frames[n]
        assert torch.equal(batch[n, : frames[n]], alone[0])
        assert not batch[n, frames[n] :].any()


@pytest.mark.parametrize("frame", [0, 1, 50, 98, 99])
def test_frame_k_is_centred_on_k_and_a_half(mfcc: Mfcc, frame: int) -> None:
    clip = torch.zeros(1, 16_000)
    clip[0, round((frame + 0.5) * 16_000 / mfcc.frequency)] = 0.5
    (features,), lengths = mfcc(clip, torch.tensor([16_000]))
    assert lengths.tolist() == [100]
    loudness = features[0, :, 0]
    assert loudness.argmax() == frame
    if 0 < frame < 99:
        assert abs(loudness[frame - 1] - loudness[frame + 1]) < 0.1 * abs(loudness[frame] - loudness[frame - 1])


def test_derivatives_follow_the_coefficients(mfcc: Mfcc) -> None:
    clip = noise(1, 16_000) * torch.logspace(-2, 0, 16_000)
    (features,), _ = mfcc(clip, torch.tensor([16_000]))
    static, delta, delta2 = features[0].split(13, dim=1)
    weights = torch.tensor([-2.0, -1, 0, 1, 2]) / 10
    for values, slope in ((static, delta), (delta, delta2)):
        expected = sum(weight * values[2 + n : 98 + n] for n, weight in zip(range(-2, 3), weights, strict=True))
        torch.testing.assert_close(slope[2:98], expected, rtol=1e-3, atol=1e-3)
    assert delta[5:95, 0].mean() > 0.1  # it gets louder throughout


def test_same_vowel_at_another_level_is_nearer_than_another_vowel(mfcc: Mfcc) -> None:
    time = torch.arange(16_000) / 16_000

    def vowel(formants: tuple[float, ...], pitch: float) -> torch.Tensor:
        harmonics = torch.arange(1, int(7000 / pitch)) * pitch
        gains = sum(1 / (1 + ((harmonics - formant) / 80) ** 2) for formant in formants)
        return (
            0.02 * (gains[:, None] * torch.sin(2 * torch.pi * harmonics[:, None] * time)).sum(0) + noise(16_000) / 200
        )

    a, loud_a, i = vowel((730, 1090, 2440), 110), 3 * vowel((730, 1090, 2440), 130), vowel((270, 2290, 3010), 110)
    (features,), _ = mfcc(torch.stack([a, loud_a, i]), torch.tensor([16_000] * 3))
    first, second, third = features[:, 10:90].mean(1)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(first, second, 0) > cosine(first, third, 0)


def test_silence_is_finite(mfcc: Mfcc) -> None:
    (features,), _ = mfcc(torch.zeros(1, 8000), torch.tensor([8000]))
    assert torch.isfinite(features).all()


def test_layer_0_alone(mfcc: Mfcc) -> None:
    clip, length = noise(1, 1000), torch.tensor([1000])
    assert mfcc.n_layers == 1
    assert torch.equal(mfcc(clip, length, [0]).layers[0], mfcc(clip, length).layers[0])
    for layers in ([1], [], [0, 1]):
        with pytest.raises(InputError, match="layer 0 alone"):
            mfcc(clip, length, layers)


def test_a_clip_shorter_than_a_window(mfcc: Mfcc) -> None:
    with pytest.raises(InputError, match="clip 1 of the batch has 399 samples"):
        mfcc(noise(2, 800), torch.tensor([800, 399]))


def test_autocast_does_not_reach_it(mfcc: Mfcc) -> None:
    clip, length = noise(1, 4000), torch.tensor([4000])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mfcc(clip, length).layers[0]
    assert torch.equal(inside, mfcc(clip, length).layers[0])

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.heads.draws import clip_seeds, draw, draw_negatives

SHARES = {"mask_time_prob": 0.65, "mask_time_length": 3, "num_negatives": 9}


@settings(max_examples=50)
@given(frames=st.integers(0, 40), number=st.integers(1, 50), seed=st.integers(0, 100))
def test_negatives_are_other_frames(frames: int, number: int, seed: int) -> None:
    times = draw_negatives(frames, number, torch.Generator().manual_seed(seed))
    assert times.shape == (frames, frames)
    if frames > 1:
        assert (times.sum(1) == number).all()
        assert (times.diagonal() == 0).all()
        assert (times >= 0).all()


def test_every_other_frame_is_as_likely() -> None:
    times = draw_negatives(5, 20_000, torch.Generator().manual_seed(0))
    off = times[~torch.eye(5, dtype=torch.bool)].float()
    assert torch.allclose(off, torch.full_like(off, 5_000), rtol=0.05)


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(0, 60), max_size=5), step=st.integers(-1, 5))
def test_a_clip_has_the_same_draws_in_any_batch(lengths: list[int], step: int) -> None:
    keys = [f"clip{index}" for index in range(len(lengths))]
    whole = draw(keys, torch.tensor(lengths, dtype=torch.int64), seed=1, step=step, **SHARES)
    for row, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        alone = draw([key], torch.tensor([length]), seed=1, step=step, **SHARES)
        count = whole.counts[row]
        assert count == alone.counts[0]
        assert whole.seeds[row] == alone.seeds[0]
        assert torch.equal(whole.mask[row, :length], alone.mask[0])
        assert not whole.mask[row, length:].any()
        assert torch.equal(whole.places[row, :count], alone.places[0, :count])
        assert torch.equal(whole.negatives[row, :count, :count], alone.negatives[0, :count, :count])
        assert count == (int(whole.mask[row].sum()) if int(whole.mask[row].sum()) > 1 else 0)
        assert whole.mask[row, whole.places[row, :count]].all()


def test_steps_seeds_and_repeated_clips_have_other_draws() -> None:
    keys, frames = ["a", "b", "a"], torch.tensor([80, 80, 80])
    draws = draw(keys, frames, seed=1, step=0, **SHARES)
    others = [draw(keys, frames, seed=1, step=1, **SHARES), draw(keys, frames, seed=2, step=0, **SHARES)]
    assert not torch.equal(draws.mask[0], draws.mask[2])
    for other in others:
        assert not torch.equal(draws.mask[0], other.mask[0])
    assert len({*clip_seeds(keys, 1, 0), *clip_seeds(keys, 1, 1), *clip_seeds(keys, 2, 0)}) == 9

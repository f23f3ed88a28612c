import numpy as np
import pytest
import torch

from w2v_abx.heads.quantizer import Quantizer, diversity, gumbel_noise, usage_sum

CPU = torch.device("cpu")


def test_noise_is_gumbels_and_a_function_of_its_seed() -> None:
    noise = gumbel_noise(3, (1_000, 200), CPU)
    assert torch.equal(noise, gumbel_noise(3, (1_000, 200), CPU))
    assert not torch.equal(noise, gumbel_noise(4, (1_000, 200), CPU))
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(np.euler_gamma, abs=0.01)
    assert float(noise.std()) == pytest.approx(np.pi / 6**0.5, abs=0.01)


def test_likeliest_entries_are_put_side_by_side() -> None:
    quantizer = Quantizer(features=5, groups=2, entries=3, dim=8)
    logits = torch.tensor([[[0.0, 2.0, 1.0], [4.0, -1.0, 3.0]]])
    vectors, codes = quantizer(logits)
    books = quantizer.codevectors[0].view(2, 3, 4)
    assert codes.tolist() == [[1, 0]]
    assert torch.equal(vectors, torch.cat([books[0, 1], books[1, 0]])[None])


def test_drawn_entries_follow_the_softmax_and_pass_its_gradient() -> None:
    quantizer = Quantizer(features=5, groups=1, entries=3, dim=4)
    logits = torch.tensor([[[0.0, 1.0, 2.0]]]).expand(40_000, 1, 3).clone().requires_grad_()
    noise = gumbel_noise(0, (40_000, 1, 3), CPU)
    vectors, codes = quantizer(logits, 0.7, noise)
    shares = torch.bincount(codes.flatten()) / len(codes)
    assert torch.allclose(shares, logits[0, 0].softmax(-1), atol=0.01)
    assert torch.allclose(vectors, quantizer.codevectors[0, codes[:, 0]], atol=1e-6)
    weights = torch.randn(4)
    (found,) = torch.autograd.grad((vectors @ weights).sum(), logits)
    soft = ((logits + noise) / 0.7).softmax(-1)
    (expected,) = torch.autograd.grad((soft @ quantizer.codevectors[0] @ weights).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_diversity_of_even_and_of_collapsed_codebooks() -> None:
    for usage, perplexity in ((torch.full((2, 8), 1 / 8), 16.0), (torch.eye(8)[:2], 2.0)):
        found, loss = diversity(usage)
        assert float(found) == pytest.approx(perplexity)
        assert float(loss) == pytest.approx(1 - perplexity / 16, abs=1e-6)


def test_the_gradient_of_diversity_is_that_of_its_formula() -> None:
    logits = torch.randn(50, 2, 6, dtype=torch.float64)
    usage = logits.softmax(-1).mean(0).requires_grad_()
    (found,) = torch.autograd.grad(diversity(usage)[1], usage)
    entropy = -(usage * usage.log()).sum(-1, keepdim=True)
    torch.testing.assert_close(found, entropy.exp() * (usage.log() + 1) / 12)


def test_an_entry_that_is_never_used_has_a_finite_gradient() -> None:
    usage = torch.tensor([[1.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(diversity(usage)[1], usage)
    assert gradient.isfinite().all()


def test_usage_counts_rated_frames_of_each_clip_alone() -> None:
    clip = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]], [[0.0, 9.0]]])
    rated = torch.tensor([[True, True, False], [False, True, True]])
    first, second = usage_sum(torch.stack([clip, clip]), rated)
    assert first[1].tolist() == [[1.0, 1.0]]
    assert second[1].tolist() == [[0.0, 2.0]]
    assert first[0].sum() == second[0].sum() == pytest.approx(2.0)

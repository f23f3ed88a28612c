"""Dropout of our own does what PyTorch's does."""

import pytest
import torch
from torch import Tensor, nn

from w2v_abx.models.cpu import VALUES_PER_THREAD, Dropout, draw_seed, drop, replace_dropouts


def dropped(p: float, values: Tensor, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    module = Dropout(p)
    module.train()
    result: Tensor = module(values)
    return result


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_as_many_values_go_as_are_to_go_and_the_others_keep_the_mean(p: float) -> None:
    result = dropped(p, torch.ones(500, 1000))
    gone = (result == 0).double()
    n = gone.numel()
    assert abs(gone.mean().item() - p) < 5 * (p * (1 - p) / n) ** 0.5
    torch.testing.assert_close(result[result != 0].unique(), torch.tensor([1 / (1 - p)], dtype=torch.float32))
    # Neighbours in a row, in a column, and the same place of another draw go independently.
    other = (dropped(p, torch.ones(500, 1000), seed=2) == 0).double()
    for a, b in ((gone[:, 1:], gone[:, :-1]), (gone[1:], gone[:-1]), (gone, other)):
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
        assert abs(correlation) < 5 / n**0.5


def test_masks_of_different_seeds_have_nothing_in_common() -> None:
    p, n, seeds = 0.1, 1 << 16, 100
    torch.manual_seed(0)
    gone = torch.stack([(drop(torch.ones(n), p, draw_seed()) == 0).double() for _ in range(seeds)])
    assert abs(gone.mean().item() - p) < 4 * (p * (1 - p) / gone.numel()) ** 0.5
    correlations = torch.corrcoef(gone)[torch.triu_indices(seeds, seeds, 1).unbind()] * n**0.5
    assert correlations.std().item() < 1.1
    assert correlations.abs().max().item() < 6


def test_the_gradient_goes_where_the_values_went() -> None:
    values = torch.randn(40, 50, requires_grad=True)
    result = dropped(0.3, values)
    result.backward(torch.full_like(result, 2.0))
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.where(result == 0, 0.0, 2.0 / 0.7))
    torch.testing.assert_close(result, values.detach() * values.grad / 2)


def test_a_random_state_decides_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(3 * VALUES_PER_THREAD + 7)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(dropped(0.1, values))
    assert torch.equal(*results)
    assert not torch.equal(results[0], dropped(0.1, values, seed=2))
    state = torch.get_rng_state()
    first = draw_seed()
    torch.set_rng_state(state)
    assert draw_seed() == first


def test_views_and_places() -> None:
    values = torch.randn(6, 8).T
    result = dropped(0.5, values)
    assert torch.equal(result[result != 0], 2 * values[result != 0])
    own = values.contiguous()
    expected = drop(own, 0.5, 3)
    assert drop(own, 0.5, 3, out=own) is own
    assert torch.equal(own, expected)


def test_nothing_goes_where_nothing_is_to_go() -> None:
    values = torch.randn(5, 5)
    module = Dropout(0.5).eval()
    assert module(values) is values
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(Dropout(1.0)(values), torch.zeros(5, 5))
    assert set(Dropout(0.5)(torch.ones(100, dtype=torch.bfloat16)).tolist()) == {0.0, 2.0}


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.2)), nn.Dropout(0.3).eval())
    replace_dropouts(model)
    assert [type(model[1][0]), model[1][0].p, model[1][0].training] == [Dropout, 0.2, True]  # type: ignore[index]
    assert [type(model[2]), model[2].p, model[2].training] == [Dropout, 0.3, False]

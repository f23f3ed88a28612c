"""A loss of the whole batch, under any micro-batches and on ranks."""

from pathlib import Path

import pytest
import torch
from coupled_ranks import batch, fit, fit_in_ranks, head, objective
from ranks import run_ranks
from torch import Tensor

from w2v_abx.training.objective import Objective


def step(module: Objective) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What a step sums up, and its gradients."""
    prepared = module.prepare(batch())
    totals = module.totals(prepared)
    sums: dict[str, float] = {}
    for micro in module.microbatches.split(prepared):
        shares = module.loss(micro, totals)
        shares["loss"].backward()
        for name, value in shares.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return sums, {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("microbatch", [1, 2, 3, 4])
def test_micro_batches_have_the_loss_and_gradients_of_the_whole(microbatch: int) -> None:
    module = objective(None)
    sums, gradients = step(module)
    embedded = head(module).embedded
    assert [len(rows) for rows in embedded] == [6]  # no first pass
    assert sums["loss"] == pytest.approx(float(head(module).batch_loss(embedded[0])["loss"]) / 6)
    split, found = step(objective(microbatch))
    assert split == pytest.approx(sums, rel=1e-5)
    assert found.keys() == gradients.keys()
    assert float(gradients["heads.pairs.linear.weight"].norm()) > 0.01
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_ranks_take_the_step_of_one_process(tmp_path: Path) -> None:
    run_ranks(fit_in_ranks, 2, tmp_path)
    alone = fit(tmp_path, None)
    assert {"train/loss", "train/pairs_loss", "train/pairs_accuracy"} <= alone["logged"].keys()
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for kind, values in alone.items():
            torch.testing.assert_close(found[kind], values, rtol=1e-4, atol=1e-6)


def test_both_passes_draw_alike() -> None:
    """Dropout of the encoder and of the head; other clips and another step draw otherwise."""
    module = objective(2, dropout=0.5)
    sums, _ = step(module)
    embedded = head(module).embedded
    assert [len(rows) for rows in embedded] == [2] * 6
    # The first pass runs when the first micro-batch, which has been embedded by then, asks for its gradient.
    first, second = torch.cat(embedded[1:4]), torch.cat([embedded[0], *embedded[4:]])
    assert torch.equal(first, second)
    assert sums["loss"] == pytest.approx(float(head(module).batch_loss(first)["loss"]) / 6)

    def drawn(step: int) -> Tensor:
        prepared = head(module).prepare(module.encoder, batch(), step)
        _, couple = prepared.extra["pairs"]["coupling"].value
        couple()
        return torch.cat(embedded[-3:])

    assert torch.equal(drawn(0), first)
    assert not torch.allclose(drawn(1), first)
    state = torch.get_rng_state()
    drawn(2)
    assert torch.equal(torch.get_rng_state(), state)

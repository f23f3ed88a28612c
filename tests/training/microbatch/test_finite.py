"""What is not finite never reaches the weights, and its clips are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from elastic import Objective, fit, make_batch

from w2v_abx.data.batch import Batch
from w2v_abx.training.microbatch import MicroBatching, NonFiniteLoss


def fused(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, fused=True)


def batches(bad: int, count: int) -> list[Batch]:
    """The fourth clip of one of the batches is not finite."""
    made = [make_batch(index) for index in range(count)]
    made[bad].waveforms[3, 0] = torch.nan
    return made


def weights(module: Objective) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in module.parameters()]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, fused])
@pytest.mark.parametrize(("bad", "count"), [(0, 1), (1, 2), (1, 4)])
def test_clips_are_named_and_weights_left(optimizer: Any, bad: int, count: int) -> None:
    before = Objective(optimizer=optimizer, microbatch=MicroBatching(clips=2), gradient_clip_norm=0.1)
    if bad:
        fit(before, batches(bad, count)[:bad])
    module = Objective(optimizer=optimizer, microbatch=MicroBatching(clips=2), gradient_clip_norm=0.1)
    with pytest.raises(
        NonFiniteLoss, match=f"at step {bad}, in the micro-batches of the clips {bad}-2, {bad}-3;"
    ) as error:
        fit(module, batches(bad, count))
    assert error.value.keys == [f"{bad}-2", f"{bad}-3"]
    torch.testing.assert_close(weights(module), weights(before), rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, fused])
def test_a_gradient_that_is_not_finite_names_the_step(optimizer: Any) -> None:
    class Bad(Objective):
        def on_after_backward(self) -> None:
            if self.global_step == 1:
                self.net[0].weight.grad.fill_(torch.nan)

    before = Objective(optimizer=optimizer)
    fit(before, [make_batch(0)])
    module = Bad(optimizer=optimizer, microbatch=MicroBatching(clips=4))
    with pytest.raises(NonFiniteLoss, match="at step 1") as error:
        fit(module)
    assert error.value.keys == make_batch(1).keys
    torch.testing.assert_close(weights(module), weights(before), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, fused])
def test_no_checkpoint_follows_it(optimizer: Any, tmp_path: Path) -> None:
    class Saving(Objective):
        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.save_checkpoint(tmp_path / f"{self.global_step}.ckpt")

    with pytest.raises(NonFiniteLoss, match="at step 1"):
        fit(Saving(optimizer=optimizer), batches(1, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["1.ckpt"]

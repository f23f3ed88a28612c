"""What all heads share: layers, labels that some clips lack, weights."""

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import ARCHITECTURE
from torch import Tensor, nn

from w2v_abx.data import Batch
from w2v_abx.data.batch import collate
from w2v_abx.errors import InputError
from w2v_abx.heads.head import Head, HeadResult, ResultTable, States
from w2v_abx.heads.pooling import mean_over_frames
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

LENGTHS = [4_000, 2_500, 3_200, 1_600]
BLOCKS = 3


class Pitch(Head):
    """Say a number of each clip."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **{"label": "pitch", **options})
        self.linear = nn.Linear(16, 1)

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        return torch.tensor(labels["pitch"]) if "pitch" in labels else None

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        said = self.linear(mean_over_frames(self.mixed(states), states.frames))[:, 0]
        return {"loss": (said - self.own(batch).values).square().sum()}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.random(ARCHITECTURE | {"num_hidden_layers": BLOCKS})


def made(encoder: Encoder, **options: Any) -> Pitch:
    torch.manual_seed(0)
    data: Any = None
    return Pitch(encoder, data, "pitch", **options)


def batch_of(pitches: list[float | None]) -> Batch:
    """Clips, some of which have no pitch."""
    waveforms = torch.randn(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(0))
    for row, length in zip(waveforms, LENGTHS, strict=True):
        row[length:] = 0
    target = collate([None if pitch is None else torch.tensor(pitch) for pitch in pitches])
    keys = [f"clip {row}" for row in range(len(LENGTHS))]
    return Batch(keys, ["noise"] * len(keys), waveforms, torch.tensor(LENGTHS), {"pitch": target})


def states(layers: int = BLOCKS + 1) -> States:
    hidden = torch.randn(layers, 2, 5, 16, generator=torch.Generator().manual_seed(1))
    return States(dict(enumerate(hidden)), torch.tensor([5, 3]))


@pytest.mark.parametrize(("layers", "found"), [(-1, [3]), (0, [0]), (2, [2]), (-4, [0]), ([1, -1], [1, 3])])
def test_layers_are_numbers_and_several_are_averaged(encoder: Encoder, layers: Any, found: list[int]) -> None:
    head, given = made(encoder, layers=layers), states()
    assert head.layers == found
    assert head.mixture is None
    expected = torch.stack([given.layers[layer] for layer in found]).mean(0)
    torch.testing.assert_close(head.mixed(given), expected)


def test_a_weighted_mixture_starts_even_and_is_learnt(encoder: Encoder) -> None:
    head, given = made(encoder, layers="weighted"), states()
    assert head.layers == [0, 1, 2, 3]
    every = torch.stack(list(given.layers.values()))
    torch.testing.assert_close(head.mixed(given), every.mean(0))
    assert head.mixture is not None
    head.mixture.data.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    weights = head.mixture.softmax(0)
    torch.testing.assert_close(head.mixed(given), (weights[:, None, None, None] * every).sum(0))
    head.mixed(given).sum().backward()
    assert head.mixture.grad is not None
    assert float(head.mixture.grad.norm()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 4}, r"layers=4"),
        ({"layers": -5}, r"layers=-5"),
        ({"layers": [1, 2.5]}, r"layers=2\.5"),
        ({"layers": "mixed"}, r"layers='mixed' must be one of weighted"),
        ({"weight": -0.5}, r"weight=-0\.5"),
    ],
)
def test_values_out_of_range_are_named(encoder: Encoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"objective\.heads\.pitch\.{message}"):
        made(encoder, **options)


def objective(encoder: Encoder, **options: Any) -> Objective:
    asked: list[str] = []
    data: Any = SimpleNamespace(has=lambda split: False, mix={}, ask=lambda heads, extractor: asked.extend(heads))
    head = functools.partial(made, **options)
    module = Objective(encoder, {"pitch": lambda encoder, **_: head(encoder)}, data, Optimization(torch.optim.SGD))
    assert asked == ["pitch"]
    return module


@pytest.mark.parametrize("present", [[0, 2], [3], [0, 1, 2, 3]])
@pytest.mark.parametrize("size", [4, 1, 3])
def test_clips_without_the_label_do_not_count(encoder: Encoder, present: list[int], size: int) -> None:
    """The loss, and its gradient, is that of the batch of those that have it, in any micro-batches."""
    batch = batch_of([float(row) if row in present else None for row in range(len(LENGTHS))])
    found = []
    for whole, clips in ((batch, size), (batch.rows(present), len(present))):
        module = objective(encoder, layers=[1, 3])
        module.zero_grad()
        totals = module.totals(whole)
        assert totals["pitch"] == len(present)
        shares = [module.loss(whole.slice(start, start + clips), totals) for start in range(0, len(whole), clips)]
        losses = [share["loss"] for share in shares if share]
        sum(losses, torch.zeros(())).backward()
        gradients = {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}
        found.append((float(sum(loss.detach() for loss in losses)), gradients))
    (loss, gradients), (expected, wanted) = found
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_heads_share_one_pass_of_the_clips_that_any_asks_about(encoder: Encoder) -> None:
    data: Any = SimpleNamespace(has=lambda split: False, mix={}, ask=lambda heads, extractor: None)
    asked: dict[str, tuple[Any, list[int]]] = {"first": (1, [0, 2]), "second": ([0, 3], [2, 3]), "third": (2, [])}
    heads = {name: functools.partial(Pitch, layers=layers) for name, (layers, _) in asked.items()}
    module = Objective(encoder, heads, data, Optimization(torch.optim.SGD))
    plain = batch_of([1.0, 2.0, 3.0, 4.0])
    targets = {
        name: collate([torch.tensor(float(row)) if row in rows else None for row in range(len(LENGTHS))])
        for name, (_, rows) in asked.items()
    }
    batch = replace(plain, targets=targets)
    passes: list[int] = []
    hook = encoder.register_forward_hook(lambda _, given, found: passes.append(len(given[0])))
    found = module.loss(batch, module.totals(batch))
    hook.remove()
    assert passes == [3]
    assert found.keys() == {"loss", "first_loss", "second_loss"}
    for name in ("first", "second"):
        head: Any = module.heads[name]
        alone = head.terms(encoder, batch.rows(asked[name][1]))["loss"] / 2
        torch.testing.assert_close(found[f"{name}_loss"], alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["loss"], found["first_loss"] + found["second_loss"])


def test_a_step_in_which_no_clip_has_the_label_has_no_loss(encoder: Encoder) -> None:
    module: Any = objective(encoder)
    batch = batch_of([None] * len(LENGTHS))
    assert module.loss(batch, module.totals(batch)) == {}


def test_a_validation_without_a_clip_of_the_heads_logs_nothing_of_it(encoder: Encoder) -> None:
    module: Any = objective(encoder)
    module.heads["pitch"].logged = ("accuracy",)
    module.on_validation_epoch_start()
    module.on_validation_epoch_end()
    assert module.results["valid"]["pitch"] == HeadResult()


def test_a_result_is_what_json_holds() -> None:
    table = ResultTable("Vowels", ["phone", "recall"], [["a", 0.5]])
    rows = [{"category": "a", "ap": None}]
    result = HeadResult({"map": 0.5, "clips": 3}, rows, drawn="ap", intervals={"map": (0.4, 0.6)}, tables=[table])
    plain = json.loads(json.dumps(result.plain()))
    assert plain == {
        "metrics": {"map": 0.5, "clips": 3}, "rows": rows, "drawn": "ap", "labels": [], "confusion": [], "titles": {},
        "intervals": {"map": [0.4, 0.6]}, "over": "", "groups": [], "transcripts": [], "notes": [],
        "by_speaker": [],
        "tables": [{"title": "Vowels", "columns": ["phone", "recall"], "rows": [["a", 0.5]]}],
    }  # fmt: skip

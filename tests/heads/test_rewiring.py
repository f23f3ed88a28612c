"""Utterances and their twins: the loss of the whole batch, which views take part, and what is refused beforehand."""

import functools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small import ARCHITECTURE
from sounds import Fixed
from torch import Tensor

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.data.batch import Batch, Target
from w2v_abx.errors import InputError
from w2v_abx.heads.rewiring import Rewiring
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

LENGTHS = [4_000, 2_500, 3_200, 4_000, 1_600, 3_700]
VIEWS = ["twin", "dropout", "neutral", "mixed", "same"]
LABELS = {"neutral": "pair", "mixed": "pair", "same": "text"}


def module(views: str, microbatch: int | None = None, dropout: float = 0.3) -> Objective:
    torch.manual_seed(0)
    architecture = ARCHITECTURE | {"hidden_dropout": dropout, "attention_dropout": dropout}
    settings = SimpleNamespace(batch_seconds=None, batch_size=6, group=LABELS.get(views))
    clips = [SimpleNamespace(key=f"{n}", labels={"pair": n // 2, "text": n // 2, "synthetic": n % 2}) for n in range(6)]
    data: Any = SimpleNamespace(
        has=lambda split: False,
        mix={},
        ask=lambda heads, encoder: None,
        settings=settings,
        labels=lambda split: clips,
    )
    heads = {"twins": functools.partial(Rewiring, views=views, group="text" if views == "same" else None)}
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.5), warmup_share=0.0)
    made = Objective(
        Encoder.random(architecture, seed=1), heads, data, optimization, microbatch=MicroBatching(microbatch)
    )
    return made.train()


def head(objective: Objective) -> Rewiring:
    found = objective.heads["twins"]
    assert isinstance(found, Rewiring)
    return found


def batch(views: str) -> Batch:
    waveforms = torch.randn(6, max(LENGTHS), generator=torch.Generator().manual_seed(0))
    for row, length in zip(waveforms, LENGTHS, strict=True):
        row[length:] = 0
    targets = {}
    if views in LABELS:
        values = torch.tensor([[7, row // 2, row % 2] for row in range(6)])
        targets["twins"] = Target(values, None, torch.ones(6, dtype=torch.bool))
    return Batch([f"clip {row}" for row in range(6)], ["x"] * 6, waveforms, torch.tensor(LENGTHS), targets)


def step(objective: Objective, views: str) -> tuple[dict[str, float], dict[str, Tensor]]:
    prepared = objective.prepare(batch(views))
    totals = objective.totals(prepared)
    sums: dict[str, float] = {}
    for micro in objective.microbatches.split(prepared):
        shares = objective.loss(micro, totals)
        if "loss" in shares:  # else nothing is asked of this one
            shares["loss"].backward()
        for name, value in shares.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return sums, {name: weight.grad for name, weight in objective.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("views", VIEWS)
def test_micro_batches_have_the_loss_and_gradients_of_the_whole(views: str) -> None:
    """Without dropout: it is drawn by micro-batch."""
    dropout = 0.0 if views != "dropout" else 1e-9
    sums, gradients = step(module(views, None, dropout), views)
    for microbatch in (1, 2, 4):
        split, found = step(module(views, microbatch, dropout), views)
        assert split == pytest.approx(sums, rel=1e-5, abs=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("views", VIEWS)
def test_the_loss_is_that_of_a_slow_reference(views: str) -> None:
    objective = module(views)
    prepared = objective.prepare(batch(views))
    torch.manual_seed(3)
    embedded = head(objective).embed(head(objective).encode(objective.encoder, prepared, [0, 1]), prepared)
    found = head(objective).batch_loss(embedded)
    vectors = [(tuple(view[-3:-1].tolist()), view[:-3]) for clip in embedded for view in clip if view[-1] > 0]
    assert len(vectors) == {"twin": 12, "dropout": 12}.get(views, 6) == head(objective).total(prepared)
    losses, nearest = [], 0
    for i, (group, one) in enumerate(vectors):
        cosine = [float(torch.cosine_similarity(one, other, dim=0)) for _, other in vectors]
        others = [j for j in range(len(vectors)) if j != i]
        whole = math.log(sum(math.exp(cosine[j] / 0.04) for j in others))
        twins = [j for j in others if vectors[j][0] == group]
        assert len(twins) == 1
        losses.append(sum(whole - cosine[j] / 0.04 for j in twins) / len(twins))
        nearest += max(others, key=cosine.__getitem__) in twins
    assert float(found["loss"].detach()) == pytest.approx(sum(losses), rel=1e-4)
    assert float(found["accuracy"]) == nearest


def test_several_twins_count_alike() -> None:
    units = torch.eye(3)[[0, 0, 1, 2]] + 0.1
    groups = torch.tensor([[0, 1], [0, 1], [0, 1], [0, 2]])
    table = torch.cat([units, groups, torch.ones(4, 1)], 1)[:, None]
    found = head(module("same")).batch_loss(table)
    scores = torch.cosine_similarity(units[:, None], units[None], dim=-1) / 0.04
    expected = 0.0
    for row, twins in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1])):
        others = [column for column in range(4) if column != row]
        expected += sum(float(scores[row, others].logsumexp(0) - scores[row, twin]) for twin in twins) / 2
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)  # the fourth has no twin


def test_one_span_of_its_copy_is_silent() -> None:
    objective = module("twin", dropout=0.0)
    seen: list[Tensor] = []
    prepared = objective.prepare(batch("twin"))

    def encoder(waveforms: Tensor, lengths: Tensor, layers: list[int]) -> Any:
        seen.append(waveforms)
        return objective.encoder(waveforms, lengths, layers)

    head(objective).encode(encoder, prepared, [1])  # type: ignore[arg-type]
    (waveforms,) = seen
    for row, length in enumerate(LENGTHS):
        assert torch.equal(waveforms[2 * row], prepared.waveforms[row])
        silent = (waveforms[2 * row + 1] != waveforms[2 * row]).nonzero()[:, 0]
        assert len(silent) == round(0.2 * length)
        assert int(silent[-1] - silent[0]) + 1 == len(silent)
        assert not waveforms[2 * row + 1][silent].any()
        assert int(silent[-1]) < length
    again = objective.prepare(batch("twin")).extra["twins"]["spans"]
    assert again == prepared.extra["twins"]["spans"]
    assert head(objective).prepare(objective.encoder, batch("twin"), 1).extra["twins"]["spans"] != again


def test_a_coin_for_each_pair_chooses_the_reading_or_the_copy() -> None:
    objective = module("mixed")
    chosen = set()
    for number in range(12):
        used = head(objective).prepare(objective.encoder, batch("mixed"), number).extra["twins"]["used"]
        for recording, reading in zip(used[::2], used[1::2], strict=True):
            assert (recording, reading) in (([True, True], [False, False]), ([True, False], [True, False]))
            chosen.add(recording[1])
    assert chosen == {True, False}


def pairs(folder: Path, *kinds: str) -> ShardDataModule:
    """Clips by name of their pair, "+" for a reading."""
    rng = np.random.default_rng(0)
    clips = []
    for number, kind in enumerate([*kinds, "other"]):
        path = folder / f"{number}.wav"
        audio.save(path, (0.1 * rng.standard_normal(4_000)).astype(np.float32))
        labels = {"pair": kind.strip("+"), "text": kind.strip("+")} | ({"synthetic": True} if "+" in kind else {})
        split = "valid" if kind == "other" else "train"
        clips.append(Clip(f"clip{number}", path, split=split, labels={} if kind == "none" else labels))
    shards.prepare(Fixed(clips, "pairs"), folder / "shards")
    return ShardDataModule(folder / "shards", batch_size=4, group="pair")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["none", "none"], "data.group=pair: no two clips in .* share a value"),
        (["a", "a+", "b"], "data.group=pair: .* has a group of 1, clips that share 'b', where others are of 2"),
        (["a", "a+", "b+"], "data.group=pair: .* has a group of 1, clips that share 'b', where others are of 2"),
        (["b", "b+", "a", "a"], "views={views}: clip[23], clip[23] are a group, and not one recording and one reading"),
        (["b", "b+", "a+", "a+"], "views={views}: clip[23], clip[23] are a group, and not one recording"),
        (["a", "a+"], "views={views}: all clips are twins of each other"),
    ],
)
@pytest.mark.parametrize("views", ["neutral", "mixed"])
def test_clips_that_are_no_pairs(views: Any, kinds: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message.format(views=views)):
        Rewiring(Encoder.random(ARCHITECTURE), pairs(tmp_path, *kinds), "twins", views)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "temperature=0 must be a number above 0"),
        ({"span": 1.0}, "span=1.0 must be a number above 0 and below 1"),
        ({"span": 0}, "span=0 must be"),
        ({"views": "triplet"}, "views='triplet' must be one of neutral, twin, mixed, dropout, same"),
        ({"views": "same"}, "group=None must be the label that twins share"),
        ({"group": "text"}, "group='text' must be the label that twins share where views=same, else null"),
        ({"views": "dropout"}, "views=dropout: the model has no dropout"),
        ({"views": "same", "group": "text"}, "data.group='pair' must be 'text'; twins of twins have to share a batch"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Rewiring(Encoder.random(ARCHITECTURE), pairs(tmp_path, "a", "a+", "b", "b+"), "twins", **settings)


def test_a_batch_of_one_is_refused(tmp_path: Path) -> None:
    data = pairs(tmp_path, "a", "a+", "b", "b+")
    alone = ShardDataModule(tmp_path / "shards", batch_size=1)
    with pytest.raises(InputError, match=r"data\.batch_size=1 must be at least 2; twins contrasts clips of a batch"):
        Rewiring(Encoder.random(ARCHITECTURE), alone, "twins")
    assert Rewiring(Encoder.random(ARCHITECTURE), data, "twins").views == "twin"

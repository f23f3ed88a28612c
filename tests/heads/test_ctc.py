"""CTC: what is asked of a clip, the loss, and what goes wrong before the first step."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small import ARCHITECTURE, quiet_trainer
from sounds import Fixed
from torch.nn import functional

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.data.batch import Batch, collate
from w2v_abx.errors import InputError
from w2v_abx.heads.ctc import Ctc
from w2v_abx.heads.head import States
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.saving import ExactResume

PITCHES = {"low": 200, "mid": 900, "high": 3_000}
Make = Callable[..., ShardDataModule]


def tune(folder: Path, key: str, symbols: Sequence[str], split: str = "train", **labels: Any) -> Clip:
    """A clip of tones of 0.1 s, with their times in the label ``phones`` and their names in the label ``text``."""
    time = np.arange(1_600) / 16_000
    tones = [0.2 * np.sin(2 * np.pi * PITCHES.get(symbol, 500) * time) for symbol in symbols]
    audio.save(folder / f"{key}.wav", np.concatenate(tones).astype(np.float32))
    timed = [[n / 10, (n + 1) / 10, symbol] for n, symbol in enumerate(symbols)]
    of_clip = {"phones": timed, "text": " ".join(symbols), "speaker": f"speaker{int(key[-1]) % 3}", **labels}
    return Clip(key, folder / f"{key}.wav", split=split, labels=of_clip)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def prepared(clips: Sequence[Clip] = (), **settings: Any) -> ShardDataModule:
        rng = np.random.default_rng(0)
        names = list(PITCHES)
        some = [
            tune(
                tmp_path,
                f"clip{n:02d}",
                [names[i] for i in rng.integers(0, 3, 3 + n % 4)],
                "valid" if n > 17 else "train",
            )
            for n in range(24)
        ]
        shards.prepare(Fixed([*some, *clips], "tunes"), tmp_path / "shards")
        return ShardDataModule(tmp_path / "shards", **({"batch_size": 6} | settings))

    return prepared


def head_of(data: ShardDataModule, label: str = "phones", **settings: Any) -> Ctc:
    torch.manual_seed(0)
    return Ctc(Encoder.random(ARCHITECTURE), data, "asr", label, **settings)


def objective(data: ShardDataModule, microbatch: int | None = None, **settings: Any) -> Objective:
    torch.manual_seed(0)
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.5), warmup_share=0.0)
    heads = {"asr": functools.partial(Ctc, **({"label": "phones"} | settings))}
    return Objective(Encoder.random(ARCHITECTURE), heads, data, optimization, None, MicroBatching(microbatch)).train()


def test_targets_are_the_numbers_of_the_symbols(make: Make) -> None:
    clock: Any = None
    data = make()
    head = head_of(data)
    assert head.vocabulary.symbols == ("high", "low", "mid")
    assert head.target({"phones": [[0, 1, "mid"], [1, 2, "low"]]}, 9, clock).tolist() == [3, 2]  # type: ignore[union-attr]
    assert head.target({"speaker": "x"}, 9, clock) is None
    assert head.target({"phones": []}, 9, clock) is None
    quiet = head_of(data, leave_out=["low"])
    assert quiet.vocabulary.symbols == ("high", "mid")
    assert quiet.target({"phones": [[0, 1, "mid"], [1, 2, "low"]]}, 9, clock).tolist() == [2]  # type: ignore[union-attr]
    spelt = head_of(data, "text", units="characters")
    assert " " in spelt.vocabulary.symbols
    found = spelt.target({"text": "low  high"}, 9, clock)
    assert found is not None
    assert "".join(spelt.vocabulary.symbols_of(found.tolist())) == "low high"


def test_the_loss_is_torchs_mean_over_clips_of_the_loss_per_symbol(make: Make) -> None:
    head = head_of(make())
    targets = collate([torch.tensor([1, 2, 2]), None, torch.tensor([3])])
    batch = Batch(list("abc"), ["x"] * 3, torch.zeros(3, 3200), torch.tensor([3200, 1600, 1600]), {"asr": targets})
    hidden, frames = torch.randn(3, 10, ARCHITECTURE["hidden_size"]), torch.tensor([10, 5, 5])
    states = States({head.layers[0]: hidden}, frames)
    batch = batch.with_extra(asr=frames.tolist())
    rows = head.concerned(batch)
    part = batch.rows(rows)
    assert head.total(part) == 2
    logits = head.linear(hidden[[0, 2]]).log_softmax(-1).transpose(0, 1)
    expected = functional.ctc_loss(logits, torch.tensor([[1, 2, 2], [3, 0, 0]]), (10, 5), (3, 1), reduction="mean")
    torch.testing.assert_close(head.loss_sum(states.rows(rows), part)["loss"] / 2, expected)


@pytest.mark.parametrize("symbols", [[1, 2, 1, 2, 1, 2], [1, 1, 1, 1], [4]])  # [4]: of the held-out clips alone
def test_what_cannot_be_spelt_adds_nothing(make: Make, tmp_path: Path, symbols: list[int]) -> None:
    data = make([tune(tmp_path, "other1", ["low", "strange"], "valid")])
    for zero in (True, False):
        head = head_of(data, zero_infinity=zero)
        targets = collate([torch.tensor(symbols)])
        batch = Batch(["a"], ["x"], torch.zeros(1, 1600), torch.tensor([1600]), {"asr": targets}).with_extra(asr=[5])
        hidden = torch.randn(1, 5, ARCHITECTURE["hidden_size"], requires_grad=True)
        loss = head.loss_sum(States({head.layers[0]: hidden}, torch.tensor([5])), batch)["loss"]
        assert loss.item() == (0.0 if zero else torch.inf)
        if zero:
            (gradient,) = torch.autograd.grad(loss, hidden)
            assert not gradient.any()


def test_it_learns_and_rates_both_splits(make: Make, tmp_path: Path) -> None:
    data = make([tune(tmp_path, "last1", ["low", "strange"], "test")])
    module = objective(data, beam=4)
    trainer = quiet_trainer(tmp_path, max_epochs=40)
    trainer.fit(module, datamodule=data)
    metrics = module.results["valid"]["asr"].metrics
    assert metrics["per"] is not None
    assert metrics["per"] < 0.4
    assert float(trainer.callback_metrics["valid/asr_per"]) == pytest.approx(metrics["per"])
    trainer.test(module, datamodule=data, verbose=False)
    unseen = module.results["test"]["asr"]
    assert unseen.metrics["out_of_inventory"] == 0.5
    assert unseen.metrics["per"] >= 0.5  # type: ignore[operator]
    assert any("strange" in note for note in unseen.notes)


def test_the_micro_batch_changes_nothing(make: Make, tmp_path: Path) -> None:
    data = make()
    found = []
    for size in (None, 1, 4):
        module = objective(data, size)
        trainer = quiet_trainer(tmp_path, max_epochs=2)
        trainer.fit(module, datamodule=data)
        found.append((module.state_dict(), {name: float(value) for name, value in trainer.callback_metrics.items()}))
    (whole, logged), *others = found
    for split, again in others:
        assert again == pytest.approx(logged, rel=1e-5)
        for name, value in whole.items():
            torch.testing.assert_close(split[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_resumed_run_equals_one_that_was_not_stopped(make: Make, tmp_path: Path) -> None:
    data = make(crop_seconds=0.25)
    found = []
    for resume in (None, tmp_path / "step=4.ckpt"):  # inside the second epoch
        module = objective(data)
        saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
        trainer = quiet_trainer(tmp_path, max_epochs=3, callbacks=[ExactResume(), saving], enable_checkpointing=True)
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        found.append(module)
    first, second = found
    assert first.results == second.results
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"beam": 0}, r"objective\.heads\.asr\.beam=0 must be a whole number from 1"),
        ({"units": "words"}, r"objective\.heads\.asr\.units='words' must be one of characters, symbols"),
        ({"alphabet": "sampa"}, r"objective\.heads\.asr\.alphabet='sampa' must be one of ipa, timit"),
        ({"fold": "timit40"}, r"objective\.heads\.asr\.fold='timit40' must be one of timit48, timit39"),
        ({"label": "transcript"}, r"label=transcript: no training clip has it \(labels: .*phones.*text"),
        ({"label": "age"}, r"label=age: the clip aged1 of tunes has 31, which is neither a text nor a list"),
        ({"vocabulary": "missing.txt"}, r"asr\.vocabulary=missing\.txt cannot be read"),
    ],
)
def test_bad_settings(make: Make, tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    data = make([tune(tmp_path, "aged1", ["low"], age=31)])
    with pytest.raises(InputError, match=told):
        head_of(data, **({"label": "phones"} | settings))


def test_clips_that_cannot_be_learnt_from_are_counted_and_named(make: Make, tmp_path: Path) -> None:
    crowded = tune(tmp_path, "crowded1", ["low"])
    crowded = replace(crowded, labels={**crowded.labels, "phones": [[0.0, 0.1, "low"]] * 3})  # wants 5 of 5 frames
    tight = replace(tune(tmp_path, "tight1", ["low"]), labels={"phones": [[0.0, 0.1, "low"]] * 4})
    silent = tune(tmp_path, "silent1", ["low"])
    silent = replace(silent, labels={**silent.labels, "phones": []})
    bare = replace(tune(tmp_path, "bare1", ["low"], "valid"), labels={})
    late = replace(tune(tmp_path, "late1", ["low"]), labels={"untimed": ["labels_outside", "they run to 9 s"]})
    data = make([crowded, tight, silent, bare, late])
    with pytest.warns(UserWarning, match="leaves out") as warned:
        head_of(data)
    (message,) = {str(one.message) for one in warned}
    assert "the head 'asr' leaves out" in message
    assert "1 clips of train with an empty transcript (silent1)" in message
    assert "1 clips of train with more symbols than frames (tight1)" in message
    assert "1 clips of valid with no such label (bare1)" in message
    assert "1 clips of train with labels_outside (late1)" in message
    assert "crowded1" not in message


def test_without_a_split_to_validate_on_nothing_begins(tmp_path: Path) -> None:
    shards.prepare(Fixed([tune(tmp_path, "clip1", ["low"])], "tunes"), tmp_path / "shards")
    with pytest.raises(InputError, match="no clip of the split 'valid'"):
        head_of(ShardDataModule(tmp_path / "shards"))


def test_a_vocabulary_of_a_file(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "symbols.txt"
    file.write_text("low\nhigh\n|\n")
    data = make()
    with pytest.warns(UserWarning, match=r"\d+ clips of train with symbols outside the vocabulary \(mid\)"):
        head = head_of(data, vocabulary=str(file))
    assert head.vocabulary.symbols == ("low", "high", " ")
    assert head.vocabulary.unseen == ("mid",)
    file.write_text("loud\n")
    with (
        pytest.warns(UserWarning, match="leaves out"),
        pytest.raises(InputError, match=r"this head can learn from no training clip: .*\(high low mid\)"),
    ):
        head_of(data, vocabulary=str(file))
    for content, told in (
        ("low\nlow\n", r"line 2: 'low' stands in line 1"),
        ("\n", "has no symbol"),
        ("a b\n", "line 1: 'a b'"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=told):
            head_of(data, vocabulary=str(file))


def test_a_text_is_not_cropped(make: Make) -> None:
    with pytest.raises(InputError, match=r"data\.crop_seconds=0\.35: the clip .* its text has no times .*=null"):
        head_of(make(crop_seconds=0.35), "text")


def test_empty_hypotheses_are_noticed(make: Make) -> None:
    head = head_of(make(), layers="weighted")
    targets = collate([torch.tensor([1, 2]), torch.tensor([3])])
    batch = Batch(["a", "b"], ["x"] * 2, torch.zeros(2, 1), torch.ones(2), {"asr": targets}, speakers=["s", "t"])
    head.update([{"greedy": []}, {"greedy": [3]}], batch)
    result = head.result()
    assert result.metrics["empty"] == 0.5
    assert any(note.startswith("1 of 2 hypotheses are empty") for note in result.notes)
    assert result.tables[-1] == head.layer_weights()[0]

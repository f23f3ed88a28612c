import functools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import ARCHITECTURE, quiet_trainer
from tones import prepared
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model
from tuned import SaveAt

from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.masked_prediction import MaskedPrediction
from w2v_abx.heads.quantizer import GumbelTemperature, QuantizerSizes
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.callbacks import Ema
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.parameters import from_checkpoint

SIZES = QuantizerSizes(groups=2, entries=8, codevector_dim=8, projection_dim=12)
SETTINGS = {"sizes": SIZES, "mask_time_length": 2, "num_negatives": 10, "feature_penalty": 0.1}
HEAD = "heads.wav2vec2."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    prepared(folder, {"train": 6, "valid": 3})
    return folder / "sequences"


def objective(clips: Path, lr: float = 3e-3, encoder: Encoder | None = None, **settings: Any) -> Objective:
    data = ShardDataModule(clips, batch_size=6)
    optimization = Optimization(functools.partial(torch.optim.AdamW, lr=lr), warmup_share=0.0)
    heads = {"wav2vec2": functools.partial(Contrastive, **{**SETTINGS, **settings})}
    return Objective(encoder or Encoder.random(ARCHITECTURE, seed=1), heads, data, optimization)


def contrastive(encoder: Encoder, **settings: Any) -> Contrastive:
    return Contrastive(encoder, None, "wav2vec2", **settings)  # type: ignore[arg-type]


def part(module: Objective) -> Contrastive:
    head = module.heads["wav2vec2"]
    assert isinstance(head, Contrastive)
    return head


class Logged(lightning.Callback):
    """What was logged, in training after each step and in validation after each epoch."""

    def __init__(self) -> None:
        self.train: dict[str, list[float]] = {}
        self.valid: dict[str, list[float]] = {}

    def add(self, kind: str, trainer: lightning.Trainer) -> None:
        for name, value in trainer.callback_metrics.items():
            if name.startswith(f"{kind}/wav2vec2_"):
                getattr(self, kind).setdefault(name.removeprefix(f"{kind}/wav2vec2_"), []).append(float(value))
        loss = trainer.callback_metrics.get(f"{kind}/loss")
        assert loss is None or float(loss) == getattr(self, kind)["loss"][-1]  # of its only head

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        self.add("train", trainer)

    def on_validation_end(self, trainer: lightning.Trainer, *_: object) -> None:
        self.add("valid", trainer)


def fit(
    module: Objective,
    folder: Path,
    out: Path,
    steps: int,
    batch_size: int = 6,
    callbacks: Sequence[lightning.Callback] = (),
    resume: Path | None = None,
    **settings: Any,
) -> Logged:
    logged = Logged()
    trainer = quiet_trainer(out, max_steps=steps, max_epochs=-1, callbacks=[*callbacks, logged], **settings)
    module.train()
    data = ShardDataModule(folder, batch_size=batch_size)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return logged


def test_it_learns_and_says_how_it_goes(folder: Path, tmp_path: Path) -> None:
    logged = fit(
        objective(folder, gumbel=GumbelTemperature(decay=0.99)), folder, tmp_path, 60, check_val_every_n_epoch=15
    )
    names = {"loss", "contrastive", "diversity", "penalty", "accuracy", "perplexity", "code_perplexity"}
    assert set(logged.train) == names | {"temperature"}
    assert set(logged.valid) == names
    train, valid = logged.train["contrastive"], logged.valid["contrastive"]
    assert np.mean(train[-10:]) < 0.9 * np.mean(train[:3])
    assert valid[-1] < 0.95 * valid[0]
    assert np.mean(logged.train["accuracy"][-10:]) > np.mean(logged.train["accuracy"][:3]) + 0.08
    assert logged.train["temperature"][:3] == pytest.approx([2.0, 1.98, 1.9602])
    assert min(logged.train["perplexity"]) > 4  # of 16; 2 is a collapse
    total = sum(weight * logged.train[name][0] for name, weight in (("contrastive", 1), ("diversity", 0.1)))
    assert logged.train["loss"][0] == pytest.approx(total + 0.1 * logged.train["penalty"][0], rel=1e-5)


def test_validation_is_the_same_each_time_and_in_any_batches(folder: Path, tmp_path: Path) -> None:
    logged = fit(objective(folder, lr=0.0), folder, tmp_path, 2)
    assert len(logged.valid["loss"]) == 2
    assert logged.valid["loss"][0] == logged.valid["loss"][1]
    assert logged.train["loss"][0] != logged.train["loss"][1]
    other = fit(objective(folder, lr=0.0), folder, tmp_path, 2, batch_size=2, val_check_interval=1)
    assert {name: values[0] for name, values in other.valid.items()} == pytest.approx(
        {name: values[0] for name, values in logged.valid.items()}, rel=1e-5
    )


def test_without_a_valid_split_nothing_is_validated(tmp_path: Path) -> None:
    prepared(tmp_path, {"train": 4})
    logged = fit(objective(tmp_path / "sequences"), tmp_path / "sequences", tmp_path, 2)
    assert logged.valid == {}
    assert len(logged.train["loss"]) == 2


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_the_next_run_goes_on_from_the_whole_model(family: str, folder: Path, tmp_path: Path) -> None:
    encoder = Encoder.random({**ARCHITECTURE, "model_type": family, "mask_time_prob": 0.5})
    module = objective(folder, encoder=encoder, folder=tmp_path / "pretraining")
    fit(module, folder, tmp_path, 2, limit_val_batches=0)

    settings = json.loads((tmp_path / "pretraining" / "config.json").read_text())
    sizes = ("num_codevector_groups", "num_codevectors_per_group", "codevector_dim", "proj_codevector_dim")
    assert [settings[name] for name in sizes] == [2, 8, 8, 12]
    again = Encoder.load(tmp_path / "pretraining")
    head = contrastive(again, source=tmp_path / "pretraining", seed=99)
    for ours, theirs in ((encoder, again), (part(module), head)):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name

    if family == "wav2vec2":
        theirs, found = Wav2Vec2ForPreTraining.from_pretrained(tmp_path / "pretraining", output_loading_info=True)
        assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        for name, value in part(module).state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
        base = Wav2Vec2Model.from_pretrained(tmp_path / "pretraining")
        for name, value in encoder.model.state_dict().items():
            assert torch.equal(value, base.state_dict()[name]), name


def test_the_whole_model_is_what_the_run_ends_with_also_if_it_had_no_step_left(folder: Path, tmp_path: Path) -> None:
    """The average that takes the weights' place when training ends; a run that was killed then writes it later."""
    whole = [tmp_path / name / "pretraining" for name in ("first", "again")]
    for made, resume in zip(whole, (None, tmp_path / "last.ckpt"), strict=True):
        module = objective(folder, folder=made)
        callbacks = [Ema(0.9, warmup=False), SaveAt(3, tmp_path / "last.ckpt")]
        fit(module, folder, tmp_path, 3, callbacks=callbacks, resume=resume, limit_val_batches=0)
        module.encoder.save(made.parent / "encoder")
        ours, theirs = (Encoder.load(made.parent / name).state_dict() for name in ("encoder", "pretraining"))
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), name
    first, again = (load_file(made / "model.safetensors") for made in whole)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(kept[f"{HEAD}project_q.weight"], first["project_q.weight"])


def test_what_a_checkpoint_lacks_is_drawn_from_the_seed_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder.random(ARCHITECTURE)
    encoder.save(tmp_path / "encoder")
    with caplog.at_level(logging.WARNING):
        parts = [contrastive(encoder, source=tmp_path / "encoder", seed=seed, sizes=SIZES) for seed in (0, 0, 1)]
    assert f"{tmp_path / 'encoder'} lacks project_hid.bias" in caplog.text
    assert "drawn anew, from seed 0" in caplog.text
    states = [head.state_dict() for head in parts]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["quantizer.codevectors"], states[2]["quantizer.codevectors"])


def test_nothing_but_what_is_asked_for_is_drawn(folder: Path) -> None:
    """The global random state is as before: a run's dropout does not depend on the codebooks' size."""
    states = []
    for entries in (8, 16):
        torch.manual_seed(0)
        objective(folder, sizes=replace(SIZES, entries=entries))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.fixture(scope="module")
def whole_model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model") / "pretraining"
    module = objective(folder, folder=made)
    part(module).finish(module.encoder)
    return made


def test_what_a_checkpoint_brought_is_told_from_what_is_new(whole_model: Path, folder: Path, tmp_path: Path) -> None:
    old = objective(folder, encoder=Encoder.load(whole_model), source=whole_model)
    assert from_checkpoint(old) == {name for name, _ in old.named_parameters() if name.startswith(HEAD)}
    Encoder.load(whole_model).save(tmp_path / "encoder")
    assert from_checkpoint(objective(folder, source=tmp_path / "encoder")) == set()


@pytest.mark.parametrize("sizes", [{"entries": 16}, {"groups": 4}, {"codevector_dim": 16}, {"projection_dim": 20}])
def test_other_sizes_than_the_checkpoints_are_refused(whole_model: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match="has a quantiser of other sizes"):
        contrastive(Encoder.load(whole_model), source=whole_model, sizes=QuantizerSizes(**sizes))
    contrastive(Encoder.load(whole_model), source=None, sizes=QuantizerSizes(**sizes))


@pytest.mark.parametrize("layout", ["torch", "shards"])
def test_older_and_larger_checkpoints_are_read(whole_model: Path, tmp_path: Path, layout: str) -> None:
    weights = load_file(whole_model / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((whole_model / name).read_bytes())
    if layout == "torch":
        torch.save(weights, tmp_path / "pytorch_model.bin")
    else:
        files = {name: f"{index % 2}.safetensors" for index, name in enumerate(weights)}
        for file in set(files.values()):
            save_file({name: weight for name, weight in weights.items() if files[name] == file}, tmp_path / file)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    head = contrastive(Encoder.load(tmp_path), source=tmp_path)
    for name, value in head.state_dict().items():
        assert torch.equal(value, weights[name]), name


def spoil_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(("spoil", "message"), [(spoil_weights, "cannot be read"), (remove_weights, "has no weights")])
def test_an_unreadable_checkpoint_is_named(
    whole_model: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    encoder = Encoder.load(whole_model)
    for file in whole_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        contrastive(encoder, source=tmp_path)


def test_masks_that_leave_no_negatives_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip of the batch has two masked frames"):
        fit(objective(folder, mask_time_prob=0.01, mask_time_length=1), folder, tmp_path, 1)


@pytest.mark.parametrize("head", [Contrastive, MaskedPrediction])
def test_a_model_that_cannot_be_masked_is_refused(head: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="no mask embedding"):
        head(Encoder.random({**ARCHITECTURE, "mask_time_prob": 0.0}), None, "head")

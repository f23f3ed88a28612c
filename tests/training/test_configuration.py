"""The shipped settings of heads and of a step: every key is there and explained, and defaults are those of the code."""

import dataclasses
import inspect
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from w2v_abx.config import CONF
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.head import CategoryHead, Head
from w2v_abx.heads.masked_prediction import MaskedPrediction
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.quantizer import GumbelTemperature, QuantizerSizes
from w2v_abx.heads.selfsupervised import SelfSupervisedHead
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.optimization import Optimization

HEADS: dict[str, type[Head]] = {
    "contrastive": Contrastive,
    "masked_prediction": MaskedPrediction,
    "multilabel": Multilabel,
}
OBJECTIVES = {  # each head's own objective, and its name there
    "contrastive": ("pretrain", "wav2vec2"),
    "masked_prediction": ("masked_prediction", "clusters"),
    "multilabel": ("multilabel", "labels"),
}
FITTED: dict[str, dict[str, Any]] = {  # to a model that is trained
    "contrastive": {"gumbel.start": 0.5, "feature_penalty": 0.0, "folder": None},
    "masked_prediction": {"unmasked_weight": 0.5, "speed": 1.2},
}
RECORDS = {"sizes": QuantizerSizes(), "gumbel": GumbelTemperature()}
GIVEN = {"encoder", "data", "name"}  # by the objective


def settings(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items() if not str(name).startswith("_")}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def arguments(head: type[Head]) -> dict[str, Any]:
    """What a head takes beside what the objective gives it, with the defaults."""
    found: dict[str, Any] = {}
    for kind in reversed(head.__mro__):
        if kind in (Head, SelfSupervisedHead, CategoryHead, head):
            found |= {name: value.default for name, value in inspect.signature(kind).parameters.items()}
    taken = GIVEN | {"options"} | ({"label"} if issubclass(head, SelfSupervisedHead) else set())
    return {name: default for name, default in found.items() if name not in taken}


@pytest.mark.parametrize("name", list(HEADS))
def test_a_heads_settings_are_its_arguments(name: str) -> None:
    objective, place = OBJECTIVES[name]
    given, wanted = settings(composed(f"objective={objective}").objective.heads[place]), arguments(HEADS[name])
    assert given.keys() == wanted.keys()
    for key in given.keys() - {"seed", "source", "revision", "folder"}:
        if key in RECORDS:
            target = given[key].pop("_target_")
            assert target.endswith(type(RECORDS[key]).__name__)
            assert given[key] == dataclasses.asdict(RECORDS[key])
        else:
            assert given[key] == wanted[key], key


@pytest.mark.parametrize("name", list(FITTED))
def test_a_loss_has_the_same_settings_alone_and_replayed(name: str) -> None:
    objective, place = OBJECTIVES[name]
    expected = composed(f"objective={objective}").objective.heads[place]
    expected.clips = "unlabelled"
    for key, value in FITTED[name].items():
        OmegaConf.update(expected, key, value)
    replayed = composed("objective=multilabel_replay", f"head@objective.heads.replay=replayed_{name}")
    assert settings(replayed.objective.heads.replay) == settings(expected)


def test_replay_takes_one_line() -> None:
    config = composed("data=replay", "objective=multilabel_replay", "data.mix.speech.folder=data/shards/espeak")
    assert config.data.mix.speech.folder == "data/shards/espeak"
    assert config.objective.heads.replay._target_.endswith("MaskedPrediction")  # the shipped model's own loss
    assert config.objective.heads.replay.clips == "unlabelled"
    assert config.objective.heads.labels == composed().objective.heads.labels


def test_the_settings_of_a_step_are_those_of_the_code() -> None:
    config = composed()
    assert settings(config.microbatch) == dataclasses.asdict(MicroBatching())
    assert settings(config.optimizer).keys() == inspect.signature(Optimization).parameters.keys()
    for name, target in (("fixed", "Fixed"), ("uncertainty", "Uncertainty"), ("dynamic", "DynamicAverage")):
        assert composed(f"weighting={name}").weighting._target_.endswith(f"weighting.{target}")


def test_each_key_of_pretraining_is_explained() -> None:
    plain = ("_target_", "_partial_", "seed", "revision", "layers", "source", "#")
    for line in (CONF / "head" / "contrastive.yaml").read_text().splitlines():
        assert "#" in line or line.strip().startswith(plain), line

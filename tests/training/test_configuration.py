"""The shipped settings of objectives: every key is there, and what is replayed has the settings it has alone."""

import inspect
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from w2v_abx.heads.replay import Replay

from w2v_abx.config import CONF
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.masked_prediction import ClusterPrediction
from w2v_abx.training.microbatch import ElasticModule

PARTS = {"pretrain": Contrastive, "masked_prediction": ClusterPrediction}
FITTED = {  # to a model that is trained
    "pretrain": {"gumbel_start": 0.5, "feature_penalty": 0.0},
    "masked_prediction": {"unmasked_weight": 0.5, "speed": 1.2},
}


def settings(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items() if not str(name).startswith("_")}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("name", list(PARTS))
def test_a_part_has_the_same_settings_alone_and_replayed(name: str) -> None:
    alone = settings(composed(f"objective={name}").objective)
    replayed = settings(composed("objective=multilabel_replay", f"objective/replay={name}").objective.replay)
    elastic = set(inspect.signature(ElasticModule).parameters)
    assert elastic <= alone.keys()
    given = {key: value for key, value in alone.items() if key not in elastic | {"folder"}}
    assert settings(OmegaConf.create(replayed.pop("part"))) == {**given, **FITTED[name]}
    assert replayed.keys() == set(inspect.signature(Replay).parameters) - {"encoder", "data", "part"}
    defaults = inspect.signature(PARTS[name]).parameters
    assert given.keys() == defaults.keys() - {"encoder"}
    for key in given.keys() - {"seed", "source", "revision"}:
        assert given[key] == defaults[key].default, key


def test_replay_takes_one_line() -> None:
    config = composed("data=replay", "objective=multilabel_replay", "data.mix.speech.folder=data/shards/espeak")
    assert config.data.mix.speech.folder == "data/shards/espeak"
    assert config.objective.replay.part._target_.endswith("ClusterPrediction")  # the shipped model's own loss
    assert config.objective.heads == composed().objective.heads


def test_each_key_of_pretraining_is_explained() -> None:
    for line in (CONF / "objective" / "pretrain.yaml").read_text().splitlines():
        assert "#" in line or line.startswith(("_target_", "seed", "source", "revision", "gradient_clip_norm")), line

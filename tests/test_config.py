"""The experiments that are shipped fit together."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from w2v_abx.config import CONF, expand_home, wandb_offline

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_names_what_there_is(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train", [f"experiment={name}", "abx.root=here"] if name == "esc10_fsdd" else [f"experiment={name}"]
        )
    assert config.name == name
    for group in ("corpus", "model", "data", "prepare", "optimizer"):
        assert OmegaConf.to_container(config[group], resolve=True)
    assert get_class(config.corpus._target_)
    assert get_method(config.model._target_)


@pytest.mark.parametrize("name", ["normalisation_espeak", "normalisation_aishell1"])
def test_the_normalisation_study_teaches_each_of_its_tasks(name: str) -> None:
    params = OmegaConf.load(CONF / "experiment" / "recipe" / "normalisation.yaml").hydra.sweeper.params
    taught = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for task in params["experiment/task"].split(","):
            heads = compose("train", [f"experiment/task={task}", f"experiment={name}"]).objective.heads
            taught[task] = sorted(heads)
    assert taught == {"tones": ["tones"], "phones": ["phones"], "sex": ["sex"], "tones_sex": ["sex", "tones"]}


def test_the_headline() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=audioset_108"])
    assert (config.corpus.name, config.abx.subset, config.model.source) == (
        "audioset_108", "dev-clean", "facebook/wav2vec2-base",
    )  # fmt: skip
    assert config.data.crop_seconds == 10.0


def test_the_weightings_of_the_multitask_sweep_weigh_the_heads_of_the_study() -> None:
    swept = OmegaConf.load(CONF / "sweep" / "multitask.yaml").hydra.sweeper.params.weighting.split(",")
    presets = {name: OmegaConf.load(CONF / "weighting" / f"{name}.yaml") for name in swept}
    weights = {name: dict(preset.weights) for name, preset in presets.items() if preset.get("weights")}
    assert weights == {
        "multitask_early": {"text": 0.65, "speaker": 0.20, "emotion": 0.15},
        "multitask_late": {"text": 0.50, "speaker": 0.35, "emotion": 0.15},
        "only_text": {"text": 1.0},
        "only_speaker": {"speaker": 1.0},
        "only_emotion": {"emotion": 1.0},
    }
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for experiment in ("multitask_emotion", "multitask_emotion_espeak"):
            config = compose("train", [f"experiment={experiment}"])
            assert config.weighting.weights == weights["multitask_early"]
            assert set(config.objective.heads) == {"text", "speaker", "emotion"}


def test_a_path_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/kim")
    config = OmegaConf.create(
        {
            "root": "~/data",
            "list": "${root}/a.item",
            "folder": "~/${name}",
            "files": ["~/a.wav", {"path": "~"}, "b~/c", "~kim", "~~/x"],
            "same": "${files}",
            "name": "own",
            "missing": "???",
            "none": None,
        }
    )
    OmegaConf.set_struct(config, True)
    expand_home(config)
    assert (config.root, config.list, config.folder) == ("/home/kim/data", "/home/kim/data/a.item", "/home/kim/own")
    assert list(config.same) == ["/home/kim/a.wav", {"path": "/home/kim"}, "b~/c", "~kim", "~~/x"]
    assert OmegaConf.is_missing(config, "missing")
    assert OmegaConf.to_container(config, resolve=False)["list"] == "${root}/a.item"


def test_wandb_does_what_its_mode_says_and_is_offline_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for mode, offline in (("disabled", False), ("online", False), ("shared", False), ("offline", True), ("", True)):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert wandb_offline() is offline
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key")
    assert not wandb_offline()

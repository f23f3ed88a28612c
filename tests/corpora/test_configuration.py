"""The shipped settings of corpora: every key is there, and says what it does."""

import importlib
import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from w2v_abx.config import CONF

WRITTEN = ("aishell1", "emotion", "folder", "librispeech", "timit")
OVER_FOLDER = ("common_voice", "esc10", "esc50", "fsd50k", "speech_commands", "urbansound8k")


@pytest.mark.parametrize("name", WRITTEN)
def test_each_setting_is_a_key_with_a_comment(name: str) -> None:
    path = CONF / "corpus" / f"{name}.yaml"
    config = OmegaConf.load(path)
    module, _, made = str(config["_target_"]).rpartition(".")
    settings = inspect.signature(getattr(importlib.import_module(module), made)).parameters
    assert set(settings) == {str(key) for key in config if not str(key).startswith("_")}
    for line in filter(None, Path(path).read_text().splitlines()):
        assert "#" in line or line.startswith(("_", "name:", "  "))


@pytest.mark.parametrize("name", OVER_FOLDER)
def test_corpora_over_the_folder_are_yaml_alone(name: str) -> None:
    configs = [OmegaConf.load(CONF / "corpus" / f"{file}.yaml") for file in (name, "folder")]
    own, folder = ({str(key) for key in config} for config in configs)
    assert own - {"defaults"} < folder
    assert list(configs[0]["defaults"]) == ["folder", "_self_"]


@pytest.mark.parametrize("preset", ["dev_clean", "dev_other", "test_clean", "test_other"])
def test_the_presets_of_librispeech_differ_in_their_subset(preset: str) -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("abx", [f"abx=librispeech_{preset}", "paths.data=here"])
    subset = preset.replace("_", "-")
    assert config.abx["speech"]["items"] == f"here/librilight/{subset}.item"
    assert config.abx["speech"]["root"] == f"here/librispeech/LibriSpeech/{subset}"

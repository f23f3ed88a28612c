"""The experiments that are shipped fit together."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from w2v_abx.config import CONF

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


def test_the_headline() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=audioset_108"])
    assert (config.corpus.name, config.abx.subset, config.model.source) == (
        "audioset_108", "dev-clean", "facebook/wav2vec2-base",
    )  # fmt: skip
    assert config.data.crop_seconds == 10.0

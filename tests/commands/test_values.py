"""Values of the wrong type are named by their key, in every group, and what is shipped has none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from w2v_abx import commands
from w2v_abx.commands.values import check_values
from w2v_abx.config import CONF
from w2v_abx.errors import InputError

TRAIN = (
    "corpus abx model data noise objective weighting microbatch optimizer thermal logger trainer experiment callbacks "
    "align optimizer/schedule objective/masking"
)
GROUPS = [*(("train", group) for group in TRAIN.split()), ("prepare", "items"), ("abx", "abx"), ("abx", "model")]
NO_CHOICES = ("abx/setting", "trainer/slurm")  # a part of others; and what needs Slurm's environment


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Any]:
    def composed(command: str, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(command, list(overrides), return_hydra_config=True)
        with read_write(config), open_dict(config):
            config.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(config)
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config

    before = HydraConfig.instance().cfg
    assert commands  # which registers resolvers
    yield composed
    HydraConfig.instance().cfg = before


@pytest.mark.parametrize(("command", "group"), GROUPS)
def test_what_is_shipped_is_of_the_types_that_it_goes_to(command: str, group: str, composed: Any) -> None:
    for path in sorted((CONF / group).glob("*.yaml")):
        if f"{group}/{path.stem}" not in NO_CHOICES:
            check_values(composed(command, f"{group}={'[%s]' if group == 'callbacks' else '%s'}" % path.stem))


def test_values_of_the_wrong_type(composed: Any) -> None:
    wrong = {
        "trainer.max_epochs=abc": "trainer.max_epochs='abc' must be a whole number or null",
        "trainer.max_epochs=[1]": "trainer.max_epochs=[1] must be a whole number or null",
        "trainer.max_epochs=1.5": "a whole number",
        "trainer.max_epochs=true": "a whole number",
        "trainer.deterministic=sometimes": "true or false or one of warn",
        "trainer.precision=31": "one of",
        "+trainer.epochs=3": "unknown key trainer.epochs; lightning.Trainer takes accelerator, strategy",
        "seed=abc": "seed='abc' must be a whole number",
        "seed=null": "seed=None must be a whole number",
        "signals=SIGTERM": "signals='SIGTERM' must be a list or null",
        "resume=5": """resume=5 must be a text or null; as a text: 'resume="5"'""",
        "optimizer.optimizer.lr=abc": "optimizer.optimizer.lr='abc' must be a number",
        "optimizer.optimizer.betas=[0.9]": "a list",
        "optimizer.decay_all=maybe": "true or false",
        "callbacks.checkpoints=5": "callbacks.checkpoints=5 must be a group of keys or null",
        "callbacks.checkpoints.every_steps=x": "a whole number",
        "logger.csv.every_rows=x": "a whole number",
        "+logger.other=x": "a group of keys",
        "thermal.period=x": "thermal.period='x' must be a number",
        "thermal.governor.limit=hot": "a number or null",
        "corpus.seconds=x": "a number",
        "corpus.root=2024": """as a text: 'corpus.root="2024"'""",
        "corpus._target_=no.such": "corpus._target_=no.such cannot be loaded",
        "data.crop_seconds=x": "a number or null",
        "data.cache=[x]": "a text or null",
        "prepare.clips_per_shard=x": "a whole number or null",
        "prepare.remove_dc=x": "true or false",
        "features.keep=x": "true or false",
        "abx.layers=all": "a list or a whole number or null",
        "abx.weighted=x": "true or false",
        "model.compile=x": "true or false",
        "model.lora.rank=x": "a whole number",
        "objective.heads.labels.weight=x": "a number",
        "objective.heads=5": "a group of keys",
        "microbatch.grow_after=x": "a whole number",
        "paths.data=5": "a text",
        "baselines=mfcc": "a list",
    }
    for override, answer in wrong.items():
        with pytest.raises(InputError) as error:
            check_values(composed("train", override))
        assert answer in str(error.value), override


def test_a_key_is_named_where_a_user_sets_it(composed: Any) -> None:
    with pytest.raises(InputError, match=r"^abx.items=7 must be a text"):
        check_values(composed("abx", "abx.items=7"))


def test_what_is_missing_or_not_annotated_is_left_to_its_owner(composed: Any) -> None:
    config = composed("train", "corpus=folder")
    assert OmegaConf.is_missing(config.corpus, "root")
    check_values(config)
    check_values(composed("train", "corpus=folder", "corpus.valid.fraction=x"))

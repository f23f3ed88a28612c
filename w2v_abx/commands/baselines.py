"""The rows beside a model's: MFCC, and the same architecture with random weights."""

from dataclasses import replace

from omegaconf import DictConfig

from w2v_abx.abx.setting import AbxSetting
from w2v_abx.config import unwrap
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.extractor import Extractor
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.system.checks import choice

__all__ = ["BASELINES", "baseline", "baselines_of"]

BASELINES = ("mfcc", "random")


def baselines_of(config: DictConfig) -> list[str]:
    """The baselines of a run, in the order in which they are measured. Raises InputError for what is none."""
    for name in config.baselines:
        choice("baselines", name, BASELINES)
    if "random" in config.baselines and "source" not in config.model.keys():  # noqa: SIM118 it may be there and not be given
        raise InputError("baselines=random has the architecture of a model, and this one has none: leave it out")
    return [name for name in BASELINES if name in config.baselines]


def baseline(name: str, config: DictConfig, setting: AbxSetting) -> tuple[Extractor, AbxSetting]:
    """Make a baseline of ``config.model``, and the setting that it is scored in: MFCC has but one layer."""
    if name == "mfcc":
        return Mfcc(), replace(setting, layers=None)
    source, revision = unwrap(config.model.source), config.model.get("revision")
    return Encoder.random(source, config.seed, revision=revision), setting

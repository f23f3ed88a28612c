"""What a training does to look inside its model, before and after."""

from collections.abc import Container, Mapping
from pathlib import Path

import lightning
from hydra.utils import instantiate
from omegaconf import DictConfig

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Analysis
from w2v_abx.commands.analyses import analyse, analyses_of, baseline_subjects, check_analyses, feature_cache
from w2v_abx.commands.baselines import baselines_of
from w2v_abx.commands.subjects import trained, untrained
from w2v_abx.errors import InputError
from w2v_abx.models.extractor import Extractor
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.system.streams import plain_console
from w2v_abx.training.saving.phases import add_phase
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["analyses_for", "look_inside"]

PHASE = "analysis_"  # begins the name of each one's phase


def analyses_for(
    config: DictConfig, speech: Speech, encoder: Extractor, trainer: lightning.Trainer
) -> dict[str, Analysis]:
    """Make the analyses that a run ends with.

    Raises:
        InputError: one cannot be made of these items or this encoder; several processes; MFCC, which does not change.
    """
    analyses = analyses_of(config)
    if not analyses:
        return {}
    if trainer.world_size > 1:
        raise InputError("analysis needs one process: leave it out, and let w2v-abx analyze look at the finished run")
    if isinstance(encoder, Mfcc):
        raise InputError("analysis: nothing changes inside MFCC; leave it out")
    check_analyses(analyses, _looked_at(config, speech), ["before", "after", *baselines_of(config)], encoder.n_layers)
    return analyses


def look_inside(
    config: DictConfig,
    analyses: Mapping[str, Analysis],
    speech: Speech,
    run: Path,
    done: Container[str],
    thermal: lightning.Callback | None,
) -> None:
    """Make those of the analyses that are not done, and save them in the folder of the run."""
    left = {name: analysis for name, analysis in analyses.items() if f"{PHASE}{name}" not in done}
    if not left:
        return
    plain_console().rule("inside")
    subjects = [*untrained({str(run): config}), trained("after", run, config)]
    subjects += baseline_subjects(baselines_of(config), config.model.get("source"), config.seed)
    tester = evaluation_trainer(config.trainer, thermal)
    for name in analyse(left, subjects, _looked_at(config, speech), run, feature_cache(config), tester, config.seed):
        add_phase(run, f"{PHASE}{name}", (run / "analysis" / name).iterdir())


def _looked_at(config: DictConfig, speech: Speech) -> Speech:
    """The speech that analyses look at: that of ABX, unless the configuration has other items."""
    other: Speech | None = instantiate(config.analysis_speech)
    return other or speech

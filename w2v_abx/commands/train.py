"""`w2v-abx train`: train a model on a corpus, measure ABX before and after, and say what changed."""

import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning
import torch
import wandb
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.monitor import AbxMonitor
from w2v_abx.abx.setting import AbxSetting, Extractor
from w2v_abx.atomic import write_json
from w2v_abx.commands import command, evaluation_trainer, output_folder
from w2v_abx.commands.prepare import prepare
from w2v_abx.configuration import has_wandb_key, require_choice, unwrap
from w2v_abx.encoder import Encoder
from w2v_abx.errors import InputError
from w2v_abx.mfcc import Mfcc
from w2v_abx.objectives.supervised import Supervised
from w2v_abx.report import Summary, print_summary, summarize, write_model_card, write_report
from w2v_abx.runs import Run

__all__ = ["main"]

BASELINES = ("mfcc", "random")


@command("train")
def main(config: DictConfig) -> None:
    """Prepare, measure, train, measure again, compare, report."""
    for baseline in config.baselines:
        require_choice("baselines", baseline, BASELINES)
    setting = AbxSetting.of(config.abx, config.seed)
    with Run(output_folder(), config) as run:
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        if not has_wandb_key():
            os.environ.setdefault("WANDB_SILENT", "true")  # an offline run has nothing to tell
        loggers = list(instantiate(config.logger).values())
        try:
            summary = train(config, setting, run, loggers)
        finally:
            # A sweep's next job must not log into this one's W&B run, however this one ended.
            if wandb.run is not None:
                wandb.finish(exit_code=int(sys.exc_info()[0] is not None))
    print_summary(summary, Console())


def train(config: DictConfig, setting: AbxSetting, run: Run, loggers: Sequence[Logger]) -> Summary:
    """Build everything, so that what is wrong shows before any work; then work down the line."""
    if config.prepare.plan_only or config.prepare.part is not None:
        raise InputError("prepare.plan_only and prepare.part are for `w2v-abx prepare`; training needs all clips")
    console = Console()
    encoder: Encoder = instantiate(config.model)
    layers = setting.layers_of(encoder)
    if config.primary_layer is not None:
        require_choice("primary_layer", config.primary_layer, layers)
    trainer = build_trainer(config, loggers)
    optimization = instantiate(config.optimizer)
    console.rule("clips")
    speech = instantiate(config.abx.speech)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AbxMonitor):
            callback.attach(speech, setting)
    manifest = prepare(config)
    run.record(clips=manifest.splits, skipped_clips=dict(manifest.skipped))
    data = instantiate(config.data)
    objective = instantiate(config.objective, encoder=encoder, data=data, optimization=optimization)
    if config.resume is not None:
        check_checkpoint(Path(config.resume), objective)

    def measure(tag: str, model: str, extractor: Extractor, setting: AbxSetting) -> None:
        console.print(f"ABX: {model}")
        evaluate(model, extractor, speech, setting, evaluation_trainer(config.trainer)).save(run.folder / "abx", tag)

    console.rule("before training")
    measure("before", "before training", encoder, setting)
    if "mfcc" in config.baselines:
        measure("mfcc", "MFCC", Mfcc(), replace(setting, layers=None))
    if "random" in config.baselines:
        source, revision = unwrap(config.model.source), config.model.get("revision")
        random = Encoder.random(source, config.seed, revision=revision)
        measure("random", "random initialisation", random, setting)

    console.rule("training")
    objective.train()  # Lightning keeps the mode that it finds
    trainer.fit(objective, datamodule=data, ckpt_path=config.resume)
    encoder.save(run.folder / "encoder")
    if isinstance(objective, Supervised):
        trainer.validate(objective, datamodule=data, verbose=False)  # training may have ended inside an epoch
        write_json(run.folder / "head.json", objective.head_metrics)

    console.rule("after training")
    measure("after", "after training", encoder, setting)
    run.record(steps=trainer.global_step, epochs=trainer.current_epoch, state="finished")
    summary = summarize(run.folder)
    run.record(verdict=summary.verdict)
    write_report(summary)
    write_model_card(summary, run.folder / "encoder")
    for logger in trainer.loggers:
        logger.log_metrics(abx_metrics(summary), step=trainer.global_step)
        logger.finalize("success")
    return summary


def build_trainer(config: DictConfig, loggers: Sequence[Logger]) -> lightning.Trainer:
    """The trainer with its loggers and callbacks. Raises InputError for more than one process."""
    callbacks = [*instantiate(config.callbacks).values(), instantiate(config.thermal)]
    trainer: lightning.Trainer = instantiate(
        config.trainer, logger=loggers, callbacks=[callback for callback in callbacks if callback is not None]
    )
    if trainer.world_size > 1:
        raise InputError(f"training works in one process, not {trainer.world_size}; set trainer.devices=1")
    return trainer


def check_checkpoint(path: Path, objective: lightning.LightningModule) -> None:
    """Raise InputError unless ``path`` is a checkpoint of this objective with this encoder and these heads."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise InputError(f"resume={path} is not a whole checkpoint ({str(error).splitlines()[0]})") from error
    expected = {name: tuple(value.shape) for name, value in objective.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"resume={path} is a checkpoint of another model, objective or corpus: {name} has the shape "
                f"{found.get(name, 'of nothing')} there and {expected.get(name, 'of nothing')} here"
            )


def abx_metrics(summary: Summary) -> dict[str, float]:
    """ABX errors under the names that loggers show them by."""
    return {
        f"abx/{comparison.condition}/layer{comparison.layer}/{when}": error
        for comparison in summary.comparisons
        for when, error in (("before", comparison.error_before), ("after", comparison.error_after))
    }

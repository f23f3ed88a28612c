"""`w2v-abx train`: train a model on a corpus, measure ABX before and after, and say what changed."""

from dataclasses import replace
from pathlib import Path

import lightning
from hydra.utils import instantiate
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig
from rich.console import Console

from w2v_abx.abx.evaluation import AbxSetting, Extractor, evaluate
from w2v_abx.atomic import write_json
from w2v_abx.commands import command, evaluation_trainer, output_folder
from w2v_abx.commands.prepare import prepare
from w2v_abx.configuration import require_choice, unwrap
from w2v_abx.encoder import Encoder
from w2v_abx.errors import InputError
from w2v_abx.mfcc import Mfcc
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
    if config.resume is not None and not Path(config.resume).is_file():
        raise InputError(f"resume={config.resume} is not a checkpoint; see checkpoints/ in a run's folder")
    with Run(output_folder(), config) as run:
        train(config, setting, run)


def train(config: DictConfig, setting: AbxSetting, run: Run) -> None:
    console = Console()
    lightning.seed_everything(config.seed, workers=True, verbose=False)

    encoder: Encoder = instantiate(config.model)
    if config.primary_layer is not None:
        require_choice("primary_layer", config.primary_layer, setting.layers_of(encoder))
    optimization = instantiate(config.optimizer)
    callbacks = [*instantiate(config.callbacks).values(), instantiate(config.thermal)]
    trainer: lightning.Trainer = instantiate(
        config.trainer,
        logger=list(instantiate(config.logger).values()),
        callbacks=[callback for callback in callbacks if callback is not None],
    )
    console.rule("clips")
    prepare(config)
    data = instantiate(config.data)
    objective = instantiate(config.objective, encoder=encoder, data=data, optimization=optimization)
    speech = instantiate(config.abx.speech)

    def measure(tag: str, model: str, extractor: Extractor, setting: AbxSetting) -> None:
        console.print(f"ABX: {model}")
        evaluate(model, extractor, speech, setting, evaluation_trainer(config.trainer)).save(run.folder / "abx", tag)

    console.rule("before training")
    measure("before", "before training", encoder, setting)
    if "mfcc" in config.baselines:
        measure("mfcc", "MFCC", Mfcc(), replace(setting, layers=None))
    if "random" in config.baselines:
        random = Encoder.random(unwrap(config.model.source), config.seed)
        measure("random", "random initialisation", random, setting)

    console.rule("training")
    objective.train()  # Lightning keeps the mode that it finds
    trainer.fit(objective, datamodule=data, ckpt_path=config.resume)
    encoder.save(run.folder / "encoder")
    if heads := getattr(objective, "head_metrics", None):
        write_json(run.folder / "head.json", heads)
    run.record(steps=trainer.global_step, epochs=trainer.current_epoch)

    console.rule("after training")
    measure("after", "after training", encoder, setting)
    summary = summarize(run.folder)
    run.record(verdict=summary.verdict)
    log_errors(summary, trainer)
    write_report(summary)
    write_model_card(summary, run.folder / "encoder")
    print_summary(summary, console)


def log_errors(summary: Summary, trainer: lightning.Trainer) -> None:
    """Send the ABX errors to the loggers, and end their runs, so that the verdict is the last that is printed."""
    errors = {
        f"abx/{comparison.condition}/layer{comparison.layer}/{when}": value
        for comparison in summary.comparisons
        for when, value in (("before", comparison.error_before), ("after", comparison.error_after))
    }
    for logger in trainer.loggers:
        logger.log_metrics(errors, step=trainer.global_step)
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()

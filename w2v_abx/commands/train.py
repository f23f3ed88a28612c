"""`w2v-abx train`: train a model on a corpus, measure ABX before and after, and say what changed."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import wandb
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.commands import output_folder
from w2v_abx.commands.checks import check_clips, check_settings
from w2v_abx.commands.prepare import prepare
from w2v_abx.config import has_wandb_key, require_choice, unwrap
from w2v_abx.data import ShardDataModule
from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.features.settings import FeatureSettings
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.extractor import Extractor
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.report import Summary, print_summary, summarize, write_model_card, write_report
from w2v_abx.runs import AUTO, Run
from w2v_abx.system import signals
from w2v_abx.system.atomic import write_json
from w2v_abx.system.signals import Watch
from w2v_abx.training.callbacks.abx_monitor import AbxMonitor
from w2v_abx.training.objective import Objective, build
from w2v_abx.training.saving import ExactResume
from w2v_abx.training.saving.exact import logger_states, restore_loggers
from w2v_abx.training.saving.files import check_checkpoint, checkpoint_of
from w2v_abx.training.saving.phases import add_phase, phases_done
from w2v_abx.training.trainers import evaluation_trainer, training_trainer, watching

__all__ = ["main"]

BASELINES = ("mfcc", "random")


def main(config: DictConfig) -> None:
    """Prepare, measure, train, measure again, compare, report."""
    for baseline in config.baselines:
        require_choice("baselines", baseline, BASELINES)
    setting = AbxSetting.of(config.abx, config.seed)
    features = FeatureSettings.of(config.features)
    folder, auto = output_folder(), config.resume == AUTO
    first = current_process().rank == 0
    with Watch(config.signals or ()), Run(folder, config, resume=auto) if first else nullcontext() as run:
        if current_process().first(lambda: run is not None and run.finished):
            if run is not None:
                print(f"{folder} is finished: there is nothing left to do")
            return
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        if not has_wandb_key():
            os.environ.setdefault("WANDB_SILENT", "true")  # an offline run has nothing to tell
        loggers = [instantiate(logger, **identity(logger, run)) for logger in config.logger.values()]
        try:
            summary = train(config, setting, features, run, loggers)
        except BaseException:
            current_process().ends()  # what follows may have much to upload
            raise
        finally:
            # A sweep's next job must not log into this one's W&B run, however this one ended.
            if wandb.run is not None:
                wandb.finish(exit_code=int(sys.exc_info()[0] is not None))
    if summary is not None:
        print_summary(summary, Console())


def train(
    config: DictConfig, setting: AbxSetting, features: FeatureSettings, run: Run | None, loggers: Sequence[Logger]
) -> Summary | None:
    """Build everything, so that what is wrong shows before any work; then work down the line.

    The first rank alone has the ``run``, and the summary of it.
    """
    if config.prepare.plan_only or config.prepare.part is not None:
        raise InputError("prepare.plan_only and prepare.part are for `w2v-abx prepare`; training needs all clips")
    ranks, folder = current_process(), output_folder()
    console = Console(quiet=run is None)
    done = ranks.first(lambda: phases_done(folder))
    thermal = instantiate(config.thermal)
    encoder: Encoder = instantiate(config.model)
    layers = setting.layers_of(encoder)
    if config.primary_layer is not None:
        require_choice("primary_layer", config.primary_layer, layers)
    trainer = build_trainer(config, loggers, thermal)
    check_settings(config, trainer)
    console.rule("clips")
    speech = ranks.in_turn(lambda: instantiate(config.abx.speech))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AbxMonitor):
            callback.attach(speech, setting)
    data = clips_of(config, run)
    objective = build(config, encoder, data)
    check_clips(trainer, data, objective)
    checkpoint = None if "training" in done else starting_point(config.resume, folder, objective, console)

    def measure(tag: str, model: str, extractor: Extractor, setting: AbxSetting) -> None:
        if tag in done:
            return
        console.print(f"ABX: {model}")
        kept, tester = features.folder(folder, tag), evaluation_trainer(config.trainer, thermal)
        result = evaluate(model, extractor, speech, setting, tester, kept, features.dtype)
        if run is not None:
            result.save(folder / "abx", tag)
            add_phase(folder, tag, (folder / "abx" / tag).iterdir())

    console.rule("before training")
    measure("before", "before training", encoder, setting)
    if "mfcc" in config.baselines:
        measure("mfcc", "MFCC", Mfcc(), replace(setting, layers=None))
    if "random" in config.baselines:
        source, revision = unwrap(config.model.source), config.model.get("revision")
        random = Encoder.random(source, config.seed, revision=revision)
        measure("random", "random initialisation", random, setting)

    console.rule("training")
    trained = done.get("training")
    if trained is None:
        # Whichever phases were done before; and ranks are not to drop the same values of different clips.
        lightning.seed_everything(ranks.seed(config.seed), workers=True, verbose=False)
        trained, encoder = fit(config, trainer, objective, data, checkpoint)
    else:
        encoder = Encoder.load(folder / "encoder")
        restore_loggers(loggers, trained["loggers"])

    console.rule("after training")
    measure("after", "after training", encoder, setting)
    return None if run is None else conclude(run, trained, loggers)


def clips_of(config: DictConfig, run: Run | None) -> ShardDataModule:
    """Have the first rank prepare the corpus, however long it takes, and let all of them read it."""

    def prepare_all() -> None:
        manifest = prepare(config)
        if run is not None:
            run.record(clips=manifest.splits, skipped_clips=dict(manifest.skipped))

    current_process().first(prepare_all)
    data: ShardDataModule = instantiate(config.data)
    data.should_stop = signals.asked
    return data


def fit(
    config: DictConfig,
    trainer: lightning.Trainer,
    objective: Objective,
    data: lightning.LightningDataModule,
    checkpoint: str | None,
) -> tuple[dict[str, Any], Encoder]:
    """Train, and have the first rank write the results. Returns how far it came, and the encoder."""
    folder = output_folder()
    objective.train()  # Lightning keeps the mode that it finds
    trainer.fit(objective, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    signals.check()
    if objective.validates:
        trainer.validate(objective, datamodule=data, verbose=False)  # training may have ended inside an epoch
    trained: dict[str, Any] = {"steps": trainer.global_step, "epochs": trainer.current_epoch}
    if trainer.is_global_zero:
        objective.encoder.save(folder / "encoder")
        rated = {name: result.plain() for name, result in objective.results.items() if result.metrics}
        if rated:
            write_json(folder / "head.json", rated)
        made = [*(folder / "encoder").iterdir(), *folder.glob("pretraining/*"), folder / "head.json"]
        trained["loggers"] = logger_states(trainer.loggers)
        add_phase(folder, "training", made, **trained)
    return trained, objective.encoder


def conclude(run: Run, trained: dict[str, Any], loggers: Sequence[Logger]) -> Summary:
    """Compare, and write the report."""
    run.record(steps=trained["steps"], epochs=trained["epochs"], state="finished")
    summary = summarize(run.folder)
    run.record(verdict=summary.verdict)
    write_report(summary)
    write_model_card(summary, run.folder / "encoder")
    for logger in loggers:
        logger.log_metrics(abx_metrics(summary), step=trained["steps"])
        logger.finalize("success")
    return summary


def identity(logger: DictConfig, run: Run | None) -> dict[str, Any]:
    """What makes a logger that has not been told an ``id`` the same one whenever the run goes on."""
    return {"id": run.facts["id"]} if run is not None and "id" in logger and logger.id is None else {}


def build_trainer(
    config: DictConfig, loggers: Sequence[Logger], thermal: lightning.Callback | None
) -> lightning.Trainer:
    """The trainer with its loggers and callbacks."""
    exact = ExactResume(ended=config.resume == AUTO)
    callbacks = [exact, watching(), *instantiate(config.callbacks).values(), thermal]
    saving = any(isinstance(callback, Checkpoint) for callback in callbacks)  # else Lightning does, somewhere
    given = [callback for callback in callbacks if callback is not None]
    return training_trainer(config.trainer, logger=loggers, callbacks=given, enable_checkpointing=saving)


def starting_point(
    resume: str | None, folder: Path, objective: lightning.LightningModule, console: Console
) -> str | None:
    """The checkpoint that training goes on from, which is one of this ``objective``."""

    def find() -> str | None:
        found = checkpoint_of(folder) if resume == AUTO else resume
        return None if found is None else str(found)

    checkpoint = current_process().first(find)
    if checkpoint is not None:
        check_checkpoint(Path(checkpoint), objective)
    if resume is not None:
        console.print(
            f"resume={resume}: training in {folder} begins {'anew' if checkpoint is None else f'with {checkpoint}'}"
        )
    return checkpoint


def abx_metrics(summary: Summary) -> dict[str, float]:
    """ABX errors under the names that loggers show them by."""
    return {
        f"abx/{comparison.condition}/layer{comparison.layer}/{when}": error
        for comparison in summary.comparisons
        for when, error in (("before", comparison.error_before), ("after", comparison.error_after))
    }

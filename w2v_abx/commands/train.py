"""`w2v-abx train`: train a model on a corpus, measure ABX before and after, and say what changed."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import wandb
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig
from rich.console import Console

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.commands import output_folder
from w2v_abx.commands.baselines import baseline, baselines_of
from w2v_abx.commands.checks import check_clips, check_settings
from w2v_abx.commands.excerpts import save_excerpts
from w2v_abx.commands.looking import analyses_for, look_inside
from w2v_abx.commands.prepare import prepare, prepare_noise
from w2v_abx.config import unwrap, wandb_offline
from w2v_abx.data import ShardDataModule
from w2v_abx.data.noise import NoiseSetting
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
from w2v_abx.system.checks import choice
from w2v_abx.system.signals import Watch
from w2v_abx.system.streams import plain_console
from w2v_abx.thermal.callback import ThermalCallback
from w2v_abx.training.callbacks.abx_monitor import AbxMonitor
from w2v_abx.training.objective import Objective, build
from w2v_abx.training.parameters import trainable_layers
from w2v_abx.training.saving import ExactResume
from w2v_abx.training.saving.exact import logger_states, restore_loggers
from w2v_abx.training.saving.files import check_checkpoint, checkpoint_of
from w2v_abx.training.saving.measurements import measurement_key, reuse_measurement, store_measurement
from w2v_abx.training.saving.phases import add_phase, phases_done
from w2v_abx.training.trainers import evaluation_trainer, training_trainer, watching

__all__ = ["main"]

MODELS = {  # what the models are called in tables, by the tag of their scores
    "before": "before training",
    "mfcc": "MFCC",
    "random": "random initialisation",
    "after": "after training",
}

Loggers = Sequence[Logger]


def main(config: DictConfig) -> None:
    """Prepare, measure, train, measure again, compare, report."""
    baselines_of(config)
    if config.prepare.plan_only or config.prepare.part is not None:
        raise InputError("prepare.plan_only and prepare.part are for `w2v-abx prepare`; training needs all clips")
    setting = AbxSetting.of(config.abx)
    features = FeatureSettings.of(config.features)
    folder, auto = output_folder(), config.resume == AUTO
    first = current_process().rank == 0
    try:
        with Watch(config.signals or ()), Run(folder, config, resume=auto) if first else nullcontext() as run:
            if current_process().first(lambda: run is not None and run.finished):
                if run is not None:
                    print(f"{folder} is finished: there is nothing left to do")
                return
            lightning.seed_everything(config.seed, workers=True, verbose=False)
            if wandb_offline():
                os.environ.setdefault("WANDB_SILENT", "true")  # an offline run has nothing to tell
            try:
                summary = train(config, setting, features, run)
            except BaseException:
                current_process().ends()  # what follows may have much to upload
                raise
            finally:
                # A sweep's next job must not log into this one's W&B run, however this one ended.
                if wandb.run is not None:
                    wandb.finish(exit_code=int(sys.exc_info()[0] is not None))
    except signals.Stopped:
        if first:
            print(f"w2v-abx: {folder} goes on by the same line with resume=auto", file=sys.stderr)
        raise
    if summary is not None:
        print_summary(summary, plain_console())


def train(config: DictConfig, setting: AbxSetting, features: FeatureSettings, run: Run | None) -> Summary | None:
    """Build, measure, train, measure again. The first rank alone has ``run``, and gets its summary."""
    # The order counts: what takes seconds, and may be wrong, comes before what takes hours. Settings are checked before
    # clips are prepared, clips before a model is measured, and all that can be measured is, before training.
    console, loggers = plain_console(quiet=run is None), build_loggers(config, run)
    done = current_process().first(lambda: phases_done(output_folder()))
    thermal = instantiate(config.thermal)  # one callback, in training and in all measurements
    if isinstance(thermal, ThermalCallback):
        thermal.resume(phase["thermal"] for phase in done.values() if "thermal" in phase)
    encoder = encoder_of(config, setting)  # which layers it has is known only now, and checked here
    trainer = build_trainer(config, loggers, thermal)
    check_settings(config, trainer)
    console.rule("clips")
    speech = speech_of(config, setting, trainer)
    analyses = analyses_for(config, speech, encoder, trainer)
    data = clips_of(config, run)
    objective = build(config, encoder, data)  # its heads' categories are those of the clips
    check_clips(trainer, data, objective)  # after `build`, which has said what labels to load
    checkpoint = None if "training" in done else starting_point(config.resume, objective, console)
    console.rule("before training")
    say_what_decides(config, objective, run, console)
    measure = partial(measure_abx, config, setting, features, speech, thermal, done)
    for tag in ("before", *baselines_of(config)):
        measure(tag, encoder)  # before `fit`, which trains this encoder in place
    console.rule("training")
    if "training" in done:
        trained, encoder = restore(done["training"], loggers, encoder)
    else:
        trained, encoder = fit(config, trainer, objective, data, checkpoint, thermal)
    console.rule("after training")
    measure("after", encoder)
    if run is not None:
        look_inside(config, analyses, speech, run.folder, done, thermal)
    return None if run is None else conclude(run, trained, loggers, thermal)


def encoder_of(config: DictConfig, setting: AbxSetting) -> Encoder:
    """Load the model that trains. Raises InputError for layers in the configuration that it has not."""
    # Or an Mfcc, which is called as one, and under which heads alone train.
    encoder: Encoder = instantiate(config.model)
    if not isinstance(encoder, Encoder | Mfcc):
        raise InputError(
            f"model: {type(encoder).__name__} is neither an Encoder nor Mfcc: it can be scored, by w2v-abx abx"
        )
    layers = setting.layers_of(encoder)
    choice("primary_layer", config.primary_layer, layers, optional="for the one where the model is best at first")
    return encoder


def say_what_decides(config: DictConfig, objective: Objective, run: Run | None, console: Console) -> None:
    """Fix, before anything is measured, which layer the verdict is to be about."""
    able = trainable_layers(objective)
    if run is not None:
        run.record(trainable_layers=able)
    if not able:
        console.print("Nothing trains in the encoder: ABX cannot change.")
    elif config.primary_layer is None:
        console.print(f"What decides: the layer that errs least before training, of those that can change, {able}.")
    else:
        unable = "" if config.primary_layer in able else ", which cannot change: nothing trains in it or below"
        console.print(f"What decides: primary_layer={config.primary_layer}{unable}.")


def speech_of(config: DictConfig, setting: AbxSetting, trainer: lightning.Trainer) -> Speech:
    """Make the speech that ABX is measured on, and give it to the monitor, too."""
    speech: Speech = current_process().in_turn(lambda: instantiate(config.abx.speech))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AbxMonitor):
            callback.attach(speech, setting)
    return speech


def measure_abx(
    config: DictConfig,
    setting: AbxSetting,
    features: FeatureSettings,
    speech: Speech,
    thermal: lightning.Callback | None,
    done: Mapping[str, Any],
    tag: str,
    encoder: Encoder,
) -> None:
    """Score ``encoder``, or in its place the baseline ``tag``, and save the scores in ``abx/<tag>``; once in a run."""
    if tag in done:
        return
    folder, first = output_folder(), current_process().rank == 0
    plain_console(quiet=not first).print(f"ABX: {MODELS[tag]}")
    extractor: Extractor = encoder
    if tag in config.baselines:
        extractor, setting = baseline(tag, config, setting)
    tester = evaluation_trainer(config.trainer, thermal)
    # What has been trained, no other run measures; and features that are kept are kept in this run's folder.
    shared = None if tag == "after" or features.keep or config.measurements is None else Path(config.measurements)
    state = [bool(config.model.get("compile")), heat_before(config, thermal)]
    key = current_process().first(
        lambda: measurement_key(extractor, speech, setting, tester, state) if shared else None
    )
    reused = current_process().first(lambda: reuse_measurement(shared, key, folder, tag) if shared and key else None)
    if reused is None:
        stored = features.folder(folder, tag)
        result = evaluate(MODELS[tag], extractor, speech, setting, tester, stored, features.dtype)
        if first:
            result.save(folder / "abx", tag)
    elif isinstance(thermal, ThermalCallback):
        thermal.skip(reused.get("thermal", {}))
    if first:
        add_phase(folder, tag, (folder / "abx" / tag).iterdir(), **heat(thermal))
        if shared and key and reused is None:  # last: a run that is killed before measures again
            store_measurement(shared, key, folder, tag, heat(thermal))


def heat_before(config: DictConfig, thermal: lightning.Callback | None) -> Any:
    """Return what the heat of a simulated device after a phase depends on; None for a real one."""
    if not isinstance(thermal, ThermalCallback) or not thermal.simulated:
        return None
    state = thermal.state_dict()
    log = {name: value for name, value in state.get("log", {}).items() if name != "rows"}
    return [{**unwrap(config.thermal), "folder": None}, {**state, "log": log}]


def heat(thermal: lightning.Callback | None) -> dict[str, Any]:
    """Return the state of thermal control at the end of a phase, from which the next one goes on."""
    state = thermal.state_dict() if isinstance(thermal, ThermalCallback) else {}
    return {"thermal": state} if state else {}


def clips_of(config: DictConfig, run: Run | None) -> ShardDataModule:
    """Have the first rank prepare the corpus, however long it takes, and let all of them read it."""

    def prepare_all() -> None:
        manifest = prepare(config)
        prepare_noise(config)
        if run is not None:
            run.record(clips=manifest.splits, skipped_clips=dict(manifest.skipped))

    current_process().first(prepare_all)
    make = instantiate(config.data, _partial_=True)  # Hydra would make a config of a record that is an argument
    data: ShardDataModule = make(noise=NoiseSetting.of(config))
    data.should_stop = signals.asked
    return data


def fit(
    config: DictConfig,
    trainer: lightning.Trainer,
    objective: Objective,
    data: ShardDataModule,
    checkpoint: str | None,
    thermal: lightning.Callback | None,
) -> tuple[dict[str, Any], Encoder]:
    """Train, and save the encoder and what its heads reach in the run's folder. Return the facts of this phase, too."""
    # A run whose first measurements were done before has drawn less; and ranks must not drop the same of their clips.
    lightning.seed_everything(current_process().seed(config.seed), workers=True, verbose=False)
    objective.train()  # Lightning keeps the mode that it finds
    trainer.fit(objective, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    signals.check()
    if objective.validates:
        trainer.validate(objective, datamodule=data, verbose=False)  # training may have ended inside an epoch
    if objective.tests:
        trainer.test(objective, datamodule=data, verbose=False)
    trained: dict[str, Any] = {"steps": trainer.global_step, "epochs": trainer.current_epoch}
    if trainer.is_global_zero:
        folder = output_folder()
        if isinstance(objective.encoder, Encoder):
            objective.encoder.save(folder / "encoder")
        rated = {
            split: {name: result.plain() for name, result in results.items() if result.metrics}
            for split, results in objective.results.items()
        }
        if any(rated.values()):
            write_json(folder / "head.json", rated)
        for name, readout in objective.readouts().items():
            readout.save(folder / "heads" / f"{name}.safetensors")
        heard = save_excerpts(folder, data, rated)
        left = [path for part in ("encoder", "heads", "pretraining") for path in folder.glob(f"{part}/*")]
        made = [*left, folder / "head.json", *heard]
        trained["loggers"] = logger_states(trainer.loggers)
        add_phase(folder, "training", made, **trained, **heat(thermal))
    return trained, objective.encoder


def restore(trained: dict[str, Any], loggers: Loggers, encoder: Encoder) -> tuple[dict[str, Any], Encoder]:
    """Return what `fit` did, of a training that was finished before this process began."""
    restore_loggers(loggers, trained["loggers"])
    return trained, encoder if isinstance(encoder, Mfcc) else Encoder.load(output_folder() / "encoder")


def conclude(run: Run, trained: Mapping[str, Any], loggers: Loggers, thermal: lightning.Callback | None) -> Summary:
    """Compare the models, write the report and the model card, and log the errors."""
    used = thermal.energy() if isinstance(thermal, ThermalCallback) else None
    run.record(
        steps=trained["steps"],
        epochs=trained["epochs"],
        energy_wh=None if used is None else round(used, 3),
        state="finished",
    )
    plain_console().rule("comparison")  # some ten seconds of it, and the figures take as long
    summary = summarize(run.folder)
    run.record(verdict=summary.verdict)
    write_report(summary)
    if (run.folder / "encoder").is_dir():  # MFCC has none
        write_model_card(summary, run.folder / "encoder")
    errors = {
        f"abx/{comparison.condition}/layer{comparison.layer}/{when}": error
        for comparison in summary.comparisons
        for when, error in (("before", comparison.error_before), ("after", comparison.error_after))
    }
    for logger in loggers:
        logger.log_metrics(errors, step=trained["steps"])
        logger.finalize("success")
    return summary


def build_loggers(config: DictConfig, run: Run | None) -> Loggers:
    """Build the loggers; one that can have an ``id``, and was given none, is the same whenever the run resumes."""
    own = {} if run is None else {"id": run.facts["id"]}
    wanted = [c for c in config.logger.values() if c is not None]
    loggers = [instantiate(c, **own if "id" in c and c.id is None else {}) for c in wanted]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger._wandb_init.pop("anonymous", None)  # of which W&B warns, given or not
    return loggers


def build_trainer(config: DictConfig, loggers: Loggers, thermal: lightning.Callback | None) -> lightning.Trainer:
    """Build the trainer with its loggers and callbacks."""
    exact = ExactResume(ended=config.resume == AUTO)
    callbacks = [exact, watching(), *instantiate(config.callbacks).values(), thermal]
    saving = any(isinstance(callback, Checkpoint) for callback in callbacks)  # else Lightning does, somewhere
    given = [callback for callback in callbacks if callback is not None]
    return training_trainer(config.trainer, logger=loggers, callbacks=given, enable_checkpointing=saving)


def starting_point(resume: str | None, objective: Objective, console: Console) -> str | None:
    """Find the checkpoint that training goes on from, and check that it is one of this ``objective``."""
    folder = output_folder()

    def find() -> str | None:
        found = checkpoint_of(folder) if resume == AUTO else resume
        return None if found is None else str(found)

    checkpoint = current_process().first(find)
    if checkpoint is not None:
        check_checkpoint(Path(checkpoint), objective)
    if resume is not None:
        begins = "anew" if checkpoint is None else f"with {checkpoint}"
        console.print(f"resume={resume}: training in {folder} begins {begins}")
    return checkpoint

"""`w2v-abx train`: train a model on a corpus, measure ABX before and after, and say what changed."""

from pathlib import Path
from typing import Any

import lightning
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from w2v_abx.abx.evaluation import AbxSetting, Extractor, evaluate
from w2v_abx.atomic import write_json
from w2v_abx.commands import command, evaluation_trainer, output_folder
from w2v_abx.commands.prepare import prepare
from w2v_abx.configuration import require_choice
from w2v_abx.encoder import Encoder
from w2v_abx.errors import InputError
from w2v_abx.mfcc import Mfcc
from w2v_abx.report import print_summary, write_report
from w2v_abx.runs import Run

__all__ = ["main"]

BASELINES = ("mfcc", "random")


@command("train")
def main(config: DictConfig) -> None:
    check(config)
    setting = AbxSetting.of(config.abx, config.seed)
    console = Console()
    run = Run(output_folder(), config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)

    encoder: Encoder = instantiate(config.model)
    trainer: lightning.Trainer = instantiate(
        config.trainer,
        logger=list(instantiate(config.logger).values()),
        callbacks=[callback for callback in (*instantiate(config.callbacks).values(), instantiate(config.thermal)) if callback],
    )
    console.rule("prepare")
    manifest = prepare(config)
    data = instantiate(config.data)
    objective = instantiate(config.objective, encoder=encoder, data=data, optimization=instantiate(config.optimizer))
    speech = instantiate(config.abx.speech)

    def measure(tag: str, model: str, extractor: Extractor, setting: AbxSetting = setting) -> None:
        console.rule(f"ABX of {model}")
        evaluate(model, extractor, speech, setting, evaluation_trainer(config.trainer)).save(run.folder / "abx", tag)

    measure("before", "before training", encoder)
    if "mfcc" in config.baselines:
        measure("mfcc", "MFCC", Mfcc(), setting.of_all_layers())
    if "random" in config.baselines:
        measure("random", "random initialisation", Encoder.random(config.model.source, config.seed))

    console.rule("train")
    trainer.fit(objective, datamodule=data, ckpt_path=config.resume)
    encoder.save(run.folder / "encoder")
    measure("after", "after training", encoder)

"""`w2v-abx analyze`: look inside models of runs, checkpoints or the hub, on one set of labelled speech."""

from hydra.utils import instantiate
from omegaconf import DictConfig

from w2v_abx.commands import output_folder
from w2v_abx.commands.analyses import analyse, analyses_of, baseline_subjects, check_analyses, feature_cache, speech_for
from w2v_abx.commands.baselines import BASELINES
from w2v_abx.commands.subjects import subjects_of
from w2v_abx.config import unwrap
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE
from w2v_abx.report import print_summary, summarize, write_report
from w2v_abx.runs import Run
from w2v_abx.system.checks import choice
from w2v_abx.system.streams import plain_console
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["main"]


def main(config: DictConfig) -> None:
    """Find the models, check all that is asked, then extract, analyse and report."""
    analyses = analyses_of(config)
    if not analyses:
        raise InputError("analysis is empty: give at least one, such as analysis=similarity; w2v-abx list analysis")
    for name in config.baselines:
        choice("baselines", name, BASELINES)
    cache = feature_cache(config)
    subjects, configs = subjects_of(unwrap(config.runs))
    speech = speech_for(config, *configs)
    if speech is None:
        raise InputError(
            "runs names no training run whose speech could be taken: say what to look at, such as abx=espeak"
        )
    subjects += baseline_subjects(config.baselines, subjects[-1].source, config.seed)
    names = [subject.name for subject in subjects]
    for subject in subjects:
        if not subject.baseline:
            check_analyses(analyses, speech, names, subject.load().n_layers)
    trainer = evaluation_trainer(config.trainer, instantiate(config.thermal))
    with Run(output_folder(), config) as run:
        done = list(analyse(analyses, subjects, speech, run.folder, cache, trainer, config.seed))
        looked_at = f"{len(speech.items):,} items of {speech.items.frame[FILE].n_unique():,} files"
        verdict = f"{', '.join(done).capitalize()} of {', '.join(names)}, on {looked_at}."
        run.record(state="finished", verdict=verdict)
        summary = summarize(run.folder)
        write_report(summary)
        print_summary(summary, plain_console())

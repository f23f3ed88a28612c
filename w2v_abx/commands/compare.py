"""`w2v-abx compare`: the ABX of two models on the same items, with the statistics and the report of a training run."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from w2v_abx.commands import output_folder
from w2v_abx.errors import InputError
from w2v_abx.report import print_summary, summarize, write_report
from w2v_abx.report.summary import read_json
from w2v_abx.runs import Run
from w2v_abx.system.streams import plain_console

__all__ = ["main", "scores_folder"]

FILES = ("cells.parquet", "summary.json")
# What two models must have been asked alike, with what runs that do not say it were asked.
ASKED = dict.fromkeys(("on", "context", "distance", "pooling", "constraints", "levels", "weighted"))
ASKED |= {"slicing": "exact", "also": []}


def scores_folder(key: str, path: Path) -> Path:
    """The folder of scores that ``path`` names: itself, or the one of a run's ``abx`` folders that counts.

    Raises:
        InputError: there are no scores there, or several and none is called ``after``.
    """
    found = [folder for folder in (path, *sorted(path.glob("abx/*"))) if all((folder / f).is_file() for f in FILES)]
    models = [folder for folder in found if folder.name not in ("mfcc", "random")] or found
    chosen = [folder for folder in models if folder.name == "after"] or models
    if not chosen:
        raise InputError(f"{key}={path} holds no ABX scores; give a run's folder, or one of its abx/<tag> folders")
    if len(chosen) > 1:
        choices = ", ".join(map(str, chosen))
        raise InputError(f"{key}={path} holds several models; give one of {choices}")
    return chosen[0]


def check_alike(folders: Mapping[str, Path]) -> None:
    """Raise InputError unless the two models were asked the same."""
    asked = {key: read_json(folder / "summary.json") for key, folder in folders.items()}
    for what, usual in ASKED.items():
        before, after = (asked[key].get(what, usual) for key in ("before", "after"))
        if before != after:
            raise InputError(
                f"the models were not scored alike: abx.{what} is {before} in {folders['before']} and {after} in "
                f"{folders['after']}; score both with the same settings"
            )


def main(config: DictConfig) -> None:
    folders = {key: scores_folder(key, Path(config[key])) for key in ("before", "after")}
    check_alike(folders)
    with Run(output_folder(), config) as run:
        for tag, folder in folders.items():
            (run.folder / "abx" / tag).mkdir(parents=True, exist_ok=True)
            for file in FILES:
                shutil.copyfile(folder / file, run.folder / "abx" / tag / file)
        run.record(state="finished")  # as the report has it
        summary = summarize(run.folder)
        run.record(verdict=summary.verdict)
        write_report(summary)
        print_summary(summary, plain_console())

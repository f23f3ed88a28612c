"""Run experiments with several seeds, and print what their heads and their ABX errors came to, as docs/studies has it.

    python benchmarks/studies.py tones_aishell1_espeak phone_frames_espeak --seeds 0 1 2
    python benchmarks/studies.py phone_ctc_timit --seeds 0 1 -- corpus.root=TIMIT
    python benchmarks/studies.py phone_frames_timit_sample --folds A,B,C D,E,F G,H,I,J -- corpus.root=TIMIT_SAMPLE

What stands after ``--`` is given to every run. A run that is finished is not run again. One line for each run: minutes,
the metrics of its heads on the split test (else valid) with their intervals, and the deciding change of ABX. With
folds, speakers who are test together (the first of the next fold is valid), there is a run for each, and a last line
has the change over the cells of all folds, each by the model that has not heard its speakers.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from w2v_abx.statistics.paired import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=lambda names: names.split(","), nargs="+", default=[])
    parser.add_argument("--outputs", type=Path, default=Path("outputs/studies"))
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    options, overrides = parser.parse_args(given[:cut]), given[cut + 1 :]
    print("| experiment | seed | minutes | heads | ABX |\n|---|---|---|---|---|")
    for experiment in options.experiments:
        for seed in options.seeds:
            folder = options.outputs / experiment / str(seed)
            parts = {folder / "-".join(fold): fold_settings(options.folds, n) for n, fold in enumerate(options.folds)}
            for part, settings in (parts or {folder: []}).items():
                minutes = run(experiment, seed, part, [*settings, *overrides])
                print(f"| {experiment} | {seed} | {minutes} | {heads(part)} | {verdict(part)} |", flush=True)
            if parts:
                print(f"| {experiment} | {seed} | | all folds | {pooled(list(parts))} |", flush=True)


def fold_settings(folds: list[list[str]], number: int) -> list[str]:
    """Who is test in a fold, and who valid; each fold has a folder of shards."""
    names = ",".join(folds[number])
    valid = folds[(number + 1) % len(folds)][0]
    return [
        f"corpus.test_speakers=[{names}]",
        f"corpus.valid_speakers=[{valid}]",
        f"prepare.folder=${{paths.data}}/shards/folds/{names.replace(',', '-')}",
    ]


def run(experiment: str, seed: int, folder: Path, overrides: list[str]) -> str:
    """Train, unless that has been done; the minutes that it took."""
    asked = [f"experiment={experiment}", f"seed={seed}", f"hydra.run.dir={folder}", "resume=auto", *overrides]
    began = time.monotonic()
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run(
            [sys.executable, "-m", "w2v_abx", "train", *asked],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"WANDB_MODE": "offline"},
            check=False,
        )
    if done.returncode:
        sys.exit(f"{experiment} with seed {seed} ended with {done.returncode}: see {log}")
    return f"{(time.monotonic() - began) / 60:.1f}"


def heads(folder: Path) -> str:
    """What the heads of a run reach."""
    splits = json.loads((folder / "head.json").read_text()) if (folder / "head.json").is_file() else {}
    rated = splits.get("test") or splits.get("valid") or {}
    return "; ".join(
        f"{name} {metric} {shown(value, result['intervals'].get(metric))}"
        for name, result in rated.items()
        for metric, value in result["metrics"].items()
        if isinstance(value, float)
    )


def shown(value: float, interval: Any) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def verdict(folder: Path) -> str:
    """The deciding comparison of ABX errors."""
    found = json.loads((folder / "comparisons.json").read_text())
    primary = found["primary"]
    if primary is None:
        return "nothing decides"
    return change(
        next(row for row in found["comparisons"] if all(row[key] == primary[key] for key in ("layer", "condition")))
    )


def pooled(folders: list[Path]) -> str:
    """The deciding comparison over the cells of several runs, which have no speaker in common."""
    found = json.loads((folders[0] / "comparisons.json").read_text())
    which = [pl.col(key) == value for key, value in found["primary"].items()]
    before, after = (
        pl.concat([pl.read_parquet(folder / "abx" / tag / "cells.parquet") for folder in folders]).filter(*which)
        for tag in ("before", "after")
    )
    return change(compare(before, after, seed=found["seed"]).to_dict())


def change(one: Mapping[str, Any]) -> str:
    before, after, low, high = (100 * one[key] for key in ("error_before", "error_after", "ci_low", "ci_high"))
    return (
        f"layer {one['layer']} {one['condition']}: {before:.1f} → {after:.1f} % "
        f"({after - before:+.1f}, {low:+.1f} to {high:+.1f}, p {one['p']:.2g})"
    )


if __name__ == "__main__":
    main()

"""The models that a command is given: runs, sweeps, checkpoints and names of the hub."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from w2v_abx.analysis.points import column_of
from w2v_abx.commands.analyses import Subject
from w2v_abx.commands.baselines import BASELINES
from w2v_abx.errors import InputError
from w2v_abx.features.digests import digest_extractor
from w2v_abx.heads.readout import read_readouts
from w2v_abx.models.encoder import Encoder

__all__ = ["configuration", "subjects_of", "trained", "untrained"]

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[a-zA-Z][\w.-]*")
FEW = "give a run's folder, a sweep's, a checkpoint in Hugging Face layout, or a name on the hub"


def subjects_of(runs: Sequence[str] | Mapping[str, str]) -> tuple[list[Subject], list[DictConfig]]:
    """Find the models of ``runs``, and the configurations of those that are runs.

    A run is its encoder after training; the untrained ones of all runs come first, each once, as "before".

    Args:
        runs: folders and names; a mapping says what they are called. Of a sweep's folder, all jobs are taken.

    Raises:
        InputError: there are none; one is none of these, or not finished; one comes twice, or two have one name.
    """
    given = runs.items() if isinstance(runs, Mapping) else [("", run) for run in runs]
    places = [place for name, run in given for place in _expanded(name, str(run))]
    if not places:
        raise InputError(f"runs is empty; {FEW}, such as runs=[outputs/A,outputs/B]")
    if twice := [place for place, times in Counter(place for _, place in places).items() if times > 1]:
        raise InputError(f"runs={twice[0]} is there twice")
    configs = {place: configuration(Path(place)) for _, place in places if _is_run(Path(place))}
    after = [
        trained(name, Path(place), configs[place])
        if place in configs
        else Subject(name, partial(Encoder.load, place), source=place)
        for name, place in _named(places, configs)
    ]
    subjects = [*untrained(configs), *after]
    names = Counter(subject.name for subject in subjects)
    for name, times in names.items():
        if times > 1 or name in BASELINES:
            raise InputError(f"two models would be called {name!r}: name them, such as runs={{first: A, second: B}}")
    return subjects, list(configs.values())


def configuration(run: Path) -> DictConfig:
    """Read a run's configuration. Raises InputError for a file that is none."""
    try:
        config = OmegaConf.load(run / "config.yaml")
    except Exception as error:  # whatever reading a damaged file leads to
        raise InputError(f"{run / 'config.yaml'} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, DictConfig) or "model" not in config:
        raise InputError(f"{run / 'config.yaml'} is not that of a training run")
    return config


def _expanded(name: str, run: str) -> list[tuple[str, str]]:
    """Take a run as it is, and the jobs of a sweep one by one."""
    folder = Path(run).expanduser()
    if not folder.exists():
        if HUB_NAME.fullmatch(run):
            return [(name, run)]
        raise InputError(f"runs={run}: there is no such folder; {FEW}")
    if _is_run(folder) or (folder / "config.json").is_file():
        return [(name, str(folder))]
    jobs = sorted((job for job in folder.iterdir() if _is_run(job)), key=lambda job: (len(job.name), job.name))
    if not jobs:
        raise InputError(f"runs={run} holds no run that has been trained to its end, and no checkpoint; {FEW}")
    return [(f"{name} {job.name}".strip() if name else "", str(job)) for job in jobs]


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "encoder" / "config.json").is_file()


def _named(places: Sequence[tuple[str, str]], configs: Mapping[str, DictConfig]) -> list[tuple[str, str]]:
    """Call each model as it is asked; else by the name of its run, with as much of its path as tells it from others."""
    names = [
        name or str(configs[place].get("name") if place in configs else Path(place).name) for name, place in places
    ]
    for depth in range(1, 4):
        alike = {name for name, times in Counter(names).items() if times > 1}
        names = [
            f"{name.split(' ')[0]} {'/'.join(Path(place).parts[-depth:])}" if name in alike else name
            for name, (_, place) in zip(names, places, strict=True)
        ]
    return [(name, place) for name, (_, place) in zip(names, places, strict=True)]


def trained(name: str, run: Path, config: DictConfig) -> Subject:
    """Make the subject of what a run has trained. Raises InputError for a run that is not done with that."""
    if not (run / "encoder").is_dir():
        raise InputError(f"runs={run}: this run has trained nothing to its end; go on with it with resume=auto")
    heads = ((config.get("objective") or {}).get("heads") or {}).values()
    tasks = [column_of(head.label) for head in heads if head is not None and head.get("label")]
    return Subject(
        name,
        partial(Encoder.load, run / "encoder"),
        read_readouts(run),
        tuple(dict.fromkeys(tasks)),
        kept=[run / "features" / "after"],
        source=str(run / "encoder"),
    )


def untrained(configs: Mapping[str, DictConfig]) -> list[Subject]:
    """Make the subjects of the models that runs began with, each once."""
    found: dict[str, tuple[Any, list[Path]]] = {}
    for place, config in configs.items():
        digest = digest_extractor(instantiate(config.model))
        _, kept = found.setdefault(digest, (config.model, []))
        kept.append(Path(place) / "features" / "before")
    alone = len(found) == 1
    return [
        Subject("before" if alone else f"before {number}", partial(instantiate, model), kept=kept)
        for number, (model, kept) in enumerate(found.values(), 1)
    ]

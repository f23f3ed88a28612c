"""The models that a command is given: runs, sweeps, checkpoints and names of the hub."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from w2v_abx.analysis.points import column_of
from w2v_abx.commands.analyses import Subject
from w2v_abx.commands.baselines import BASELINES
from w2v_abx.commands.help import choices_of
from w2v_abx.config import CONF
from w2v_abx.errors import InputError
from w2v_abx.features.digests import digest_extractor
from w2v_abx.heads.readout import read_readouts
from w2v_abx.models.encoder import Encoder
from w2v_abx.report.summary import read_json

__all__ = ["configuration", "subjects_of", "trained", "untrained"]

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[a-zA-Z][\w.-]*")
FEW = "give a run's folder, a sweep's, a checkpoint in Hugging Face layout, a choice of model=, or a name on the hub"


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
        trained(name, Path(place), configs[place]) if place in configs else _published(name, place)
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


def _published(name: str, place: str) -> Subject:
    """Make the subject of a checkpoint, of a choice of the group ``model``, or of a name on the hub."""
    if not Path(place).exists() and place in choices_of("model", [CONF]):
        config = compose("abx", [f"model={place}"]).model
        return Subject(name, partial(instantiate, config), source=config.get("source"))
    return Subject(name, partial(_load, place), source=place)


def _load(place: str) -> Encoder:
    try:
        return Encoder.load(place)
    except InputError as error:
        if "/" in place or Path(place).exists():
            raise
        raise InputError(f"{error}, or a choice of model=: {', '.join(choices_of('model', [CONF]))}") from error


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "encoder" / "config.json").is_file()


def _named(places: Sequence[tuple[str, str]], configs: Mapping[str, DictConfig]) -> list[tuple[str, str]]:
    """Call each model as is asked, or as its run is; several of one name by what sets them apart."""
    names = [name or str(configs[place].name if place in configs else Path(place).name) for name, place in places]
    for name_apart in (_asked, _last_parts):
        for name in [name for name, times in Counter(names).items() if times > 1]:
            alike = [number for number, other in enumerate(names) if other == name]
            for number, own in zip(alike, name_apart(name, [Path(places[number][1]) for number in alike]), strict=True):
                names[number] = own
    return [(name, place) for name, (_, place) in zip(names, places, strict=True)]


def _asked(name: str, runs: Sequence[Path]) -> list[str]:
    """Tell runs by what each was asked that not all were, as jobs of a sweep are."""
    asked = [_overrides(run) for run in runs]
    own = [[one for one in each if not all(one in others for others in asked)] for each in asked]
    keys = {one.partition("=")[0] for each in own for one in each}
    if len(keys) == 1 and all(own):
        return [each[0].partition("=")[2] if "/" in each[0] else _brief(each[0]) for each in own]  # a choice of a group
    return [" ".join(map(_brief, each)) or name for each in own]


def _overrides(run: Path) -> list[str]:
    path = run / "hydra" / "overrides.yaml"
    read: Any = OmegaConf.load(path) if path.is_file() else []
    return [str(override) for override in read] if isinstance(read, ListConfig) else []


def _brief(override: str) -> str:
    """A key's last part, and its value."""
    key, _, value = override.partition("=")
    return f"{re.split(r'[./]', key)[-1]}={value}"


def _last_parts(name: str, runs: Sequence[Path]) -> list[str]:
    """Tell runs by the ends of their folders' paths, as short as can be."""
    for depth in range(1, max(len(run.parts) for run in runs) + 1):
        ends = ["/".join(run.parts[-depth:]) for run in runs]
        if len(set(ends)) == len(ends):
            break
    return [f"{name} {end}" for end in ends]


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
        rated=read_json(run / "head.json"),
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

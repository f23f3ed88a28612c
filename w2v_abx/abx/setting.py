"""What an ABX evaluation is asked to measure: the part of the ``abx`` config that is not the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from w2v_abx.abx.averaging import Levels
from w2v_abx.abx.deltas import SAMPLE
from w2v_abx.abx.distances import ALIASES, check_distance
from w2v_abx.abx.pooling import check_pooling
from w2v_abx.abx.scoring import Scorer
from w2v_abx.abx.task import Task
from w2v_abx.config import unwrap
from w2v_abx.errors import InputError
from w2v_abx.items.frames import SLICINGS
from w2v_abx.items.items import Items
from w2v_abx.models.extractor import Extractor
from w2v_abx.system.checks import choice, fail, number, whole

__all__ = ["AbxSetting", "scorers"]

SPEAKERS, CONTEXTS = ("within", "across"), ("within", "any")
KEYS = {"on", "by", "across", "constraints", "speaker", "context"}  # of a task in abx.tasks


@dataclass(frozen=True)
class AbxSetting:
    """What is asked of the speech: the part of the ``abx`` config that is not the data.

    Args:
        speaker: "within", "across" or both.
        context: "within" (same neighbours), "any" or both; each pair of speaker and context is one condition with its
            own score.
        on: the label told apart.
        by, across: label columns, in place of ``speaker`` and ``context``: what A, B and X share, and in which A and B
            share a value and X has another. Where either is given, that is the one condition.
        constraints: on the triplets of a cell; see `Task`.
        task: the one of ``tasks`` that is asked in place of all these; None: as they say.
        also: those of ``tasks`` that are scored beside it, on the same features.
        tasks: by name, what is told apart: mappings of ``on``, ``by``, ``across``, ``constraints``, and of ``speaker``
            and ``context``, to which by and across are added here; without speaker or context, all of them are alike.
        distance, pooling: of two items; see `Scorer`.
        slicing: which frames are an item's; see `Scorer`.
        layers: the layers to score; ``None`` scores all.
        levels, weighted: how the errors of cells become one; see `Scores.error`. ``levels`` are not those of ``also``.
        max_size_group: cap on the items of A, B and X in a cell.
        max_x_across: cap on the speakers of X per A and B.
        deltas: how many triplets to draw for the histograms of delta values; ``None`` takes all.
        save_deltas: keep those triplets, in ``deltas.parquet``.
        device: that scores; see `Scorer`.
        batch_seconds: padded audio per batch of the extraction.
        seed: of the caps and of the sampled delta values.
    """

    speaker: Sequence[str] | str = ("within", "across")
    context: Sequence[str] | str = "within"
    on: str = "#phone"
    by: Sequence[str] | str | None = None
    across: Sequence[str] | str | None = None
    constraints: Sequence[str] = ()
    task: str | None = None
    also: Sequence[str] | str = ()
    tasks: Mapping[str, Any] = field(default_factory=dict)
    distance: str = "angular"
    pooling: str | None = None
    slicing: str = "exact"
    layers: Sequence[int] | int | None = None
    levels: Sequence[str | Sequence[str]] | None = None
    weighted: bool = False
    max_size_group: int | None = None
    max_x_across: int | None = None
    deltas: int | None = SAMPLE
    save_deltas: bool = False
    device: str = "cpu"
    batch_seconds: float = 60.0
    seed: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "AbxSetting":
        """The setting in an ``abx`` config, which also says what the speech is."""
        return cls(**{field.name: unwrap(config[field.name]) for field in fields(cls) if field.name in config})

    def __post_init__(self) -> None:
        for name in ("speaker", "context", "also"):
            object.__setattr__(self, name, _listed(getattr(self, name)))
        if isinstance(self.layers, int):
            object.__setattr__(self, "layers", (self.layers,))
        for role in ("by", "across"):
            columns = getattr(self, role)
            if columns is not None:
                object.__setattr__(self, role, (columns,) if isinstance(columns, str) else tuple(map(str, columns)))
        _check_conditions("abx", self.speaker, self.context)
        choice("abx.task", self.task, self.tasks, optional="for abx.on, by and across")
        for name in self.also:
            choice("abx.also", name, self.tasks)
        self.conditions()  # which looks at the columns
        object.__setattr__(self, "distance", ALIASES.get(self.distance, self.distance))  # as it is stored and compared
        check_distance(self.distance)
        check_pooling(self.pooling)
        choice("abx.slicing", self.slicing, SLICINGS)
        if self.weighted and self.levels is not None:
            raise InputError(
                "abx.weighted and abx.levels exclude each other: an error is averaged in one of these ways"
            )
        number("abx.batch_seconds", self.batch_seconds, above=0)
        whole("abx.max_size_group", self.max_size_group, 2, optional="for no limit")
        whole("abx.max_x_across", self.max_x_across, 1, optional="for no limit")
        whole("abx.deltas", self.deltas, 1, optional="for all")
        whole("abx.seed", self.seed, 0)

    def layers_of(self, extractor: Extractor) -> list[int]:
        """The layers to score of a model. Raises InputError for one that it does not have."""
        layers = list(range(extractor.n_layers) if self.layers is None else self.layers)  # type: ignore[arg-type]
        for layer in layers:
            choice("abx.layers", layer, range(extractor.n_layers))
        return layers

    def conditions(self) -> dict[str, Task]:
        """The task of each condition: those of `main`, then those of ``also``."""
        beside = [self._named(name, beside=True) for name in self.also]
        return {condition: task for tasks in (self.main, *beside) for condition, task in tasks.items()}

    @property
    def main(self) -> dict[str, Task]:
        """The conditions without those of ``also``: the verdict is about them."""
        if self.task is not None:
            return self._named(self.task)
        if self.by is not None or self.across is not None:
            task = Task(self.on, self.by or (), self.across or (), self.constraints)
            return {task.condition: task}
        return _crossed("", self.on, (), (), self.constraints, self.speaker, self.context)

    def levels_of(self, condition: str) -> Levels | None:
        """The levels over which a condition is averaged; None: its task's own."""
        return self.levels if condition in self.main else None

    def _named(self, name: str, *, beside: bool = False) -> dict[str, Task]:
        """The conditions of the task called ``name``, which these are called by where they are ``beside`` others."""
        key, made = f"abx.tasks.{name}", self.tasks[name]
        if not isinstance(made, Mapping) or "on" not in made or made.keys() - KEYS:
            raise fail(key, made, f"a group with on and some of {', '.join(sorted(KEYS - {'on'}))}")
        given = {part: _listed(made.get(part)) for part in KEYS - {"on"}}
        _check_conditions(key, given["speaker"] or SPEAKERS, given["context"] or CONTEXTS)
        prefix = name if beside or not given["speaker"] else ""
        return _crossed(prefix, made["on"], **given)


def scorers(items: Items, setting: AbxSetting, frequency: float) -> dict[str, Scorer]:
    """What scores one layer after another in each condition of ``setting``."""
    return {
        condition: Scorer(
            items,
            task,
            frequency=frequency,
            distance=setting.distance,
            pooling=setting.pooling,
            slicing=setting.slicing,
            max_size_group=setting.max_size_group,
            max_x_across=setting.max_x_across,
            deltas=setting.deltas,
            seed=setting.seed,
            device=setting.device,
        )
        for condition, task in setting.conditions().items()
    }


def _listed(value: Any) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _check_conditions(key: str, speakers: Sequence[str], contexts: Sequence[str]) -> None:
    for name, values, choices in (("speaker", speakers, SPEAKERS), ("context", contexts, CONTEXTS)):
        if not values:
            first, second = choices
            raise InputError(f"{key}.{name} is empty; give {first}, {second} or [{first}, {second}]")
        for value in values:
            choice(f"{key}.{name}", value, choices)


def _crossed(
    prefix: str,
    on: str,
    by: Sequence[str],
    across: Sequence[str],
    constraints: Sequence[str],
    speaker: Sequence[str],
    context: Sequence[str],
) -> dict[str, Task]:
    """A task for each speaker and context. A name says the context only where there is more than one."""
    made: dict[str, Task] = {}
    for neighbours in sorted(context or ("any",), key=CONTEXTS.index):
        contexts = ["prev-phone", "next-phone"] if neighbours == "within" else []
        for which in speaker or ("",):
            within, differs = (["speaker"] * (which == role) for role in SPEAKERS)
            name = "_".join(filter(None, (prefix, which, "any" * (neighbours == "any" and len(context) > 1))))
            made[name] = Task(on, [*contexts, *by, *within], [*across, *differs], constraints)
    return made

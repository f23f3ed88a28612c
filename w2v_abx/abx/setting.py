"""What an ABX evaluation is asked to measure: the part of the ``abx`` config that is not the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from w2v_abx.abx.deltas import SAMPLE
from w2v_abx.abx.distances import ALIASES, check_distance
from w2v_abx.abx.pooling import check_pooling
from w2v_abx.abx.scoring import Scorer
from w2v_abx.abx.task import Task
from w2v_abx.config import unwrap
from w2v_abx.errors import InputError
from w2v_abx.items.items import Items
from w2v_abx.models.extractor import Extractor
from w2v_abx.system.checks import choice, number, whole

__all__ = ["AbxSetting", "scorers"]


@dataclass(frozen=True)
class AbxSetting:
    """What is asked of the speech: the part of the ``abx`` config that is not the data.

    Args:
        speaker: "within", "across" or both; each is one condition with its own score.
        context: "within" (same neighbours) or "any".
        on: the label told apart.
        by, across: label columns, in place of ``speaker`` and ``context``: what A, B and X share, and in which A and B
            share a value and X has another. Where either is given, that is the one condition.
        constraints: on the triplets of a cell; see `Task`.
        distance, pooling: of two items; see `Scorer`.
        layers: the layers to score; ``None`` scores all.
        levels, weighted: how the errors of cells become one; see `Scores.error`.
        max_size_group: cap on the items of A, B and X in a cell.
        max_x_across: cap on the speakers of X per A and B.
        deltas: how many triplets to draw for the histograms of delta values; ``None`` takes all.
        save_deltas: keep those triplets, in ``deltas.parquet``.
        device: that scores; see `Scorer`.
        batch_seconds: padded audio per batch of the extraction.
        seed: of the caps and of the sampled delta values.
    """

    speaker: Sequence[str] | str = ("within", "across")
    context: str = "within"
    on: str = "#phone"
    by: Sequence[str] | str | None = None
    across: Sequence[str] | str | None = None
    constraints: Sequence[str] = ()
    distance: str = "angular"
    pooling: str | None = None
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
        if isinstance(self.speaker, str):
            object.__setattr__(self, "speaker", (self.speaker,))
        if isinstance(self.layers, int):
            object.__setattr__(self, "layers", (self.layers,))
        for role in ("by", "across"):
            columns = getattr(self, role)
            if columns is not None:
                object.__setattr__(self, role, (columns,) if isinstance(columns, str) else tuple(map(str, columns)))
        if not self.speaker:
            raise InputError("abx.speaker is empty; give within, across or [within, across]")
        for speaker in self.speaker:
            choice("abx.speaker", speaker, ("within", "across"))
        choice("abx.context", self.context, ("within", "any"))
        self.tasks()  # which looks at the columns
        object.__setattr__(self, "distance", ALIASES.get(self.distance, self.distance))  # as it is stored and compared
        check_distance(self.distance)
        check_pooling(self.pooling)
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

    def tasks(self) -> dict[str, Task]:
        """The task of each condition."""
        if self.by is not None or self.across is not None:
            task = Task(self.on, self.by or (), self.across or (), self.constraints)
            return {task.condition: task}
        return {
            speaker: Task.preset(speaker=speaker, context=self.context, on=self.on, constraints=self.constraints)
            for speaker in self.speaker
        }


def scorers(items: Items, setting: AbxSetting, frequency: float) -> dict[str, Scorer]:
    """What scores one layer after another in each condition of ``setting``."""
    return {
        condition: Scorer(
            items,
            task,
            frequency=frequency,
            distance=setting.distance,
            pooling=setting.pooling,
            max_size_group=setting.max_size_group,
            max_x_across=setting.max_x_across,
            deltas=setting.deltas,
            seed=setting.seed,
            device=setting.device,
        )
        for condition, task in setting.tasks().items()
    }

"""What an ABX test asks: which label must be told apart, which must agree, and which must differ for X."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from w2v_abx.abx.constraints import Constraint, parse
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, OFFSET, ONSET
from w2v_abx.system.checks import choice

__all__ = ["Task"]

RESERVED = {FILE, ONSET, OFFSET, "score", "size", "delta_sum", "delta_square_sum", "distance_mean"}


@dataclass(frozen=True)
class Task:
    """ON / BY / ACROSS over label columns, in the sense of Schatz (2016) and of ABXpy.

    A and X share the value of ``on`` and B has another one. All three share the values of ``by``. With ``across``, A
    and B share its values and X has other ones (in every such column); without it A and X come from the same set and
    are never the same item. ``constraints`` leave out triplets of a cell, by any column of the items: ``talker_a !=
    talker_b`` or ``all_different(#file)``, for instance (see :func:`w2v_abx.abx.constraints.parse`).

    Raises:
        InputError: a column is named twice, is not a label, or ends in ``_b`` or ``_x`` (the cells need those names);
            or a constraint cannot be read.
    """

    on: str
    by: Sequence[str] = ()
    across: Sequence[str] = ()
    constraints: Sequence[str] = ()

    def __post_init__(self) -> None:
        for role in ("by", "across", "constraints"):
            value = getattr(self, role)
            names = (value,) if isinstance(value, str) else tuple(value or ())
            object.__setattr__(self, role, names)
        for name in self.columns:
            if self.columns.count(name) > 1:
                raise InputError(f"The task names the column '{name}' twice; ON, BY and ACROSS must differ.")
            if name in RESERVED or name.endswith(("_b", "_x")):
                raise InputError(f"The column '{name}' cannot be part of a task: rename it, its name has another use.")
        self.comparisons()

    @classmethod
    def preset(
        cls, speaker: str = "within", context: str = "within", on: str = "#phone", constraints: Sequence[str] = ()
    ) -> "Task":
        """The ZeroSpeech 2021 tasks: ``within`` or ``across`` speakers, ``within`` a phone context or in ``any``."""
        choice("abx.speaker", speaker, ("within", "across"))
        choice("abx.context", context, ("within", "any"))
        by = ["prev-phone", "next-phone"] if context == "within" else []
        if speaker == "within":
            return cls(on=on, by=[*by, "speaker"], constraints=constraints)
        return cls(on=on, by=by, across=["speaker"], constraints=constraints)

    def comparisons(self) -> list[Constraint]:
        """What the constraints compare."""
        return [comparison for text in self.constraints for comparison in parse(text)]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the task uses: ON, then BY, then ACROSS."""
        return (self.on, *self.by, *self.across)

    @property
    def condition(self) -> str:
        """BY and ACROSS in words: ``by final across speaker``."""
        words = [f"{role} {', '.join(names)}" for role, names in (("by", self.by), ("across", self.across)) if names]
        return " ".join(words) or "over all items"

    @property
    def levels(self) -> list[tuple[str, ...]]:
        """The order in which errors are averaged: over contexts, then over speakers, then over other ACROSS columns.

        For the presets this is the order of ZeroSpeech 2021 and fastabx. Where speakers are told apart, phones stand in
        their place, as in fastabx's own measurements of it. What remains is averaged over ON pairs.
        """
        unit = "#phone" if self.on == "speaker" else "speaker"
        contexts = tuple(name for name in self.by if name != unit)
        units = (unit,) if unit in (*self.by, *self.across) else ()
        others = tuple(name for name in self.across if name != unit)
        return [level for level in (contexts, units, others) if level]

    def check(self, labels: Iterable[str]) -> None:
        """Raise InputError unless every column of the task is among ``labels``."""
        labels = list(labels)
        for comparison in self.comparisons():
            for name, _ in (comparison.left, comparison.right):
                if name not in (*labels, FILE, ONSET, OFFSET):
                    raise InputError(
                        f"A constraint of the task names the column '{name}', which the items do not have (they have: "
                        f"{', '.join(labels)})."
                    )
        for name in self.columns:
            if name not in labels:
                raise InputError(
                    f"The items have no column '{name}', which the task needs (they have: {', '.join(labels)}); its "
                    "columns are those of on, by and across, of speaker and context, or of one of abx.tasks."
                )

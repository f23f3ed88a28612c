"""Say in plain sentences what a comparison of two models shows."""

from collections.abc import Container, Sequence
from itertools import takewhile

import numpy as np

from w2v_abx.errors import InputError
from w2v_abx.statistics.intervals import ALPHA
from w2v_abx.statistics.paired import Comparison

__all__ = ["IN_WORDS", "in_words", "noun", "p_text", "points", "primary_comparison", "verdict"]

# Conditions, and the parts of those of other tasks: tone_across_any.
IN_WORDS = {"across": "across speakers", "within": "within speaker", "any": "in any context"}


def in_words(condition: str | None) -> str:
    """Name a condition in a title or a sentence: ``across`` is across speakers, ``speaker_any`` on speaker in any
    context; one made of label columns (``by final``) says itself what it is."""
    parts = (condition or "").split("_")
    known = [*takewhile(IN_WORDS.__contains__, reversed(parts))][::-1]
    name = "_".join(parts[: len(parts) - len(known)])
    task = f"on {name}" if name and " " not in name else name
    return " ".join(filter(None, (task, *(IN_WORDS[part] for part in known))))


def primary_comparison(comparisons: Sequence[Comparison], able: Container[int] | None = None) -> Comparison:
    """The one that decides: across speakers where there is that condition, at the layer where the model errs least
    BEFORE training, of those that are ``able`` to change (None, or none of those scored: of all).

    Chosen without a look at the model after training. Raises InputError without comparisons.
    """
    if not comparisons:
        raise InputError("there is no comparison to choose from; score a model before and after training")
    for wanted in (
        lambda c: able is None or c.layer in able,
        lambda c: c.condition == "across",
    ):
        comparisons = [c for c in comparisons if wanted(c)] or comparisons
    return min(comparisons, key=lambda c: (c.error_before, c.layer or 0))


def verdict(
    comparisons: Sequence[Comparison],
    primary: Comparison | None = None,
    *,
    training: str | None = None,
    names: tuple[str, str] | None = None,
    able: Container[int] | None = None,
) -> str:
    """The answer: what the deciding comparison shows, then what the exploratory ones do.

    Where no difference is shown, it says how large a change would have been in 80 of 100 such experiments.

    Args:
        comparisons: as `correct` gives them.
        primary: the one of them that decides; `primary_comparison` by default.
        training: what the model was trained on, where that has a name.
        names: of two models that are compared, where one is not the other before training.
        able: the layers that training could change; None: all.
    """
    primary = primary or primary_comparison(comparisons, able)
    labels = f"{noun(primary.on)}s"
    where = f" {in_words(primary.condition)}" if set((primary.condition or "").split("_")) <= IN_WORDS.keys() else ""
    if primary.layer is not None:
        where += f" at layer {primary.layer}"
    opening = f"After training on {training}" if training else "After training"
    if not any(_able(c, able) for c in comparisons):
        return f"{opening} nothing can have changed in telling {labels} apart: nothing trained in the layers scored."
    if not _able(primary, able):
        said = f"{opening} nothing can have changed in telling {labels} apart{where}: nothing trained in it or below"
        return f"{said}.{_elsewhere(comparisons, primary, names, able)}"
    errors = [f"{100 * error:.1f} %" for error in (primary.error_before, primary.error_after)]
    numbers = f"{points(primary.difference)} points, {_interval(primary)}, {p_text(primary.p)}"
    error = f"ABX error{where}"
    if names:
        said = f"No difference between {names[0]} and {names[1]} in telling {labels} apart could be shown"
        if primary.shown:
            best, other = names[:: primary.shown]
            said = f"{best} tells {labels} apart better than {other}"
        went, ending = f"{error} is {errors[0]} for {names[0]} and {errors[1]} for {names[1]}", ""
    else:
        found, how, ending = {
            1: ("the model is worse at", "rose", ", so it forgot"),
            -1: ("the model is better at", "fell", ", so it did not forget"),
            0: ("no difference in", "went", ""),
        }[primary.shown]
        said = f"{opening} {found} telling {labels} apart{'' if primary.shown else ' could be shown'}"
        went = f"{error} {how} from {errors[0]} to {errors[1]}"
    reason = "" if primary.shown else f"; {_why_not(primary, 'difference' if names else 'change')}"
    return f"{said}: {went} ({numbers}{reason}){ending}.{_elsewhere(comparisons, primary, names, able)}"


def _why_not(primary: Comparison, change: str) -> str:
    """Why a difference is not shown."""
    label, n = noun(primary.on), primary.n_pairs
    if not primary.difference and primary.standard_error == 0:
        return f"not one pair of {label}s differs"
    smallest = primary.smallest_change()
    if smallest is None:
        return f"no {change} could have been shown: {n} {label} pair{'s are' if n != 1 else ' is'} too few"
    size = f"the smallest {change} that is shown in 80 of 100 such experiments is about {points(smallest)[1:]} points"
    if primary.p_permutation < ALPHA:
        others = " and ".join(primary.resampled)
        return f"the {label} pairs measured agree, but {others} differ too much to tell; {size}"
    return size


def _interval(c: Comparison) -> str:
    if not np.isfinite(c.ci_low):
        return "no interval from so few data"
    interval = f"95 % interval {points(c.ci_low)} to {points(c.ci_high)}"
    if c.n_speakers and "speakers" not in c.resampled:
        interval += f" for the {c.n_speakers} speaker{'s' * (c.n_speakers != 1)} measured"
    return interval


def _elsewhere(
    comparisons: Sequence[Comparison], primary: Comparison, names: tuple[str, str] | None, able: Container[int] | None
) -> str:
    """What the exploratory comparisons show, a sentence for each label told apart; nothing where there are none."""
    how = (f"{names[0]} errs less", f"{names[1]} errs less") if names else ("worse", "better")
    text = ""
    for on in dict.fromkeys(c.on for c in comparisons):
        explored = [c for c in comparisons if c.p_holm is not None and c.on == on]
        if not explored:
            continue
        found = [
            f"{word} {_places([c for c in explored if c.shown == sign])}"
            for sign, word in zip((1, -1), how, strict=True)
            if any(c.shown == sign for c in explored)
        ]
        number = f"{len(explored)} comparison{'s' * (len(explored) != 1)}"
        said = "; ".join(found) or f"no difference shown {_places(explored)}"
        opening = "Elsewhere" if on == primary.on else f"Telling {noun(on)}s apart"
        text += f" {opening} (exploratory, by Holm's correction over {number}): {said}."
    fixed = sorted({c.layer for c in comparisons if c.layer is not None and not _able(c, able) and c is not primary})
    if fixed and _able(primary, able):
        layers = f"Layer{'s' * (len(fixed) != 1)} {_ranges(fixed)} cannot have changed"
        text += f" {layers}: nothing trained there or below."
    return text


def _able(c: Comparison, able: Container[int] | None) -> bool:
    return able is None or c.layer in able


def _places(comparisons: Sequence[Comparison]) -> str:
    """Name layers and conditions: ``across speakers at layers 0 to 2 and 4, within speaker at layer 3``."""
    said = []
    for condition in dict.fromkeys(c.condition for c in comparisons):
        layers = sorted({c.layer for c in comparisons if c.condition == condition and c.layer is not None})
        at = f"at layer{'s' * (len(layers) != 1)} {_ranges(layers)}" if layers else ""
        said.append(f"{in_words(condition)} {at}".strip())
    return ", ".join(said)


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in order, in words: ``0 to 3, 5 and 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [t for r in runs for t in ([f"{r[0]} to {r[-1]}"] if len(r) > 2 else map(str, r))]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def noun(on: str) -> str:
    """What a label column's values are called: ``phone``, ``digit``, ``tone``."""
    return on.lstrip("#")


def points(value: float) -> str:
    """A fraction in signed percentage points, in as many digits as it takes to show on which side of zero it is."""
    for digits in range(1, 5):
        if float(text := f"{100 * value:+.{digits}f}"):
            return text
    return f"{100 * value:+.0e}" if value else "0.0"


def p_text(p: float) -> str:
    """As written in running text: ``p = 0.024``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"

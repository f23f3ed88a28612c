"""Hold speakers out: which points a classifier of a label can be asked of, and in which folds."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.points import Points, classes_of
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items

__all__ = ["HeldOut", "control_codes", "halves", "held_unit", "hold_out", "units_of"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """The points that a classifier of a label is asked of.

    Attributes:
        unit: that is held out: "speaker", "file" or "item".
        classes: names of those that two units have; what only one has cannot be learnt from others.
        rows: (n,) those of all points that have one of them.
        codes: (n,) their classes.
        folds: (n,) from 0; no unit is in two.
        units: how many there are.
        left_out: points of classes that only one unit has.
        names: (n,) what intervals are over: the points' speakers, or units, where there is one speaker.
    """

    unit: str
    classes: list[str]
    rows: Integers
    codes: Integers
    folds: Integers
    units: int
    left_out: int
    names: npt.NDArray[np.str_]


def hold_out(points: Points, column: str, folds: int, seed: int) -> HeldOut:
    """Hold out speakers, or files or items where no two values of the label are had by two speakers.

    Folds have the classes alike, as far as units can be put together so (scikit-learn's ``StratifiedGroupKFold``).

    Raises:
        InputError: no two classes are had by two items (of frames: files).
    """
    label = points.classes(column)
    speakers = np.array([*points.speakers.names, ""])  # of code -1, none
    unit, groups, several = held_unit(points, column)
    known = np.flatnonzero(label.codes >= 0)
    rows = known[several[label.codes[known]]]
    codes = (np.cumsum(several) - 1)[label.codes[rows]]
    spoken_by = speakers[points.speakers.codes[rows]]
    return HeldOut(
        unit,
        [name for name, there in zip(label.names, several, strict=True) if there],
        rows,
        codes.astype(np.int64),
        _folds(codes, groups[rows], folds, seed),
        len(np.unique(groups[rows])),
        len(known) - len(rows),
        spoken_by if len(np.unique(spoken_by)) > 1 else groups[rows].astype(str),
    )


def units_of(points: Points) -> dict[str, Integers]:
    """Number the speaker (where items say who it is), the file and the item of each point, (N,)."""
    files = np.unique(points.items.frame[FILE].to_numpy().astype(str), return_inverse=True)
    units = {"file": files[1][points.item], "item": points.item}
    return {"speaker": points.speakers.codes, **units} if "speaker" in points.items.labels else units


def held_unit(points: Points, column: str) -> tuple[str, Integers, npt.NDArray[np.bool_]]:
    """Find the widest unit that can be held out: two values of the label are had by two of them each.

    Returns:
        "speaker", "file" or "item"; each point's, (N,); which classes at least two of them have.

    Raises:
        InputError: no two classes are had by two items (of frames: files).
    """
    label, choices = points.classes(column), units_of(points)
    if points.time is not None:
        del choices["item"]  # neighbouring frames of a file are nearly equal
    for unit, groups in choices.items():
        pairs = np.unique(np.stack([label.codes, groups]), axis=1)
        several = np.bincount(pairs[0][pairs[0] >= 0], minlength=len(label.names)) > 1
        if several.sum() > 1:
            return unit, groups, several
    raise InputError(
        f"{column}: no two of its values are had by two {list(choices)[-1]}s each, so that a measure could be tested "
        "on one that it has not seen"
    )


def halves(items: Items, seed: int) -> list[Integers]:
    """Put the speakers of items in two halves, of like sexes where items say them: the rows of each.

    Raises:
        InputError: there are fewer than four speakers.
    """
    if "speaker" not in items.labels or items.frame["speaker"].n_unique() < 4:
        raise InputError("items have fewer than four speakers in a column speaker: they cannot be halved")
    speakers = classes_of(items, "speaker").codes
    alike = classes_of(items, "sex").codes if "sex" in items.labels else np.zeros(len(items), dtype=np.int64)
    folds = _folds(alike - alike.min(), speakers, 2, seed)
    return [np.flatnonzero(folds == half) for half in range(2)]


def _folds(codes: Integers, units: Integers, number: int, seed: int) -> Integers:
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(number, len(np.unique(units)), int(np.bincount(codes).max()))
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    found = np.empty(len(codes), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (_, held) in enumerate(splitter.split(codes, codes, units)):
            found[held] = fold
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def control_codes(points: Points, held: HeldOut, types: list[str], seed: int) -> Integers:
    """Give each type of point, by its values in the columns ``types``, a random class (Hewitt & Liang, 2019).

    Classes are drawn as often as points have them.

    Returns:
        (n,), of the points that ``held`` has.
    """
    values = points.items.frame.select(types).with_row_index().group_by(types, maintain_order=True).agg("index")
    number = np.empty(len(points.items), dtype=np.int64)
    for place, rows in enumerate(values["index"].to_list()):
        number[rows] = place
    drawn = np.random.default_rng(seed).choice(held.codes, len(values))
    return np.asarray(drawn[number[points.item[held.rows]]], dtype=np.int64)

"""Compare delta values with what listeners did: Spearman's correlation, and a probit model of their responses.

J. Millet and E. Dunbar, "Perceptimatic: a human speech perception benchmark for unsupervised subword modelling",
Interspeech 2020, compare models by the log-likelihood of such a probit model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from w2v_abx.abx.listeners.probit import ProbitComparison, compare_probits
from w2v_abx.errors import InputError

__all__ = ["Agreement", "compare_with_listeners"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Where = Callable[[int], str]

RESPONSE = ("bin_user_ans", "binarized_answer", "user_ans", "correct_answer", "correct")
ACCURACY = ("accuracy", "human_accuracy")
SUBJECT = ("subject_id", "individual", "subject")
GROUP = ("subject_language", "language_indiv", "language")  # a subject's number may be used once a language group
TRIAL = ("nb_stimuli", "trial")
ORDER = ("TGT_first", "TGT_first_code")
CONTRAST = (("phone_TGT", "phone_OTH"), ("TGT", "OTH"))
MISSING = ("", "NA", "NaN", "nan")
TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Agreement:
    """How delta values go with what listeners did.

    Attributes:
        triplets: those with a delta value and at least one response (or an accuracy).
        responses, subjects: None where the table gives accuracies instead.
        missing: rows without a response.
        accuracy: the share of right responses, averaged over triplets; None where there is none.
        spearman, p: correlation of delta and accuracy over triplets, and its two-sided p; None, with a ``reason``,
            where one of them does not vary.
        probit: the models of the responses: with a constant for each subject, and besides for each contrast where there
            is such a column. Random effects are not given: no library kept here fits them with a probit link.
    """

    triplets: int
    responses: int | None
    subjects: int | None
    missing: int
    accuracy: float | None
    spearman: float | None
    p: float | None
    reason: str | None
    probit: tuple[ProbitComparison, ...]


def compare_with_listeners(frame: pl.DataFrame, triplet: Integers, delta: Floats, where: Where) -> Agreement | None:
    """Compare delta values with the responses or accuracies in a table of triplets; None if it has neither.

    Responses are in ``bin_user_ans`` or ``binarized_answer`` (−1 or 1, or 0 or 1; 1 is right), else ``user_ans`` or
    ``correct_answer`` (−3 … 3, above zero is right), else ``correct``; accuracies of triplets in ``accuracy`` or
    ``human_accuracy``.

    Args:
        frame: N rows, a row for each response or triplet, all columns text.
        triplet: (N,) the number of each row's triplet.
        delta: (N,) its delta value, nan where it has none.
        where: names a row in messages.

    Raises:
        InputError: a response or accuracy is not a number.
    """
    known = np.isfinite(delta)
    if (name := _first(frame, RESPONSE)) is not None:
        right = _responses(frame, name, where)
    elif (name := _first(frame, ACCURACY)) is not None:
        right = _numbers(frame, name, where)
    else:
        return None
    answered = known & np.isfinite(right)
    rows = np.flatnonzero(answered)
    numbers, at = np.unique(triplet[rows], return_inverse=True)
    accuracy = np.bincount(at, right[rows]) / np.bincount(at) if len(rows) else np.empty(0)
    deltas = delta[rows][np.unique(at, return_index=True)[1]]
    spearman, p, reason = _spearman(deltas, accuracy)
    responses = subjects = None
    probit: tuple[ProbitComparison, ...] = ()
    if name in RESPONSE:
        responses, subject = len(rows), _subjects(frame)
        subjects = None if subject is None else len(np.unique(subject[rows]))
        probit = _probits(frame, rows, right[rows], delta[rows], subject, where)
    mean = float(accuracy.mean()) if len(accuracy) else None
    missing = int((known & ~np.isfinite(right)).sum())
    return Agreement(len(numbers), responses, subjects, missing, mean, spearman, p, reason, probit)


def _spearman(delta: Floats, accuracy: Floats) -> tuple[float | None, float | None, str | None]:
    if len(delta) < 3:
        return None, None, f"a correlation takes at least three triplets, and {len(delta)} have a response"
    for values, what in ((delta, "delta value"), (accuracy, "human accuracy")):
        if np.all(values == values[0]):
            return None, None, f"all triplets have the same {what}"
    found = stats.spearmanr(delta, accuracy)
    return float(found.statistic), float(found.pvalue), None


def _probits(
    frame: pl.DataFrame, rows: Integers, right: Floats, delta: Floats, subject: Integers | None, where: Where
) -> tuple[ProbitComparison, ...]:
    factors: dict[str, Integers] = {}
    if subject is not None and len(np.unique(subject[rows])) > 1:
        factors["subject"] = subject[rows]
    covariates = {}
    for what, names in (("order", ORDER), ("trial", TRIAL)):
        if (name := _first(frame, names)) is not None:
            values = _numbers(frame, name, where)
            if np.isnan(values[rows]).any():
                row = int(rows[np.isnan(values[rows]).argmax()])
                raise InputError(f"{where(row)}: nothing stands in the column '{name}'.")
            covariates[what] = values[rows]
    found = [compare_probits(right, delta, factors, covariates)]
    for pair in CONTRAST:
        if all(name in frame.columns for name in pair):
            phones = frame[rows].select(pl.concat_list(pl.col(pair).fill_null("")).list.sort().list.join("\t"))
            contrast = phones.to_series().rank("dense").cast(pl.Int64).to_numpy()
            if len(np.unique(contrast)) > 1:
                found.append(compare_probits(right, delta, {**factors, "contrast": contrast}, covariates))
            break
    return tuple(found)


def _first(frame: pl.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in frame.columns), None)


def _subjects(frame: pl.DataFrame) -> Integers | None:
    name = _first(frame, SUBJECT)
    if name is None:
        return None
    names = [name, *(group for group in GROUP if group in frame.columns)]
    return frame.select(pl.struct(names).rank("dense").cast(pl.Int64)).to_series().to_numpy()


def _responses(frame: pl.DataFrame, name: str, where: Where) -> Floats:
    values = _numbers(frame, name, where)
    if np.nanmin(values, initial=0) < 0:
        zero = values == 0
        if zero.any():
            raise InputError(
                f"{where(int(zero.argmax()))}: the response in '{name}' is 0, which is neither right nor wrong beside "
                "responses below zero."
            )
    return np.where(np.isnan(values), np.nan, (values > 0).astype(np.float64))


def _numbers(frame: pl.DataFrame, name: str, where: Where) -> Floats:
    values = np.full(frame.height, np.nan)
    for row, text in enumerate(frame[name].to_list()):
        if text is None or text.strip() in MISSING:
            continue
        try:
            values[row] = TRUTH[text.strip().lower()] if text.strip().lower() in TRUTH else float(text)
        except ValueError as error:
            raise InputError(f"{where(row)}: '{text}' in the column '{name}' is not a number.") from error
        if np.isinf(values[row]):
            raise InputError(f"{where(row)}: '{text}' in the column '{name}' is not a finite number.")
    return values

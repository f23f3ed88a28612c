"""Delta values beside what listeners did: Spearman's correlation, and a probit model of their responses.

J. Millet and E. Dunbar, "Perceptimatic: a human speech perception benchmark for unsupervised subword modelling",
Interspeech 2020, compare models by the log-likelihood of such a probit model.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import linalg, stats

from w2v_abx.errors import InputError

__all__ = ["HumanComparison", "ProbitComparison", "compare_with_listeners"]

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
DEPENDENT = 1e-9  # of its own square, what is left of a column that others explain


@dataclass(frozen=True)
class ProbitComparison:
    """A probit model of right and wrong responses with delta, beside the same model without it.

    Attributes:
        effects: what both models have beside delta: "subject" (a constant each), "order" (was TGT first), "trial"
            (how many were heard before), "contrast" (a constant for each pair of phones).
        responses: how many there are.
        certain: how many are of a subject or contrast that was always answered alike. Its constant has no finite
            estimate; these responses are predicted surely, add nothing to either log-likelihood and are set aside.
        log_likelihood, log_likelihood_without: natural logarithms, with and without delta; None, with a ``reason``,
            where there is no maximum.
        coefficient, standard_error: of delta in units of its standard deviation over responses.
        reason: why something is None.
    """

    effects: tuple[str, ...]
    responses: int
    certain: int
    log_likelihood: float | None = None
    log_likelihood_without: float | None = None
    coefficient: float | None = None
    standard_error: float | None = None
    reason: str | None = None

    @property
    def gain(self) -> float | None:
        """What delta adds to the log-likelihood."""
        if self.log_likelihood is None or self.log_likelihood_without is None:
            return None
        return self.log_likelihood - self.log_likelihood_without


@dataclass(frozen=True)
class HumanComparison:
    """How delta values go with what listeners did.

    Attributes:
        triplets: those with a delta value and at least one response (or an accuracy).
        responses, subjects: None where the table gives accuracies instead.
        missing: rows without a response.
        accuracy: the share of right responses, averaged over triplets; None where there is none.
        spearman, p: correlation of delta and accuracy over triplets, and its two-sided p; None, with a ``reason``,
            where one of them does not vary.
        probit: the models of the responses: with a constant for each subject, and besides for each contrast where there
            is such a column. Random effects are not given: no library kept here fits them with a probit link
            (statsmodels' BinomialBayesMixedGLM has the logit link, and a variational bound for a likelihood).
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


def compare_with_listeners(
    frame: pl.DataFrame, triplet: Integers, delta: Floats, where: Where
) -> HumanComparison | None:
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
    return HumanComparison(len(numbers), responses, subjects, missing, mean, spearman, p, reason, probit)


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
    found = [_compare(right, delta, factors, covariates)]
    for pair in CONTRAST:
        if all(name in frame.columns for name in pair):
            phones = frame[rows].select(pl.concat_list(pl.col(pair).fill_null("")).list.sort().list.join("\t"))
            contrast = phones.to_series().rank("dense").cast(pl.Int64).to_numpy()
            if len(np.unique(contrast)) > 1:
                found.append(_compare(right, delta, {**factors, "contrast": contrast}, covariates))
            break
    return tuple(found)


def _compare(
    right: Floats, delta: Floats, factors: dict[str, Integers], covariates: dict[str, Floats]
) -> ProbitComparison:
    effects = (*(name for name in factors if name == "subject"), *covariates, *(n for n in factors if n != "subject"))
    open_rows = _uncertain(right, list(factors.values()))
    kept = np.flatnonzero(open_rows)
    counts = (effects, len(right), len(right) - len(kept))
    if len(np.unique(right[kept])) < 2:
        return ProbitComparison(
            *counts, reason="all responses are alike, or each subject or contrast has only one kind"
        )
    columns = [np.ones(len(kept)), *(_standardised(values[kept]) for values in covariates.values())]
    columns += [column for levels in factors.values() for column in _dummies(levels[kept])]
    design = np.column_stack(columns)
    design = design[:, _independent(design)]
    scaled = _standardised(delta[kept])
    unexplained = scaled - design @ linalg.solve(design.T @ design, design.T @ scaled, assume_a="pos")
    if unexplained @ unexplained <= DEPENDENT * len(kept):
        return ProbitComparison(*counts, reason="delta does not vary beyond the other effects")
    if len(kept) <= design.shape[1] + 1:
        return ProbitComparison(
            *counts, reason=f"{len(kept)} responses are too few for {design.shape[1] + 1} parameters"
        )
    without = _fit(right[kept], design)
    whole = _fit(right[kept], np.column_stack([design, scaled])) if without else None
    if without is None or whole is None:
        return ProbitComparison(
            *counts,
            log_likelihood_without=None if without is None else without[0],
            reason="the responses can be separated perfectly, so that the likelihood has no maximum",
        )
    return ProbitComparison(*counts, whole[0], without[0], whole[1], whole[2])


def _uncertain(right: Floats, factors: Sequence[Integers]) -> npt.NDArray[np.bool_]:
    """The rows left once those are set aside, again and again, whose level of a factor has one kind of response."""
    kept = np.ones(len(right), dtype=bool)
    while True:
        before = int(kept.sum())
        for levels in factors:
            sums = np.bincount(levels[kept], right[kept], minlength=int(levels.max()) + 1)
            counts = np.bincount(levels[kept], minlength=int(levels.max()) + 1)
            kept &= ((sums > 0) & (sums < counts))[levels]
        if int(kept.sum()) == before:
            return kept


def _fit(right: Floats, design: Floats) -> tuple[float, float, float] | None:
    """Log-likelihood, and the last coefficient and its standard error; None if there is no maximum."""
    from statsmodels.discrete.discrete_model import Probit  # with pandas behind it, slow to import

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            fit = Probit(right, design, check_rank=False).fit(method="newton", maxiter=100, disp=0)
        except (np.linalg.LinAlgError, ValueError):
            return None
        # The likelihood is concave and the design of full rank: Newton's method fails only where there is no maximum.
        finite = np.isfinite([fit.llf, fit.params[-1], fit.bse[-1]]).all()
    if not (fit.mle_retvals["converged"] and finite) or fit.llf > -1e-6 * len(right):
        return None
    return float(fit.llf), float(fit.params[-1]), float(fit.bse[-1])


def _independent(design: Floats) -> Integers:
    """Columns that span the design: dummies of several factors add up to each other."""
    gram = design.T @ design
    scale = np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
    triangle, order = linalg.qr(gram / np.outer(scale, scale), mode="r", pivoting=True)
    return np.sort(order[np.abs(np.diag(triangle)) > DEPENDENT])


def _dummies(levels: Integers) -> list[Floats]:
    return [(levels == level).astype(np.float64) for level in np.unique(levels)]


def _standardised(values: Floats) -> Floats:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))


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

"""Probit models of listeners' responses: the probability of a right one is Φ of a weighted sum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from w2v_abx.errors import InputError

__all__ = ["Probit", "ProbitComparison", "compare_probits", "fit_probit"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ITERATIONS = 100  # of Newton's method; where there is a maximum, some ten suffice
LAST_STEP = 1e-8  # of any coefficient: what is then left is about its square
DEPENDENT = 1e-9  # of its own square, what is left of a column that others explain


@dataclass(frozen=True)
class ProbitComparison:
    """A probit model of right and wrong responses with delta, beside the same model without it.

    Attributes:
        effects: what both models have beside delta: "subject" (a constant each), "order" (was TGT first), "trial"
            (how many came before), "contrast" (a constant for each pair of phones).
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


class Probit(NamedTuple):
    """A fitted model: (K,) coefficients and their standard errors, and the log-likelihood (natural logarithm)."""

    coefficients: Floats
    standard_errors: Floats
    log_likelihood: float


def fit_probit(right: npt.NDArray[np.bool_], design: Floats) -> Probit:
    """Maximise the likelihood of responses ``right`` (N,) over one coefficient for each column of ``design`` (N, K).

    The columns must be linearly independent. The standard errors are those of the observed information.

    Raises:
        InputError: there is no maximum, since some weighted sum of the columns separates right from wrong responses.
    """
    sign = np.where(right, 1.0, -1.0)
    coefficients, step = np.zeros(design.shape[1]), np.full(design.shape[1], np.inf)
    for _ in range(ITERATIONS):
        # The likelihood of a response is Φ(z), its logarithm has the slope φ(z) / Φ(z).
        z = sign * (design @ coefficients)
        log_likelihoods = special.log_ndtr(z)
        slope = np.exp(-z * z / 2 - log_likelihoods) / np.sqrt(2 * np.pi)
        information = design.T @ (design * (slope * (slope + z))[:, None])
        try:
            factor = linalg.cho_factor(information)
        except linalg.LinAlgError:
            break
        if np.abs(step).max() <= LAST_STEP:
            variances = np.diag(linalg.cho_solve(factor, np.eye(len(step))))
            return Probit(coefficients, np.sqrt(variances), float(log_likelihoods.sum()))
        step = linalg.cho_solve(factor, design.T @ (sign * slope))
        coefficients = coefficients + step
    # It is concave, and the columns are independent: Newton's method fails only where there is no maximum.
    raise InputError("the responses can be separated perfectly, so that the likelihood has no maximum")


def compare_probits(
    right: Floats, delta: Floats, factors: dict[str, Integers], covariates: dict[str, Floats]
) -> ProbitComparison:
    """Fit a probit model of responses ``right`` (N,) with ``delta`` (N,), and the same without it.

    ``factors`` have a constant for each of their levels, "subject" and "contrast"; ``covariates`` a coefficient.
    """
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
    without = None
    try:
        without = fit_probit(right[kept] > 0, design).log_likelihood
        fit = fit_probit(right[kept] > 0, np.column_stack([design, scaled]))
    except InputError as error:
        return ProbitComparison(*counts, log_likelihood_without=without, reason=str(error))
    return ProbitComparison(
        *counts, fit.log_likelihood, without, float(fit.coefficients[-1]), float(fit.standard_errors[-1])
    )


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

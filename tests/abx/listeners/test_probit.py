"""The probit fit: stored results of another program, and properties of a maximum."""

import numpy as np
import pytest
from scipy import stats

from w2v_abx.abx.listeners.probit import fit_probit
from w2v_abx.errors import InputError

# Of statsmodels 0.15.0: Probit(right, design).fit(method="newton", tol=1e-14) on `responses()`: params, bse and llf.
COEFFICIENTS = [
    0.18465871580355891,
    -0.08372789415850247,
    0.18188941011961438,
    0.599432928418175,
    0.41570187472833514,
    -0.3201650295024577,
]
STANDARD_ERRORS = [
    0.1738395765692381,
    0.20771550837933597,
    0.20492260063587148,
    0.12125311426301784,
    0.29193462715159035,
    0.2962648650632375,
]
LOG_LIKELIHOOD = -151.3943491598967


def responses() -> tuple[np.ndarray, np.ndarray]:
    """240 responses, and a design of a constant, two dummies and three covariates."""
    k = np.arange(240)
    columns = [np.ones(240), k % 4 == 1, k % 4 == 2, np.sin(k), k / 240 - 0.5, (7 * k % 11) / 11]
    design = np.column_stack(columns).astype(np.float64)
    return design @ [0.4, -0.5, 0.2, 0.9, 0.3, -0.6] > 1.4 * np.cos(3 * k), design


def test_results_are_those_of_statsmodels() -> None:
    fit = fit_probit(*responses())
    assert fit.coefficients == pytest.approx(COEFFICIENTS, rel=1e-11)
    assert fit.standard_errors == pytest.approx(STANDARD_ERRORS, rel=1e-11)
    assert fit.log_likelihood == pytest.approx(LOG_LIKELIHOOD, rel=1e-11)


@pytest.mark.parametrize("scale", [1e-3, 1, 100])
@pytest.mark.parametrize("seed", range(5))
def test_the_slope_of_the_log_likelihood_is_zero(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(300), scale * rng.normal(size=(300, 3))])
    right = design @ np.array([0.3, 1 / scale, -2 / scale, 0]) + rng.normal(size=300) > 0
    fit = fit_probit(right, design)
    sign = np.where(right, 1, -1)
    probability = stats.norm.cdf(sign * (design @ fit.coefficients))
    assert fit.log_likelihood == pytest.approx(np.log(probability).sum())
    slopes = sign * stats.norm.pdf(design @ fit.coefficients) / probability
    assert design.T @ slopes / scale == pytest.approx(np.zeros(4), abs=1e-9 / min(scale, 1))


def test_a_constant_alone_is_the_quantile_of_the_share() -> None:
    fit = fit_probit(np.arange(100) < 84, np.ones((100, 1)))
    assert fit.coefficients == pytest.approx([stats.norm.ppf(0.84)], rel=1e-12)
    assert fit.log_likelihood == pytest.approx(84 * np.log(0.84) + 16 * np.log(0.16), rel=1e-12)


@pytest.mark.parametrize("overlap", [0, 1])
def test_separated_responses_have_no_maximum(overlap: int) -> None:
    values = np.linspace(-1, 1, 40)
    right = values > 0
    group = np.arange(40) % 2 == 0
    # Quasi-separation: only the responses of one group can be told without error.
    right[3::4] ^= bool(overlap)
    design = np.column_stack([np.ones(40), group, group * values]) if overlap else np.column_stack([group, values])
    with pytest.raises(InputError, match="separated perfectly, so that the likelihood has no maximum"):
        fit_probit(right, design.astype(np.float64))

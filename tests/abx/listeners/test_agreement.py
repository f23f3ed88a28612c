"""Delta values beside listeners, against the likelihood maximised directly."""

import numpy as np
import polars as pl
import pytest
from scipy import optimize, stats

from w2v_abx.abx.listeners.agreement import Agreement, compare_with_listeners
from w2v_abx.errors import InputError

RNG = np.random.default_rng(0)
TRIPLETS, SUBJECTS = 60, 6


def listeners(seed: int = 0) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Responses of six subjects to sixty triplets, the nearer the likelier; the columns of the published tables."""
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=TRIPLETS)
    rows = [(t, s) for s in range(SUBJECTS) for t in rng.permutation(TRIPLETS)]
    triplet = np.array([t for t, _ in rows])
    taste = rng.normal(0.5, 0.3, size=SUBJECTS)
    right = [rng.normal() < taste[s] + 0.8 * delta[t] for t, s in rows]
    frame = pl.DataFrame(
        {
            "individual": [str(s) for _, s in rows],
            "filename": [f"FR{t}" for t, _ in rows],
            "TGT": ["abc"[t % 3] for t, _ in rows],
            "OTH": ["bca"[t % 3] for t, _ in rows],
            "TGT_first": [str(t % 2 == 0) for t, _ in rows],
            "binarized_answer": ["1" if answer else "-1" for answer in right],
            "nb_stimuli": [str(k % TRIPLETS) for k in range(len(rows))],
        }
    )
    return frame, triplet, delta[triplet]


def compare(frame: pl.DataFrame, triplet: np.ndarray, delta: np.ndarray) -> Agreement:
    found = compare_with_listeners(frame, triplet, delta, lambda row: f"h.csv, line {row + 2}")
    assert found is not None
    return found


def maximum(right: np.ndarray, columns: list[np.ndarray]) -> float:
    """The probit log-likelihood's maximum over one coefficient a column."""
    design = np.column_stack(columns)

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        sign = np.where(right, 1.0, -1.0)
        z = sign * (design @ b)
        slope = np.exp(stats.norm.logpdf(z) - stats.norm.logcdf(z))
        return -stats.norm.logcdf(z).sum(), -design.T @ (sign * slope)

    return -optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-7}).fun


def test_the_log_likelihoods_are_the_maxima() -> None:
    frame, triplet, delta = listeners()
    human = compare(frame, triplet, delta)
    right = frame["binarized_answer"].to_numpy() == "1"
    subject = [(frame["individual"] == str(s)).to_numpy().astype(float) for s in range(SUBJECTS)]
    order = (frame["TGT_first"] == "True").to_numpy().astype(float)
    trial = frame["nb_stimuli"].cast(pl.Float64).to_numpy() / TRIPLETS
    contrast = [(triplet % 3 == k).astype(float) for k in (0, 1)]  # a-b, b-c; c-a is in the subjects' constants
    plain, item = human.probit
    assert plain.effects == ("subject", "order", "trial")
    assert item.effects == ("subject", "order", "trial", "contrast")
    for model, columns in ((plain, [*subject, order, trial]), (item, [*subject, order, trial, *contrast])):
        assert model.log_likelihood_without == pytest.approx(maximum(right, columns), abs=1e-4)
        assert model.log_likelihood == pytest.approx(maximum(right, [*columns, delta]), abs=1e-4)
        assert model.gain is not None
        assert model.gain > 10
        assert model.coefficient is not None
        assert model.coefficient == pytest.approx(0.8 * delta.std(), abs=0.25)
        assert (model.certain, model.reason) == (0, None)


def test_spearman_is_over_triplets() -> None:
    frame, triplet, delta = listeners()
    human = compare(frame, triplet, delta)
    right = frame["binarized_answer"].to_numpy() == "1"
    accuracy = [right[triplet == t].mean() for t in range(TRIPLETS)]
    expected = stats.spearmanr([delta[triplet == t][0] for t in range(TRIPLETS)], accuracy)
    assert (human.spearman, human.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (human.triplets, human.responses, human.subjects) == (TRIPLETS, TRIPLETS * SUBJECTS, SUBJECTS)
    assert human.accuracy == pytest.approx(np.mean(accuracy))


def test_accuracies_instead_of_responses() -> None:
    frame = pl.DataFrame({"accuracy": ["0.5", "0.7", "0.9", "NA"]})
    human = compare(frame, np.arange(4), np.array([0.1, 0.2, 0.3, 0.4]))
    assert human.spearman == pytest.approx(1)
    assert (human.triplets, human.missing, human.responses, human.probit) == (3, 1, None, ())


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("bin_user_ans", ["1", "-1", "1.0", "-1"]),
        ("bin_user_ans", ["1", "0", "1", "0"]),
        ("user_ans", ["3", "-2", "1", "-3"]),
        ("user_ans", ["True", "False", "true", "false"]),
    ],
)
def test_responses_are_read_as_published(name: str, texts: list[str]) -> None:
    human = compare(pl.DataFrame({name: texts}), np.arange(4), np.array([2.0, -1.0, 0.5, -2.0]))
    assert human.accuracy == 0.5
    assert human.spearman == pytest.approx(stats.spearmanr([2, -1, 0.5, -2], [1, 0, 1, 0]).statistic)


def test_two_language_groups_count_their_subjects_apart() -> None:
    frame, triplet, delta = listeners()
    both = pl.concat([frame.with_columns(language=pl.lit(name)) for name in ("french", "english")])
    human = compare(both, np.tile(triplet, 2), np.tile(delta, 2))
    assert human.subjects == 2 * SUBJECTS


def test_a_subject_who_is_always_right_is_set_aside() -> None:
    frame, triplet, delta = listeners()
    always = frame.filter(pl.col("individual") == "0").with_columns(
        individual=pl.lit("9"), binarized_answer=pl.lit("1")
    )
    rows = frame["individual"].to_numpy() == "0"
    both = compare(
        pl.concat([frame, always]), np.concatenate([triplet, triplet[rows]]), np.concatenate([delta, delta[rows]])
    )
    alone = compare(frame, triplet, delta)
    assert both.probit[0].certain == TRIPLETS
    assert both.probit[0].log_likelihood == pytest.approx(alone.probit[0].log_likelihood, abs=1e-6)


def test_one_subject() -> None:
    frame, triplet, delta = listeners()
    rows = frame["individual"].to_numpy() == "0"
    human = compare(frame.filter(rows), triplet[rows], delta[rows])
    assert human.probit[0].effects == ("order", "trial")
    assert human.probit[0].reason is None


def test_what_has_no_answer_says_why() -> None:
    frame, triplet, delta = listeners()
    right = frame.with_columns(binarized_answer=pl.lit("1"))
    human = compare(right, triplet, delta)
    assert human.reason == "all triplets have the same human accuracy"
    assert human.probit[0].reason is not None
    assert "all responses are alike" in human.probit[0].reason
    assert (human.spearman, human.probit[0].gain) == (None, None)

    same = compare(frame, triplet, np.zeros(len(delta)))
    assert same.reason == "all triplets have the same delta value"
    assert same.probit[0].reason == "delta does not vary beyond the other effects"

    separated = frame.with_columns(binarized_answer=pl.Series(np.where(delta > 0, "1", "-1")))
    human = compare(separated, triplet, delta)
    assert human.spearman is not None
    assert human.probit[0].reason is not None
    assert "separated perfectly" in human.probit[0].reason
    assert human.probit[0].log_likelihood is None
    assert human.probit[0].log_likelihood_without is not None

    few = compare(frame.head(2), triplet[:2], delta[:2])
    assert few.reason is not None
    assert few.probit[0].reason is not None

    none = compare(frame, triplet, np.full(len(delta), np.nan))
    assert (none.triplets, none.responses, none.accuracy) == (0, 0, None)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("binarized_answer", "yes", "line 5: 'yes' in the column 'binarized_answer' is not a number"),
        ("binarized_answer", "0", "line 5: the response in 'binarized_answer' is 0, which is neither"),
        ("nb_stimuli", "", "line 5: nothing stands in the column 'nb_stimuli'"),
        ("nb_stimuli", "inf", "line 5: 'inf' .* finite"),
    ],
)
def test_a_bad_response_is_named(column: str, value: str, message: str) -> None:
    frame, triplet, delta = listeners()
    values = frame[column].to_list()
    values[3] = value
    with pytest.raises(InputError, match=message):
        compare(frame.with_columns(pl.Series(column, values)), triplet, delta)

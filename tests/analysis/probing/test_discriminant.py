"""Linear probes by shrunk discriminant analysis."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from w2v_abx.analysis.probing.discriminant import predict


def clouds(points: int, dims: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of differing scales far from zero, classes, folds."""
    random = np.random.default_rng(seed)
    codes = random.integers(classes, size=points)
    vectors = random.normal(size=(classes, dims))[codes] + 2 * random.normal(size=(points, dims))
    return 100 + vectors * np.geomspace(0.01, 10, dims), codes, random.integers(5, size=points)


def fitted_by_scikit(
    vectors: np.ndarray, codes: np.ndarray, train: np.ndarray, test: np.ndarray, shrinkage: float
) -> np.ndarray:
    mean, spread = vectors[train].mean(0), vectors[train].std(0)
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    classifier.fit((vectors[train] - mean) / spread, codes[train])
    return classifier.predict((vectors[test] - mean) / spread)


@pytest.mark.parametrize("shrinkage", [0.001, 0.3, 1.0])
def test_predicts_what_scikit_learn_does(shrinkage: float) -> None:
    vectors, codes, folds = clouds(300, 12, 4)
    (found,) = predict(vectors, [codes], folds, [shrinkage])
    for fold in range(5):
        wanted = fitted_by_scikit(vectors, codes, folds != fold, folds == fold, shrinkage)
        assert np.array_equal(found[folds == fold], wanted)
    assert (found == codes).mean() > 0.4  # of four classes


def test_shrinks_by_what_is_best_on_the_next_fold_of_those_that_are_not_tested() -> None:
    vectors, codes, folds = clouds(120, 60, 3)
    choices = [0.001, 0.1, 1.0]
    (found,) = predict(vectors, [codes], folds, choices)
    for fold in range(5):
        after = (fold + 1) % 5
        train = (folds != fold) & (folds != after)
        right = {
            s: (fitted_by_scikit(vectors, codes, train, folds == after, s) == codes[folds == after]).sum()
            for s in choices
        }
        best = max(choices, key=lambda s: (right[s], s))
        assert np.array_equal(
            found[folds == fold], fitted_by_scikit(vectors, codes, folds != fold, folds == fold, best)
        )
    middle = predict(vectors, [codes], folds % 2, choices)[0]
    assert np.array_equal(middle, predict(vectors, [codes], folds % 2, [0.1])[0])


def test_several_labels_are_as_each_alone() -> None:
    vectors, codes, folds = clouds(100, 5, 4)
    other = codes[::-1] % 2
    both = predict(vectors, [codes, other], folds, [0.01, 0.5])
    assert np.array_equal(both[0], predict(vectors, [codes], folds, [0.01, 0.5])[0])
    assert np.array_equal(both[1], predict(vectors, [other], folds, [0.01, 0.5])[0])


def test_what_is_tested_is_not_seen() -> None:
    random = np.random.default_rng(0)
    codes, folds = random.integers(2, size=200), np.arange(200) % 5
    found = predict(random.normal(size=(200, 150)), [codes], folds, [0.0001])[0]
    assert 0.35 < (found == codes).mean() < 0.65  # of more dimensions than points seen, all would be learnt by heart


def test_features_that_tell_nothing_give_the_most_frequent_class() -> None:
    codes, folds = np.array([0, 1, 1, 1, 0, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    for vectors in (np.zeros((8, 3)), np.full((8, 3), 7.3, dtype=np.float32)):
        assert predict(vectors, [codes], folds, [0.1])[0].tolist() == [1] * 8
    vectors = np.zeros((8, 3))
    vectors[:, 1] = codes  # classes without a spread, beside constant features
    assert predict(vectors, [codes], folds, [0.1])[0].tolist() == codes.tolist()


def test_a_class_that_was_not_seen_is_not_predicted() -> None:
    random = np.random.default_rng(0)
    codes, folds = np.array([0, 1, 0, 1, 2, 2]), np.array([0, 0, 1, 1, 0, 0])
    found = predict(random.normal(size=(6, 9)), [codes], folds, [0.5])[0]
    assert set(found[folds == 0].tolist()) <= {0, 1}

"""Recall explained by counts and concentration, in made-up runs whose law is known."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from w2v_abx.analysis.symbols.observations import Observations, equivalence
from w2v_abx.analysis.symbols.symbols import Recalls, measure
from w2v_abx.errors import InputError

SYMBOLS, SPEAKERS, CLUSTERS = 40, 6, 8


def made(
    by_count: float, by_place: float, runs: int = 2, symbols: int = SYMBOLS, seed: int = 0
) -> tuple[Recalls, np.ndarray, np.ndarray]:
    """Runs whose recall is a weighted sum of both factors: recalls, the table (T, 1, U, C) and frames (1, U)."""
    generator = np.random.default_rng(seed)
    trained = np.exp(generator.normal(4, 1.5, (runs, symbols))).round() + 1
    counts = (np.log(trained) - 4) / 1.5
    place = generator.uniform(0.2, 0.9, symbols)
    chance = 0.5 + 0.15 * by_count * counts + 0.15 * by_place * (place - 0.55) / 0.2 + 0.1 * np.arange(runs)[:, None]
    asked = np.full((runs, SPEAKERS, symbols), 200.0)
    hits = generator.binomial(200, chance.clip(0, 1)[:, None], asked.shape).astype(float)
    table = np.zeros((SPEAKERS, 1, symbols, CLUSTERS))
    for symbol in range(symbols):
        rest = (1 - place[symbol]) / (CLUSTERS - 1)
        shares = np.full(CLUSTERS, rest)
        shares[symbol % CLUSTERS] = place[symbol]
        table[:, 0, symbol] = generator.multinomial(300, shares, SPEAKERS)
    names = [[f"{kind}{n:02d}" for n in range(size)] for kind, size in (("r", runs), ("u", symbols), ("s", SPEAKERS))]
    return Recalls(*names, hits, asked, trained), table, table.sum((0, 3))


def observed(*law: float, least: int = 10, draws: int = 300, **settings: int) -> tuple[Observations, list[np.ndarray]]:
    recalls, table, frames = made(*law, **settings)
    return Observations.of(recalls, frames, recalls.speakers, least, draws, 0), [table]


def test_where_counts_alone_matter_they_have_all() -> None:
    seen, tables = observed(1.0, 0.0)
    found = {name: values[0][0] for name, values in seen.explain("share", tables).items()}
    assert found["unique_count"] > 0.8
    assert abs(found["unique_concentration"]) < 0.03
    assert found["unique_count"] + found["unique_concentration"] + found["common"] == pytest.approx(found["r2"])
    low, high = np.percentile(seen.explain("share", tables)["beta_concentration"][0][1:], [2.5, 97.5])
    assert low < 0 < high


def test_where_clusters_alone_matter_they_have_all() -> None:
    seen, tables = observed(0.0, 1.0)
    found = {name: values[0][0] for name, values in seen.explain("share", tables).items()}
    assert found["unique_concentration"] > 0.8
    assert found["difference"] < -0.6


def test_one_run_gives_pearson_and_spearman() -> None:
    seen, tables = observed(1.0, 1.0, runs=1)
    recall = seen.recalls.hits.sum(1)[0] / seen.recalls.asked.sum(1)[0]
    counts, place = np.log(seen.recalls.trained[0]), measure("share", tables[0].sum((0, 1)))
    found = seen.explain("share", tables)
    assert found["r_count"][0][0] == pytest.approx(pearsonr(recall, counts).statistic)
    assert found["r_concentration"][0][0] == pytest.approx(pearsonr(recall, place).statistic)
    ranked = seen.ranked("share", tables)
    assert ranked.r_first == pytest.approx(spearmanr(recall, counts).statistic)
    assert ranked.r_second == pytest.approx(spearmanr(recall, place).statistic)
    assert seen.within_symbols() is None
    assert seen.of_run(0, "share", tables)["r2"] == pytest.approx(found["r2"][0][0])


def test_each_run_alone_is_a_regression_of_its_own() -> None:
    seen, tables = observed(1.0, 0.5, runs=3)
    recalls = seen.recalls
    alone = Recalls(["r01"], recalls.symbols, recalls.speakers,
                    recalls.hits[1:2], recalls.asked[1:2], recalls.trained[1:2])  # fmt: skip
    one = Observations.of(alone, tables[0].sum((0, 3)), recalls.speakers, 10, 100, 0)
    assert seen.of_run(1, "share", tables)["r2"] == pytest.approx(one.explain("share", tables)["r2"][0][0])


def test_a_symbol_that_is_trained_on_more_is_found_more_often_by_what_was_put_in() -> None:
    found = observed(1.0, 1.0, runs=4)[0].within_symbols()
    assert found is not None
    assert found["per_doubling"] == pytest.approx(0.15 * np.log(2) / 1.5, rel=0.15)  # chances are cut at 0 and 1
    assert found["low"] < found["per_doubling"] < found["high"]
    assert found["symbols"] == SYMBOLS


def test_symbols_with_too_little_are_left_out_by_reason() -> None:
    recalls, table, frames = made(1.0, 1.0)
    recalls.trained[:, 0] = 0
    recalls.trained[0, 1] = 0  # in one of two runs
    recalls.asked[:, :, 2] = 1
    frames[0, 3] = 5
    seen = Observations.of(recalls, frames, recalls.speakers, 10, 100, 0)
    assert seen.left_out == {
        "never in training": ["u00"],
        "fewer than 10 times in held-out clips": ["u02"],
        "fewer than 10 frames in the speech that is clustered": ["u03"],
    }
    assert seen.recalls.symbols[0] == "u01"
    assert seen.there[:, 0].tolist() == [False, True]
    places = [n for n in range(SYMBOLS) if n not in (0, 2, 3)]
    assert np.isfinite(seen.explain("share", [table[:, :, places]])["r2"][0]).all()
    within = seen.within_symbols()
    assert within is not None
    assert within["symbols"] == SYMBOLS - 4


def test_fewer_symbols_than_a_regression_needs_are_refused() -> None:
    with pytest.raises(InputError, match="3 symbols are left, and .* at least 4 .there are no more"):
        observed(1.0, 1.0, symbols=3)
    recalls, _, frames = made(1.0, 1.0, symbols=6)
    recalls.trained[:, :3] = 0
    with pytest.raises(InputError, match="3 symbols are left.*never in training: u00 u01 u02"):
        Observations.of(recalls, frames, recalls.speakers, 10, 100, 0)


def test_constant_counts_are_refused() -> None:
    recalls, _, frames = made(1.0, 1.0)
    recalls.trained[:] = [[50], [70]]
    with pytest.raises(InputError, match="equally often, so counts explain nothing"):
        Observations.of(recalls, frames, recalls.speakers, 10, 100, 0)


def test_intervals_widen_with_fewer_symbols() -> None:
    def width(symbols: int) -> float:
        seen, tables = observed(1.0, 1.0, runs=1, symbols=symbols)
        return float(np.ptp(np.percentile(seen.explain("share", tables)["difference"][0][1:], [5, 95])))

    assert width(10) > 1.5 * width(160)


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [(0.0, 0.05, "alike"), (0.5, 0.1, "count"), (-0.5, 0.1, "concentration"), (0.1, 0.3, "unclear"),
     (-0.1, 0.3, "unclear"), (0.1, 0.02, "alike")],
)  # fmt: skip
def test_equivalence_is_two_one_sided_tests(mean: float, spread: float, verdict: str) -> None:
    differences = np.concatenate([[mean], np.random.default_rng(0).normal(mean, spread, 4000), [np.nan]])
    found = equivalence(differences, 0.2, 25)
    assert found["verdict"] == verdict
    assert (found["p"] < 0.05) == (verdict == "alike") == (found["low_90"] > -0.2 and found["high_90"] < 0.2)
    assert found["symbols_needed"] == pytest.approx(25 * (1.645 * spread / 0.2) ** 2, rel=0.15, abs=1)

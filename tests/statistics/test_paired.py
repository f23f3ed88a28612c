"""Tests of a change in ABX error, against independent computations, and the sentence that sums them up."""

import itertools
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from w2v_abx.errors import InputError
from w2v_abx.statistics.paired import compare, compare_all, correct, holm
from w2v_abx.statistics.verdict import verdict


def flat(differences: list[float], speakers: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Before and after of as many phone pairs as differences, one direction each, every speaker the same."""
    pairs = list(itertools.combinations(range(60), 2))[: len(differences)]
    rows = [
        {"#phone": f"p{a}", "#phone_b": f"p{b}", "speaker": f"s{s}", "score": 0.4, "after": 0.4 + d}
        for (a, b), d in zip(pairs, differences, strict=True)
        for s in range(speakers)
    ]
    table = pl.DataFrame(rows)
    return table.drop("after"), table.drop("score").rename({"after": "score"})


def both_ways(
    phones: int, speakers: int, seed: int, shift: float = 0.0, spread: float = 0.03
) -> tuple[pl.DataFrame, ...]:
    """Before and after, within speaker, over every ordered pair; ``shift`` is the true change."""
    rng = np.random.default_rng(seed)
    rows = [
        {"#phone": f"p{a}", "#phone_b": f"p{b}", "speaker": f"s{s}", "score": 0.3 + rng.normal(0, spread)}
        for a, b in itertools.permutations(range(phones), 2)
        for s in range(speakers)
    ]
    before = pl.DataFrame(rows)
    noise = pl.Series(rng.normal(shift, spread, before.height))
    return before, before.with_columns(score=pl.col("score") + noise)


def stack(tables: dict[tuple[int, str], pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(
        [t.with_columns(layer=pl.lit(k[0]), condition=pl.lit(k[1])) for k, t in tables.items()], how="diagonal"
    )


def test_t_wilcoxon_and_effect_size_are_over_unordered_pairs() -> None:
    before, after = both_ways(6, 4, seed=1, shift=0.01)
    joined = before.with_columns(d=after["score"] - before["score"])
    means = [
        joined.filter(pl.col("#phone").is_in(pair), pl.col("#phone_b").is_in(pair))["d"].mean()
        for pair in itertools.combinations([f"p{i}" for i in range(6)], 2)
    ]
    found = compare(before, after)
    assert found.n_pairs == 15
    assert found.n_cells == 120
    assert found.n_speakers == 4
    assert found.p_t == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(means).pvalue)
    assert found.effect_size == pytest.approx(np.mean(means) / np.std(means, ddof=1))
    assert found.difference == pytest.approx(found.error_after - found.error_before)
    assert found.error_before == pytest.approx(before["score"].mean())


@pytest.mark.parametrize(("n", "center"), [(3, 0.5), (10, 1.0), (40, 0.0), (1000, 1.0)])
def test_effect_interval_is_that_of_the_noncentral_t(n: int, center: float) -> None:
    values = np.random.default_rng(n).normal(0.02 * center, 0.02, n)
    found = compare(*flat(list(values)), flips=10)
    t = found.effect_size * np.sqrt(n)
    assert stats.nct.sf(t, n - 1, found.effect_low * np.sqrt(n)) == pytest.approx(0.025, abs=2e-4)
    assert stats.nct.cdf(t, n - 1, found.effect_high * np.sqrt(n)) == pytest.approx(0.025, abs=2e-4)


def test_effect_interval_covers() -> None:
    rng, hits = np.random.default_rng(0), 0
    for seed in range(100):
        found = compare(*flat(list(rng.normal(0.05, 0.05, 8))), seed=seed)
        hits += found.effect_low <= 1.0 <= found.effect_high
    assert 0.9 <= hits / 100 <= 1.0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-8, 8), min_size=1, max_size=9))
def test_few_pairs_enumerate_every_sign(values: list[int]) -> None:
    differences = [v / 32 for v in values]
    found = compare(*flat(differences))
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(values))
    ]
    assert found.exact
    assert found.p_permutation == pytest.approx(np.mean([s >= abs(sum(values)) for s in sums]))


def test_sampled_permutation_agrees_with_enumeration() -> None:
    before, after = flat(list(np.random.default_rng(3).normal(0.01, 0.03, 12)))
    exact, sampled = compare(before, after), compare(before, after, flips=1500, seed=1)
    assert exact.exact
    assert not sampled.exact
    assert sampled.p_permutation == pytest.approx(exact.p_permutation, abs=4 * np.sqrt(0.25 / 1500))


def test_p_values_are_uniform_without_an_effect() -> None:
    found = [compare(*both_ways(6, 3, seed=s), seed=s, flips=500) for s in range(120)]
    for name in ("p_permutation", "p_t", "p_wilcoxon"):
        p = [getattr(c, name) for c in found]
        assert np.mean(np.array(p) < 0.05) < 0.11
        assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean([c.p < 0.05 for c in found]) <= 0.05


def test_interval_of_the_change_covers() -> None:
    found = [compare(*both_ways(6, 5, seed=s, shift=0.02), seed=s, flips=500) for s in range(100)]
    assert 0.9 <= np.mean([c.ci_low <= 0.02 <= c.ci_high for c in found]) <= 1.0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.01, 0.03]),
)
def test_interval_and_p_are_of_one_rule(values: list[int], speakers: int, seed: int, spread: float) -> None:
    before, after = flat([v / 32 for v in values], speakers)
    noise = np.random.default_rng(seed).normal(0, spread, after.height)
    found = compare(before, after.with_columns(score=pl.col("score") + noise), flips=800, seed=seed)
    assert found.p == np.nanmax([found.p_permutation, found.p_crossed])
    if np.isnan(found.ci_low):
        assert found.p >= 0.05
        assert found.smallest_change() is None
    else:
        assert (found.p < 0.05) == (found.ci_low > 0 or found.ci_high < 0)
        assert found.ci_low <= found.difference <= found.ci_high
    assert (found.shown != 0) == (found.p < 0.05)


def test_a_bound_is_where_p_crosses_the_level() -> None:
    before, after = both_ways(6, 5, seed=1, shift=0.01)
    found = compare(before, after)
    for bound, inside in ((found.ci_low, 1), (found.ci_high, -1)):
        for step, shown in ((1e-6, False), (-1e-6, True)):
            shifted = after.with_columns(score=pl.col("score") - (bound + inside * step))
            assert (compare(before, shifted).p < 0.05) == shown


def test_a_true_change_is_found_and_is_seeded() -> None:
    before, after = both_ways(8, 5, seed=1, shift=0.03)
    found = compare(before, after, seed=4)
    assert found.ci_low > 0
    assert found.shown == 1
    assert found.p_permutation < 1e-4
    assert found.p_t < 1e-6
    assert found == compare(before, after.sample(fraction=1.0, shuffle=True, seed=2), seed=4)
    assert found.smallest_change() == compare(before, after, seed=4).smallest_change()
    assert compare(after, before, seed=4).difference == pytest.approx(-found.difference)
    assert compare(after, before, seed=4).shown == -1


def test_fewer_than_six_pairs_can_show_nothing() -> None:
    for pairs, possible in ((5, False), (6, True)):
        found = compare(*flat([0.2] * pairs, speakers=3))
        assert (found.smallest_change() is not None) == possible
        assert (found.p < 0.05) == possible
        sentence = verdict([replace(found, condition="across", layer=1)])
        assert ("no change could have been shown: 5 phone pairs are too few" in sentence) != possible


def test_no_difference_at_all() -> None:
    before, _ = both_ways(5, 4, seed=1)
    found = compare(before, before)
    assert (found.difference, found.ci_low, found.ci_high) == (0, 0, 0)
    assert (found.p_t, found.p_wilcoxon, found.p_permutation, found.p) == (1, 1, 1, 1)
    assert (found.effect_size, found.effect_low, found.effect_high) == (0, 0, 0)
    assert "not one pair of phones differs" in verdict([found])


def test_one_pair_shows_nothing() -> None:
    found = compare(*flat([0.2], speakers=2))
    assert found.n_pairs == 1
    assert found.p_permutation == 1
    assert found.p_wilcoxon == 1
    assert np.isnan([found.p_t, found.ci_low, found.effect_size]).all()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["p_t"] is None
    assert "no change could have been shown: 1 phone pair is too few" in verdict([found])


def test_the_same_change_everywhere_has_no_effect_size() -> None:
    found = compare(*flat([0.1] * 7))
    assert np.isnan([found.p_t, found.effect_size]).all()
    assert found.ci_low == pytest.approx(0.1)
    assert found.p_permutation == pytest.approx(2 / 2**7)


def test_one_speaker_is_said_in_the_verdict() -> None:
    found = compare(*flat(list(np.random.default_rng(0).normal(0.1, 0.02, 12))))
    assert found.resampled == ("phones",)
    assert "for the 1 speaker measured" in verdict([found])


def test_other_cells_are_refused() -> None:
    before, after = both_ways(4, 3, seed=1)
    with pytest.raises(InputError, match=r"3 of 36 cells before are not among those after \(one is .*speaker s0"):
        compare(before, after[3:])
    with pytest.raises(InputError, match="1 of 36 cells after are not among those before"):
        compare(before[1:], after)
    with pytest.raises(InputError, match="have the columns"):
        compare(before.with_columns(accent=pl.lit("x")), after)


def test_all_layers_and_conditions_with_columns_of_one_condition_null_elsewhere() -> None:
    within, across = both_ways(4, 3, seed=1), both_ways(4, 3, seed=2, shift=0.05)
    turned = {"s0": "s1", "s1": "s2", "s2": "s0"}
    across = tuple(t.with_columns(speaker_x=pl.col("speaker").replace(turned)) for t in across)
    tables = [
        stack({(layer, c): t[i] for layer in (0, 1) for c, t in (("within", within), ("across", across))})
        for i in (0, 1)
    ]
    made = compare_all(*tables, seed=3)
    found = correct(made, made[1], None)
    assert [(c.condition, c.layer) for c in found] == [("across", 0), ("across", 1), ("within", 0), ("within", 1)]
    others = [c for c in found if c is not made[1]]
    assert made[1].p_holm is None
    assert [c.p_holm for c in others] == holm([c.p for c in others])
    assert {c.family for c in others} == {3}
    assert [c.p_holm is None for c in correct(made, made[1], [1])] == [True, True, True, False]
    alone = compare(*across, seed=3)
    assert replace(found[0], layer=None, condition=None, p_holm=None, family=1) == alone
    with pytest.raises(InputError, match="only one of the two models was scored at layer 1"):
        compare_all(tables[0], tables[1].filter(layer=0))
    with pytest.raises(InputError, match="no column 'layer'"):
        compare_all(tables[0].drop("layer"), tables[1])
    with pytest.raises(InputError, match="cells after is empty"):
        compare_all(tables[0], tables[1].clear())


def slow_holm(p_values: list[float]) -> list[float]:
    """The textbook's words: the k-th smallest of m times m − k + 1, never below the one before, at most 1."""
    corrected: dict[int, float] = {}
    highest = 0.0
    left = dict(enumerate(p_values))
    while left:
        smallest = min(left, key=lambda i: left[i])
        highest = max(highest, left[smallest] * len(left))
        corrected[smallest] = min(1.0, highest)
        del left[smallest]
    return [corrected[i] for i in range(len(p_values))]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(InputError, match="must lie in"):
        holm([0.5, bad])

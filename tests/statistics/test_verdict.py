"""The sentences that sum a comparison up, word by word."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from w2v_abx.errors import InputError
from w2v_abx.statistics.cells import Noise, PairMean
from w2v_abx.statistics.paired import Comparison, correct
from w2v_abx.statistics.verdict import in_words, points, primary_comparison, verdict


def comparison(**changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "layer": 3,
        "condition": "across",
        "on": "#phone",
        "n_labels": 15,
        "n_pairs": 105,
        "n_cells": 9000,
        "n_speakers": 12,
        "error_before": 0.162,
        "error_after": 0.198,
        "difference": 0.036,
        "ci_low": 0.03,
        "ci_high": 0.042,
        "p": 0.0002,
        "p_permutation": 0.00002,
        "p_crossed": 0.0002,
        "exact": False,
        "standard_error": 0.003,
        "resampled": ("phones", "speakers"),
        "p_t": 0.0001,
        "p_wilcoxon": 0.0001,
        "effect_size": 1.0,
        "effect_low": 0.8,
        "effect_high": 1.2,
    }
    return Comparison(**(values | changes))


UNSHOWN: dict[str, Any] = {
    "error_after": 0.165,
    "difference": 0.003,
    "ci_low": -0.002,
    "ci_high": 0.008,
    "p": 0.24,
    "p_permutation": 0.24,
    "p_crossed": 0.1,
}


def measured(labels: int = 15, speakers: int = 12, spread: float = 0.01) -> tuple[PairMean, Noise, Any]:
    pairs = np.stack(np.triu_indices(labels, 1), axis=1)
    over = PairMean([f"p{i}" for i in range(labels)], pairs, np.full(len(pairs), 1 / len(pairs)), speakers)
    values = np.random.default_rng(0).normal(0, spread, len(pairs))
    return over, Noise(float(max(over.variances(values))), (spread / 4) ** 2, 0.0), values


def test_worse() -> None:
    assert verdict([comparison()], training="soundscape") == (
        "After training on soundscape the model is worse at telling phones apart: ABX error across speakers at layer 3 "
        "rose from 16.2 % to 19.8 % (+3.6 points, 95 % interval +3.0 to +4.2, p = 0.0002), so it forgot."
    )


def test_better() -> None:
    better = comparison(error_after=0.152, difference=-0.01, ci_low=-0.015, ci_high=-0.005, p=0.00002, on="digit")
    assert verdict([better]) == (
        "After training the model is better at telling digits apart: ABX error across speakers at layer 3 fell from "
        "16.2 % to 15.2 % (-1.0 points, 95 % interval -1.5 to -0.5, p < 0.0001), so it did not forget."
    )


def test_unshown_says_what_would_have_been() -> None:
    unshown = comparison(**UNSHOWN, measured=measured())
    size = unshown.smallest_change()
    assert size is not None
    assert 0.005 < size < 0.02
    assert verdict([unshown], training="rain") == (
        "After training on rain no difference in telling phones apart could be shown: ABX error across speakers at "
        "layer 3 went from 16.2 % to 16.5 % (+0.3 points, 95 % interval -0.2 to +0.8, p = 0.24; the smallest change "
        f"that is shown in 80 of 100 such experiments is about {100 * size:.1f} points)."
    )


def test_pairs_agree_and_the_interval_over_phones_does_not() -> None:
    sentence = verdict([comparison(ci_low=-0.001, p=0.07, measured=measured())])
    assert "no difference in telling phones apart could be shown" in sentence
    assert "the phone pairs measured agree, but phones and speakers differ too much to tell" in sentence


def test_too_few_pairs_name_no_smallest_change() -> None:
    few = UNSHOWN | {"n_pairs": 3, "ci_low": float("nan"), "ci_high": float("nan")}
    sentence = verdict([comparison(**few, on="tone", measured=measured(labels=3))])
    assert "no interval from so few data" in sentence
    assert "no change could have been shown: 3 tone pairs are too few" in sentence
    assert "smallest" not in sentence


def test_a_bound_near_zero_shows_its_sign() -> None:
    assert [points(x) for x in (0.0003, -0.0003, 0.00000004, 0.0, -0.02, 1.0)] == [
        *("+0.03", "-0.03", "+4e-06", "0.0", "-2.0", "+100.0")
    ]
    sentence = verdict([comparison(**UNSHOWN | {"ci_low": -0.00012}, measured=measured())])
    assert "interval -0.01 to +0.8" in sentence


def family() -> list[Comparison]:
    """Five layers across speakers, of which the last two rose, and within speaker the last."""
    shown = {3: 0.09, 4: 0.18}
    made = []
    for condition in ("across", "within"):
        for layer in range(5):
            change = shown.get(layer, 0.0) if condition == "across" or layer == 4 else 0.0
            p = 1e-5 if change else 1.0
            values = {"difference": change, "error_after": 0.1 + change, "p": p, "ci_low": change, "ci_high": change}
            before = 0.1 + 0.01 * abs(layer - 2)
            made.append(comparison(layer=layer, condition=condition, error_before=before, **values))
    return made


def test_the_layer_that_decides_is_one_that_can_change() -> None:
    made, able = family(), [3, 4]
    assert primary_comparison(made) is made[2]
    primary = primary_comparison(made, able)
    assert (primary.layer, primary.condition) == (3, "across")
    sentence = verdict(correct(made, primary, able), primary, training="rain", able=able)
    assert "worse at telling phones apart: ABX error across speakers at layer 3 rose" in sentence
    assert sentence.endswith(
        "so it forgot. Elsewhere (exploratory, by Holm's correction over 3 comparisons): worse across speakers at "
        "layer 4, within speaker at layer 4. Layers 0 to 2 cannot have changed: nothing trained there or below."
    )


def test_what_happens_elsewhere_is_said_beside_a_decision_for_nothing() -> None:
    made = family()
    primary = replace(made[2], standard_error=0.0)
    made[2] = primary
    sentence = verdict(correct(made, primary, None), primary)
    assert "not one pair of phones differs" in sentence
    assert sentence.endswith(
        "(exploratory, by Holm's correction over 9 comparisons): worse across speakers at layers 3 and 4, within "
        "speaker at layer 4."
    )
    nothing = [comparison(layer=layer, **UNSHOWN, measured=measured()) for layer in range(3)]
    sentence = verdict(correct(nothing, nothing[1], None), nothing[1])
    assert sentence.endswith("over 2 comparisons): no difference shown across speakers at layers 0 and 2.")


def test_what_another_task_tells_apart_is_a_family_and_a_sentence_of_its_own() -> None:
    phones = [comparison(layer=layer) for layer in range(3)]
    speakers = [comparison(layer=layer, on="speaker", condition="speaker", p=0.02, p_holm=None) for layer in range(4)]
    corrected = correct([*phones, *speakers], phones[0], None)
    alone = correct(phones, phones[0], None)
    assert [(c.p_holm, c.family) for c in corrected[:3]] == [(c.p_holm, c.family) for c in alone]
    assert [(c.p_holm, c.family) for c in corrected[3:]] == [(pytest.approx(0.08), 4)] * 4
    assert verdict(corrected, corrected[0]) == verdict(alone, alone[0]) + (
        " Telling speakers apart (exploratory, by Holm's correction over 4 comparisons): no difference shown on "
        "speaker at layers 0 to 3."
    )


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("across", "across speakers"),
        ("within_any", "within speaker in any context"),
        ("speaker", "on speaker"),
        ("speaker_any", "on speaker in any context"),
        ("my_tone_across", "on my_tone across speakers"),
        ("by prev_tone across speaker", "by prev_tone across speaker"),
        (None, ""),
    ],
)
def test_conditions_in_words(condition: str | None, words: str) -> None:
    assert in_words(condition) == words


def test_heads_alone_change_nothing() -> None:
    made: list[Comparison] = family()
    primary = primary_comparison(made, [])
    assert verdict(correct(made, primary, []), primary, training="rain", able=[]) == (
        "After training on rain nothing can have changed in telling phones apart: nothing trained in the layers scored."
    )
    asked = verdict(correct(made, made[0], [3, 4]), made[0], able=[3, 4])
    assert "nothing can have changed in telling phones apart across speakers at layer 0: nothing trained in" in asked
    assert "worse across speakers at layers 3 and 4" in asked


def test_two_models_are_named() -> None:
    names = ("demo/A", "demo/B")
    assert verdict([comparison()], names=names) == (
        "demo/A tells phones apart better than demo/B: ABX error across speakers at layer 3 is 16.2 % for demo/A and "
        "19.8 % for demo/B (+3.6 points, 95 % interval +3.0 to +4.2, p = 0.0002)."
    )
    fewer = comparison(difference=-0.036, error_after=0.126, ci_low=-0.042, ci_high=-0.03)
    other = comparison(layer=4)
    sentence = verdict(correct([fewer, other], fewer, None), fewer, names=names)
    assert sentence.startswith("demo/B tells phones apart better than demo/A: ")
    assert sentence.endswith("over 1 comparison): demo/A errs less across speakers at layer 4.")
    unshown = verdict([comparison(**UNSHOWN, measured=measured())], names=names)
    assert unshown.startswith("No difference between demo/A and demo/B in telling phones apart could be shown: ")
    assert "the smallest difference that is shown" in unshown
    for said in (sentence, unshown):
        assert "training" not in said
        assert "forg" not in said


def test_the_baseline_alone_chooses_what_decides() -> None:
    made = [
        comparison(layer=1, error_before=0.20, error_after=0.1),
        comparison(layer=2, error_before=0.15, error_after=0.3),
        comparison(layer=3, error_before=0.10, condition="within"),
    ]
    assert primary_comparison(made) is made[1]
    assert primary_comparison(made[2:]) is made[2]
    assert "at layer 1" in verdict(made, made[0])
    with pytest.raises(InputError, match="no comparison"):
        primary_comparison([])

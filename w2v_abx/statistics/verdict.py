"""Say in one plain sentence what a comparison of two models shows."""

from collections.abc import Sequence

import numpy as np

from w2v_abx.errors import InputError
from w2v_abx.statistics.paired import Comparison

__all__ = ["primary_comparison", "verdict"]


def primary_comparison(comparisons: Sequence[Comparison]) -> Comparison:
    """The one that decides: across speakers where there is that condition, at the layer where the BASELINE errs least.

    Chosen without a look at the fine-tuned model. Raises InputError without comparisons.
    """
    if not comparisons:
        raise InputError("there is no comparison to choose from; score a model before and after training")
    across = [c for c in comparisons if c.condition == "across"]
    return min(across or comparisons, key=lambda c: (c.error_before, c.layer or 0))


def verdict(
    comparisons: Sequence[Comparison],
    primary: Comparison | None = None,
    *,
    training: str | None = None,
    alpha: float = 0.05,
) -> str:
    """The answer in one plain sentence.

    A change counts as shown where the (corrected) permutation test gives p < ``alpha`` and the 95 % interval, which
    also covers speakers, leaves out zero. Otherwise the sentence says how large a change would have been shown.

    Args:
        primary: the comparison that decides; `primary_comparison` of ``comparisons`` by default.
        training: what the model was trained on, where that has a name.
    """
    primary = primary or primary_comparison(comparisons)
    noun = f"{primary.on.lstrip('#')}s"
    where = {"across": " across speakers", "within": " within speaker"}.get(primary.condition or "", "")
    if primary.layer is not None:
        where += f" at layer {primary.layer}"
    p = primary.p_permutation if primary.p_holm is None else primary.p_holm
    corrected = f" after Holm's correction over {primary.family} comparisons" if primary.family > 1 else ""
    before, after, change, low, high = (
        100 * x
        for x in (primary.error_before, primary.error_after, primary.difference, primary.ci_low, primary.ci_high)
    )
    interval = f"95 % interval {low:+z.1f} to {high:+z.1f}" if np.isfinite(low) else "no interval from so few data"
    if np.isfinite(low) and primary.n_speakers and "speakers" not in primary.resampled:
        few = "1 speaker" if primary.n_speakers == 1 else f"{primary.n_speakers} speakers"
        interval += f" for the {few} measured"
    numbers = f"({change:+z.1f} points, {interval}, {p_text(p)}{corrected}"
    went = f"ABX error{where} {{}} from {before:.1f} % to {after:.1f} % {numbers}"
    opening = f"After training on {training}" if training else "After training"

    if p < alpha and low > 0:
        return f"{opening} the model is worse at telling {noun} apart: {went.format('rose')}), so it forgot."
    if p < alpha and high < 0:
        return f"{opening} the model is better at telling {noun} apart: {went.format('fell')}), so it did not forget."
    if not np.isfinite(low):
        reason = "too few phone pairs and speakers to tell"
    elif primary.standard_error == 0:
        reason = "no spread to test" if primary.difference else f"not one pair of {noun} changed"
    else:
        size = f"the smallest change that this run could have shown is about {100 * primary.smallest_effect(alpha):.1f}"
        reason = f"{size} points"
        if p < alpha:
            over = " and ".join(primary.resampled).replace("phone", noun.removesuffix("s"))
            reason = f"pairs of {noun} agree, but the interval over {over} holds zero; {reason}"
    return f"{opening} no difference in telling {noun} apart could be shown: {went.format('went')}; {reason})."


def p_text(p: float) -> str:
    """As written in running text: ``p = 0.024``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"

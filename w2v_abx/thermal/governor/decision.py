"""What a governor decides, and what several ranks make of their decisions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

__all__ = ["Action", "Cause", "Decision", "strictest"]

# Both from the mildest to the strictest
Action = Literal["run", "shrink", "rest", "stop"]
Cause = Literal["wait", "free", "grow", "hold", "held", "ripple", "floor", "limit", "blind", "stop"]


@dataclass(frozen=True)
class Decision:
    """``microbatch``: at most so many clips at once (None: no limit). ``rest_seconds``: to rest before asking again.

    ``reason``: a sentence with the numbers. ``cause``: its kind, which changes only when what goes on changes.
    """

    action: Action
    microbatch: int | None
    rest_seconds: float
    reason: str
    cause: Cause


def strictest(decisions: Sequence[Decision], duties: Sequence[float]) -> Decision:
    """Combine decisions of several ranks, whose devices allow ``duties``: the longest rest, the smallest micro-batch,
    and the reason of the strictest cause, or of the lowest duty among them."""
    causes, actions = get_args(Cause), get_args(Action)
    leading, _ = max(zip(decisions, duties, strict=True), key=lambda pair: (causes.index(pair[0].cause), -pair[1]))
    return replace(
        leading,
        action=max((decision.action for decision in decisions), key=actions.index),
        rest_seconds=max(decision.rest_seconds for decision in decisions),
        microbatch=min((one.microbatch for one in decisions if one.microbatch is not None), default=None),
    )

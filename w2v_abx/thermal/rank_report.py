"""What the ranks share when they decide together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from w2v_abx.distributed import collectives as distributed
from w2v_abx.thermal.governor import CAUSES, Decision
from w2v_abx.thermal.heat import Heat
from w2v_abx.thermal.sensor import Reading

__all__ = ["RankReport", "strictest"]


@dataclass(frozen=True)
class RankReport:
    """One rank's account of the time since the last one. Clocks of all ranks go alike, but for simulated ones, which
    are brought to one time with each report.

    Attributes:
        now: When it was made.
        decision: Of its governor, for its own devices.
        heats: Their temperatures, by name.
        readings: Of its devices.
        alone: Decisions taken without the other ranks, and when.
        notes: For the first rank to log.
        asked: Whether a signal asks this rank to stop.
    """

    now: float
    decision: Decision
    heats: dict[str, Heat]
    readings: list[Reading]
    alone: list[tuple[float, Decision]]
    notes: list[str]
    asked: bool

    @property
    def duty(self) -> float:
        """The duty that this rank's devices allow."""
        return min((heat.duty for heat in self.heats.values()), default=1.0)

    def gather(self) -> list[Self]:
        """Return the reports of all ranks, by rank; a collective."""
        return [self._parsed(plain) for plain in distributed.gather(asdict(self))]

    @classmethod
    def _parsed(cls, plain: dict[str, Any]) -> Self:
        """Make the report that was sent as a JSON value."""
        parsed: dict[str, Any] = {
            "decision": Decision(**plain["decision"]),
            "heats": {name: Heat(**heat) for name, heat in plain["heats"].items()},
            "readings": [Reading.parsed(reading) for reading in plain["readings"]],
            "alone": [(time, Decision(**decision)) for time, decision in plain["alone"]],
        }
        return cls(**{**plain, **parsed})


def strictest(reports: Sequence[RankReport]) -> Decision:
    """Combine the ranks' decisions: the longest rest, the smallest micro-batch, and the reason of the hottest rank."""
    leading = max(reports, key=lambda report: (CAUSES.index(report.decision.cause), -report.duty)).decision
    actions = {report.decision.action for report in reports}
    limits = [report.decision.microbatch for report in reports if report.decision.microbatch is not None]
    return replace(
        leading,
        action=next(action for action in ("stop", "rest", "shrink", "run") if action in actions),
        rest_seconds=max(report.decision.rest_seconds for report in reports),
        microbatch=min(limits, default=None),
    )

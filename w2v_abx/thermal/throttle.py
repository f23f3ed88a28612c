"""What the thermal control asks of whatever divides an effective batch into micro-batches."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

__all__ = ["Throttle"]


@runtime_checkable
class Throttle(Protocol):
    """Runs an effective batch in micro-batches, and makes them smaller when asked to.

    Attributes:
        hooks: Each is called before each micro-batch; it may sleep and change the limits.
        handed: Clips of the micro-batch that was handed out last, and of its effective batch; a hook may take it away.
        size: Clips in a micro-batch now, all causes considered; None: any number.
    """

    hooks: list[Callable[[], None]]
    handed: tuple[int, int] | None

    @property
    def size(self) -> int | None: ...

    def limit(self, cause: str, clips: int | None, /) -> None:
        """Hold micro-batches at or below ``clips`` for this cause; None lifts the cause's limit."""
        ...

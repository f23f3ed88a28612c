"""Audio that cannot be used, and the one word why."""

from pathlib import Path

from w2v_abx.errors import InputError

__all__ = ["AudioError"]


class AudioError(InputError):
    """Audio that cannot be used; ``reason`` is the one word under which it is counted."""

    def __init__(self, path: Path | str, reason: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.reason, self.message = Path(path), reason, message

    def __reduce__(self) -> tuple[type, tuple[Path, str, str]]:
        return type(self), (self.path, self.reason, self.message)  # so that a worker process can raise it

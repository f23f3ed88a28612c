"""What a user did or was given that cannot work, said in one sentence, and the exit statuses of the command line."""

from w2v_abx.credentials import without_credentials

__all__ = ["InputError", "NotWritten", "Unlearnable"]

# The README has the table of statuses: those of 64 and above are sysexits.h's, but for 76.


class InputError(Exception):
    """Wrong input: the message names the file, line, key or value, and says what to do about it.

    The command line prints the message alone, without a traceback, and ends with ``exit_status``. It shows no password
    of an address.
    """

    exit_status = 2

    def __init__(self, message: str, exit_status: int | None = None) -> None:
        """``exit_status``: that of another process, whose error this is; None: that of the class."""
        super().__init__(without_credentials(message))
        self.exit_status = exit_status or self.exit_status


class Unlearnable(InputError):
    """A training step gave a loss or a gradient that is not finite, or exploded."""

    exit_status = 65


class NotWritten(InputError):
    """A file could not be written: the disk is full, or fails. What was done before is there to go on from."""

    exit_status = 74

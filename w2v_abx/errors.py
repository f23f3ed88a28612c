"""What a user did or was given that cannot work, said in one sentence."""

__all__ = ["InputError", "Unlearnable"]


class InputError(Exception):
    """Wrong input: the message names the file, line, key or value, and says what to do about it.

    The command line prints the message alone, without a traceback.
    """


class Unlearnable(InputError):
    """A training step gave a loss or a gradient that is not finite, or exploded."""

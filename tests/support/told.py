"""What is said of input that does not fit."""

from collections.abc import Callable

import pytest

from w2v_abx.errors import InputError


def told(caplog: pytest.LogCaptureFixture, read: Callable[[], object]) -> str:
    """The text of an error, or else the warnings of what was left out; never nothing."""
    try:
        read()
    except InputError as error:
        return str(error)
    assert "left out: " in caplog.text
    return caplog.text

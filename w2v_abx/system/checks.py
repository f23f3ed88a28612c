"""Check the values of settings: each function returns the value, or raises an error that says what it may be.

``key`` is the setting as a user writes it on the command line, such as ``data.batch_size``. The message reads
``key=value must be …``; ``hint`` is added to its end.
"""

import math
from collections.abc import Iterable
from typing import Any

from w2v_abx.errors import InputError

__all__ = ["boolean", "choice", "fail", "number", "several", "whole"]


def fail(key: str, value: object, wanted: str, hint: str = "") -> InputError:
    """Make the error for a ``key`` whose ``value`` is not what is ``wanted``."""
    shown = value if isinstance(value, int | float) else repr(value)
    return InputError(f"{key}={shown} must be {wanted}{f'; {hint}' if hint else ''}")


def whole(
    key: str, value: Any, low: int | None = None, high: int | None = None, *, optional: str = "", hint: str = ""
) -> Any:
    """Check a whole number from ``low`` to ``high``, both included.

    ``optional``: what null means, where null is allowed: ``"for no limit"``.
    """
    if value is None and optional:
        return value
    fine = isinstance(value, int) and not isinstance(value, bool)
    if not fine or (low is not None and value < low) or (high is not None and value > high):
        bounds = f" from {low}" if low is not None else ""
        bounds += f" to {high}" if high is not None else ""
        raise fail(key, value, f"a whole number{bounds}{_null(optional)}", hint)
    return value


def number(
    key: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
    optional: str = "",
    hint: str = "",
) -> Any:
    """Check a finite number: ``low`` and ``high`` are allowed themselves, ``above`` and ``below`` are not.

    ``unit`` names what is counted, such as ``"seconds"``. ``optional``: see `whole`.
    """
    if value is None and optional:
        return value
    bounds = [
        (above, f"above {above:g}" if above is not None else "", lambda bound: value > bound),
        (low, f"at least {low:g}" if low is not None else "", lambda bound: value >= bound),
        (below, f"below {below:g}" if below is not None else "", lambda bound: value < bound),
        (high, f"at most {high:g}" if high is not None else "", lambda bound: value <= bound),
    ]
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or any(bound is not None and not holds(bound) for bound, _, holds in bounds):
        range_ = " and ".join(text for _, text, _ in bounds if text)
        what = f"a number{f' of {unit}' if unit else ''}{f' {range_}' if range_ else ''}"
        raise fail(key, value, f"{what}{_null(optional)}", hint)
    return value


def boolean(key: str, value: Any) -> bool:
    """Check true or false."""
    if not isinstance(value, bool):
        raise fail(key, value, "true or false")
    return value


def choice(key: str, value: Any, choices: Iterable[Any], *, optional: str = "", hint: str = "") -> Any:
    """Check one of the ``choices``, which the message lists. ``optional``: see `whole`."""
    if value is None and optional:
        return value
    valid = list(choices)
    if value not in valid:
        wanted = f"one of {', '.join(map(str, valid))}" if valid else "left out: there is nothing to choose from"
        raise fail(key, value, f"{wanted}{_null(optional)}", hint)
    return value


def several(key: str, values: Any, choices: Iterable[Any], *, optional: str = "") -> list[Any]:
    """Check a list of some of the ``choices``, each once; return it in their order. Null, ``optional``: all of them."""
    valid = list(choices)
    if values is None and optional:
        return valid
    if not isinstance(values, list | tuple):
        raise fail(key, values, f"a list, such as [{values}]{_null(optional)}")
    unknown = [value for value in values if value not in valid]
    if unknown or not values or len(set(values)) < len(values):
        wanted = f"a list of some of {', '.join(map(str, valid))}, each once{_null(optional)}"
        raise fail(key, list(values), wanted, f"{unknown[0]!r} is none of them" if unknown else "")
    return [value for value in valid if value in values]


def _null(optional: str) -> str:
    return f", or null {optional}" if optional else ""

"""Read a command line as Hydra will, and say how what it would not understand is written."""

import argparse
import shlex
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from w2v_abx.config import CONF, quoted
from w2v_abx.errors import InputError

__all__ = ["read_arguments"]

NOT_OURS = "--experimental-rerun"  # it unpickles a file


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read Hydra's flags, and its ``overrides``, in any order.

    Raises:
        InputError: a flag that there is not, or an override that Hydra cannot parse.
    """
    parser = get_args_parser()
    parser.allow_abbrev = False  # --experiment=demo is not short for --experimental-rerun
    parser.error = _refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_intermixed_args(arguments)
    unknown = [argument for argument in unknown if argument.startswith("-")]
    if flags.experimental_rerun is not None:
        unknown.insert(0, f"{NOT_OURS}={flags.experimental_rerun}")
    if unknown:
        flag, equals, value = unknown[0].partition("=")
        setting = f"{flag.lstrip('-')}={value if equals else 'VALUE'}"
        raise InputError(f"there is no flag {flag}; a setting is written without dashes, {setting}")
    own = OverridesParser.create()
    for override in flags.overrides:
        try:
            parsed = own.parse_override(override)
        except HydraException:
            raise InputError(_help(override, own)) from None
        group = CONF / parsed.key_or_group
        if group.is_dir() and not parsed.is_delete() and not isinstance(parsed.value(), str | list):
            choices = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
            raise InputError(f"{override}: {parsed.key_or_group} is chosen by name; there are {choices}")
    return flags


def _refuse(message: str) -> NoReturn:
    raise InputError(message)


def _help(override: str, parser: OverridesParser) -> str:
    """Say how an ``override`` that cannot be parsed is written."""
    key, equals, value = override.partition("=")
    try:
        parser.parse_override(f"{key}=1")
    except HydraException:
        return f"{key!r} is not the name of a setting; one is written KEY=VALUE"
    if not equals:
        return f"{override!r} has no value; a setting is written {override}=VALUE"
    written = quoted(override)
    if value.startswith("[") and value.endswith("]"):  # a list, of which each entry is a text
        entries = [shlex.split(quoted(f"={entry}"))[0][1:] for entry in value[1:-1].split(",")]
        written = shlex.quote(f"{key}=[{','.join(entries)}]")
    return f"{override!r} has characters that mean something else; quote it, for the shell, too: {written}"

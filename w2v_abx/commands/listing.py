"""`w2v-abx list`: the choices of a config group, with a line on each."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from w2v_abx.commands.help import choices_of, group_names
from w2v_abx.config import CONF
from w2v_abx.errors import InputError

__all__ = ["PURPOSE", "listed"]

PURPOSE = "show the choices of a group of settings: model, corpus, experiment, head, abx …"
COMMENT = re.compile(r"(?:# @package .*\n)?((?:# .*\n)+)")  # at the top of a file
SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z`])|\n(?=[A-Z` ])")  # a line that is set in is a command


def listed(arguments: Sequence[str]) -> str:
    """List what ``w2v-abx list GROUP`` asks for; without a group, the groups with the names of their choices.

    Raises:
        InputError: there is no such group, or an argument is none of ``--config-dir FOLDER`` and one group.
    """
    parser = argparse.ArgumentParser("w2v-abx list", description=PURPOSE, allow_abbrev=False)
    parser.add_argument("group", nargs="?", help="its choices, one a line; left out: the groups")
    parser.add_argument("--config-dir", type=Path, help="a folder of yours with more choices, GROUP/NAME.yaml")
    parser.error = _refuse  # type: ignore[assignment,method-assign]
    given = parser.parse_args(arguments)
    folders = [CONF] if given.config_dir is None else [CONF, given.config_dir]
    if given.config_dir is not None and not given.config_dir.is_dir():
        raise InputError(f"--config-dir={given.config_dir} is not a folder")
    groups = sorted(group_names(folders))
    if given.group is None:
        return _aligned({group: ", ".join(choices_of(group, folders)) for group in groups})
    group = given.group.strip("/")
    if group not in groups:
        raise InputError(f"there is no group {group!r}; the groups are {', '.join(groups)}")
    return _aligned({name: _summary(path) for name, path in choices_of(group, folders).items()})


def _summary(path: Path) -> str:
    """The first sentence of the comment at the top of a file."""
    found = COMMENT.match(path.read_text(encoding="utf-8"))
    text = re.sub("^# ", "", found[1], flags=re.MULTILINE).strip() if found else ""
    return SENTENCE_END.split(text)[0].replace("\n", " ")


def _aligned(lines: dict[str, str]) -> str:
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in lines.items())


def _refuse(message: str) -> None:
    raise InputError(f"w2v-abx list [GROUP] [--config-dir FOLDER]: {message}")

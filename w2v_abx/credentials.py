"""Show and store addresses and commands without the passwords, tokens and signatures in them."""

import logging
import re
import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["CleanRecord", "public", "without_credentials"]

HIDDEN = "…"
# A user before the host. A password may hold what should have been escaped: a key of S3 has slashes.
USER = re.compile(
    r"""(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#'"]*@|[^\s/@:'"[]*:(?!\d*(?:[/\s?#]|$))[^\s@]*@)""", re.I
)
QUERY = re.compile(r"""(?P<address>\b[a-z][a-z0-9+.-]*://[^\s?#'"]*)(?P<query>[?#][^\s'"]*)""", re.I)
VALUE = re.compile(r"(?P<name>[?&#;][^=&;#]*=|[?#])[^&;#]+")
HEADER = re.compile(r"(?P<name>\bauthorization\s*[:=]\s*(?:(?:basic|bearer|token|digest)\s+)?)[^\s'\"]+", re.I)
COMMAND = re.compile(r"(?P<before>(?<![\w/.-])pipe:)(?P<command>.*)", re.I | re.S)
# In a message: in quotes, or what a setting is given.
SHOWN = re.compile(
    r"""(?P<quote>['"])(?P<content>[\w.+~@/-]*=?pipe:.*?)(?P=quote)|(?P<before>\w=pipe:)(?P<command>[^\n]*)""",
    re.I | re.S,
)
SECRET = r"(?:pass(?:word|wd|phrase)?|secret|token|api_?key|access_?key|credentials?|signature)"
NAMED = re.compile(rf"(?:.*[_.-])?(?:{SECRET}|api-key|private[_-]?key|authorization|cookie)", re.I)
# What one is given: in a message, where other things are called so, without spaces; "$" begins the name of a variable.
VALUED = r"""(?P<name>(?:^|[\s{{,.+_-]){secret}['"]?{equals})(?![…$])('[^']*'|"[^"]*"|[^\s,}}{{\[]+)"""
ASSIGNED = re.compile(VALUED.format(secret=SECRET, equals="[=:]"), re.I)
GIVEN = re.compile(VALUED.format(secret=SECRET, equals=r"\s*[=:]\s*"), re.I)
PLAIN = re.compile(r"[\w./{}@+,-]*")


def without_credentials(text: str) -> str:
    """Take the user and password, and the values of queries, out of the addresses in a message.

    What something called a password, a token … is given is left out, too. A command (``pipe:``) is taken for one where
    it stands in quotes or is what a setting is given.
    """
    if "://" in text:
        text = USER.sub(r"\g<scheme>", text)
        text = QUERY.sub(lambda found: found["address"] + VALUE.sub(rf"\g<name>{HIDDEN}", found["query"]), text)
    text = ASSIGNED.sub(rf"\g<name>{HIDDEN}", HEADER.sub(rf"\g<name>{HIDDEN}", text))
    return SHOWN.sub(_in_message, text)


def _in_message(found: re.Match[str]) -> str:
    if found["quote"]:
        return f"{found['quote']}{public(found['content'])}{found['quote']}"
    return found["before"] + _shortened(found["command"])


def public(value: Any) -> Any:
    """Make what may be stored of a setting, or of containers of them.

    Of a command there stays what it begins with, and where the name of the file goes: anything else may be a password.
    Settings that are called so (password, token …) are left out, too.
    """
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if entry and isinstance(entry, str | int) and NAMED.fullmatch(str(name)) else public(entry)
            for name, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [public(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if found := COMMAND.search(value):
        return without_credentials(value[: found.start()]) + found["before"] + _shortened(found["command"])
    return GIVEN.sub(rf"\g<name>{HIDDEN}", without_credentials(value))


class CleanRecord(logging.LogRecord):
    """An entry of a log without credentials: for `logging.setLogRecordFactory`."""

    def getMessage(self) -> str:
        return without_credentials(super().getMessage())


def _shortened(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark that is not closed
        words = command.split()
    program = next((word for word in words if "=" not in word and word != HIDDEN), "")
    shown: list[str] = []
    for word in words:
        kept = HIDDEN
        if word == program or "{name}" in word:
            kept = without_credentials(word) if "://" in word else word
            if "://" not in word and not PLAIN.fullmatch(word):
                kept = f"{HIDDEN}{{name}}" if "{name}" in word else HIDDEN
        if [kept] != shown[-1:]:
            shown.append(kept)
    return " ".join(shown)

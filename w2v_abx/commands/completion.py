"""What Tab completes on the command line."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from w2v_abx.commands.help import FLAGS, PLUMBING, composed, group_names
from w2v_abx.config import CONF

__all__ = ["SCRIPT", "complete"]

# For bash, which cuts words at each character of COMP_WORDBREAKS and replaces the last part; what is found is for the
# whole word, so that what stands before that part is taken off. Files are completed where nothing is found.
SCRIPT = r"""_w2v_abx() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" word before
    word="${line##*[[:space:]]}"
    before="${word%"${word##*["$COMP_WORDBREAKS"]}"}"
    COMPREPLY=($("${COMP_WORDS[0]}" --complete "$line" 2> /dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o default -o nospace -F _w2v_abx w2v-abx"""


def complete(line: str, commands: Mapping[str, object]) -> list[str]:
    """Find what the last word of a command ``line`` can become: a command, a flag, a group and its choices, a key.

    ``commands``: those there are, by name. What is complete ends in a space.
    """
    words = line.split()[1:]
    word = "" if line[-1:].isspace() or not words else words.pop()
    if not words:
        return [f"{name} " for name in (*commands, "list", "--help", "--version") if name.startswith(word)]
    command, *others = words
    folder = others[others.index("--config-dir") + 1] if "--config-dir" in others[:-1] else None
    if command == "list":
        folders = [CONF] if folder is None else [CONF, Path(folder)]
        return [f"{name} " for name in sorted(group_names(folders)) if name.startswith(word)]
    if command not in commands:
        return []
    if word.startswith("-"):
        return [f"{flag} " for flag in FLAGS if flag.startswith(word)]
    found = composed(command, [other for other in others if "=" in other and not other.startswith("-")], folder)
    sign = word[: len(word) - len(word.lstrip("+~"))]
    key, equals, value = word[len(sign) :].partition("=")
    if equals:
        several, comma, last = value.rpartition(",")  # with --multirun
        choices = found.groups.get(key.partition("@")[0], [])
        return [f"{sign}{key}={several}{comma}{choice}" for choice in choices if choice.startswith(last)]
    groups = [f"{group}=" for group in (found.groups if sign else found.chosen) if not group.startswith("hydra/")]
    parent, dot, _ = key.rpartition(".")
    node = found.config
    for part in parent.split(".") if parent else ():
        node = node._get_node(part) if isinstance(node, DictConfig) else None  # type: ignore[assignment]
    keys = [parent + dot + _key(node, str(name)) for name in node] if isinstance(node, DictConfig) else []
    return sorted({sign + name for name in (*groups, *keys) if name.startswith(key)})


def _key(node: DictConfig, name: str) -> str:
    child = node._get_node(name)
    return f"{name}." if isinstance(child, DictConfig) and child.keys() - PLUMBING else f"{name}="

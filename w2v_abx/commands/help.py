"""`--help` of a command: its groups and keys, explained by the comments in ``conf/``."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from w2v_abx.config import CONF, quoted

__all__ = ["FLAGS", "Composed", "choices_of", "comments_of", "composed", "describe", "group_names"]

WIDTH = 100  # columns of a line with its comment
FLAGS = {
    "--help": "show this page, with the settings that are given beside it",
    "--cfg": "job prints the configuration, and with --resolve its interpolations resolved",
    "--multirun": "run once for each combination of KEY=VALUE,VALUE",
    "--config-dir": "a folder of yours with more choices, GROUP/NAME.yaml",
    "--hydra-help": "show all flags of Hydra's",
}
PLUMBING = {"_target_", "_partial_", "_convert_"}  # what a group is made by, and how
Comments = dict[tuple[str, ...], str]


class Composed(NamedTuple):
    """A command's configuration, the choices that there are by group, the groups chosen from, and comments by key."""

    config: DictConfig
    groups: dict[str, list[str]]
    chosen: dict[str, Any]
    comments: Comments


def composed(command: str, overrides: Sequence[str], folder: str | None = None) -> Composed:
    """Compose the configuration of a ``command``; ``folder`` is that of ``--config-dir``."""
    folders = [CONF] if folder is None else [CONF, Path(folder).resolve()]
    more = [f"hydra.searchpath=[{_text(f'file://{path}')}]" for path in folders[1:]]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        full = compose(command, [*overrides, *more], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        files = loader.compute_defaults_list(command, [*overrides, *more], RunMode.RUN).defaults
        groups = {name: [*choices_of(name, folders)] for name in sorted(group_names(folders))}
    comments: Comments = {}
    for file in files:
        for own in folders:
            if (path := own / f"{file.config_path}.yaml").is_file():
                package = tuple(file.package.split(".")) if file.package else ()
                for key, text in comments_of(path).items():
                    of_group = key[0] == "defaults"  # of what a group is, which a path beside the file's own names
                    comments[("defaults", _group(file.config_path, key[1])) if of_group else (*package, *key)] = text
    chosen = OmegaConf.to_container(full.hydra.runtime.choices)
    assert isinstance(chosen, dict)
    own_file = yaml.safe_load((CONF / f"{command}.yaml").read_text(encoding="utf-8"))
    always = {entry for entry in own_file.get("defaults", []) if isinstance(entry, str)}
    paths = [path for file in files if (path := file.config_path) and path not in always]
    listed = {  # of groups from which several choices are taken, Hydra names none
        key[1]: [path.rpartition("/")[2] for path in paths if path.rpartition("/")[0] == key[1]]
        for key in sorted(comments)
        if key[0] == "defaults" and key[1] in groups and key[1] not in chosen
    }
    with_hydra = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
    return Composed(
        with_hydra, groups, {**listed, **{str(group): choice for group, choice in chosen.items()}}, comments
    )


def describe(command: str, purpose: str, found: Composed) -> str:
    """Make the help of ``command`` with the configuration that was ``found``."""
    lines = [f"w2v-abx {command} [KEY=VALUE …]: {purpose}", "", "Flags", ""]
    lines += [f"  {flag:<13} {meaning}" for flag, meaning in FLAGS.items()]
    lines += ["", "Groups, of which a choice sets several keys; GROUP=CHOICE takes another", ""]
    for group, choice in reversed(found.chosen.items()):
        if group.partition("/")[0] != "hydra" and group in found.groups:
            comment = found.comments.get(("defaults", group), "")
            lines += _line(f"  {group}={_choice(choice)}", comment and f"# {comment}", "  ")
            lines += _wrapped(", ".join(found.groups[group]), " " * 6)
    lines += ["", "Keys, as they are with these choices; KEY=VALUE and GROUP.KEY=VALUE change them", ""]
    return "\n".join([*lines, *_keys(found.config, found.comments)])


def _choice(choice: Any) -> str:
    if isinstance(choice, list):
        return f"[{','.join(choice)}]"
    return "null" if choice is None else str(choice)


def comments_of(path: Path) -> Comments:
    """Read the comments of a YAML file by key: beside it, further below if they are indented more, or right above it.

    Those of a defaults list are found under ``defaults`` and the group.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    return {
        key: comment
        for key, column, row, end in _key_marks(yaml.compose(text, yaml.CSafeLoader), ())
        if (comment := _beside(lines, column, *end) or _above(lines, column, row))
    }


def _key_marks(node: Any, parents: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, int, tuple[int, int]]]:
    """Find each key, its column and row, and row and column of where what it has in its line ends."""
    if isinstance(node, yaml.SequenceNode) and parents == ("defaults",):
        for entry in node.value:
            yield from _key_marks(entry, parents)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inline = value.start_mark.line == key.start_mark.line
        end = value.end_mark if inline else key.end_mark
        name = key.value.removeprefix("override ") if parents == ("defaults",) else key.value
        yield (*parents, name), key.start_mark.column, key.start_mark.line, (end.line, end.column)
        if not node.flow_style:
            yield from _key_marks(value, (*parents, name))


def _beside(lines: Sequence[str], column: int, row: int, end: int) -> str:
    words = [lines[row][end:].lstrip(": ")] if row < len(lines) else [""]
    if not words[0].startswith("#"):
        return ""
    for line in lines[row + 1 :]:
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) <= column:
            break
        words.append(line)
    return " ".join(word.strip().removeprefix("#").strip() for word in words)


def _above(lines: Sequence[str], column: int, row: int) -> str:
    words: list[str] = []
    while row and lines[row - 1].startswith(" " * column + "#"):
        row -= 1
        words.insert(0, lines[row].strip().removeprefix("#").strip())
    of_parent = row and " # " in lines[row - 1] and len(lines[row - 1]) - len(lines[row - 1].lstrip()) < column
    return "" if not row or of_parent else " ".join(words)  # the first lines are about the file


def _keys(node: DictConfig, comments: Mapping[tuple[str, ...], str], parents: tuple[str, ...] = ()) -> Iterator[str]:
    indent = "  " * (len(parents) + 1)
    for name in map(str, node):
        key = (*parents, name)
        child = node._get_node(name)
        if name in PLUMBING or (isinstance(child, DictConfig) and child and not child.keys() - PLUMBING):
            continue
        comment = f"# {comments[key]}" if key in comments else ""
        yield from _line(
            f"{indent}{name}: {_value(node, name)}" if not _is_group(child) else f"{indent}{name}:", comment, indent
        )
        if _is_group(child):
            yield from _keys(child, comments, key)


def _is_group(node: Any) -> TypeGuard[DictConfig]:
    return isinstance(node, DictConfig) and not (
        node._is_none() or node._is_interpolation() or node._is_missing() or not node
    )


def _value(node: DictConfig, name: str) -> str:
    plain = OmegaConf.to_container(OmegaConf.masked_copy(node, [name]))
    assert isinstance(plain, dict)
    line = yaml.dump(
        [plain[name]],
        Dumper=yaml.CSafeDumper,
        default_flow_style=True,
        width=10**9,
        allow_unicode=True,
        sort_keys=False,
    )
    return line.strip()[1:-1]


def _line(text: str, comment: str, indent: str) -> list[str]:
    """Put a comment beside ``text`` where there is room, and else above it."""
    if len(text) + len(comment) + 2 <= WIDTH:
        return [f"{text}  {comment}".rstrip()]
    return [*_wrapped(comment.removeprefix("# "), f"{indent}# "), text]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _group(file: str, named: str) -> str:
    """Name the group that a defaults list of ``file`` names: from the top with a slash, else beside the file."""
    return str(Path("/", file).parent / named).strip("/")


def choices_of(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Find the files of a group's choices by name; of two that are called alike, the last folder's."""
    found = {path.stem: path for own in folders for path in (own / group).glob("*.yaml")}
    return dict(sorted(found.items()))


def group_names(folders: Sequence[Path]) -> set[str]:
    """Find the groups that there are choices of."""
    return {str(path.parent.relative_to(own)) for own in folders for path in own.rglob("*.yaml") if path.parent != own}


def _text(value: str) -> str:
    """Quote a text for Hydra alone, without a shell."""
    import shlex

    return shlex.split(quoted(f"x={value}"))[0].partition("=")[2]

"""Check the values of a job's configuration by the annotations of what they are given to."""

import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from w2v_abx.config import quoted, unwrap
from w2v_abx.errors import InputError
from w2v_abx.system.checks import fail

__all__ = ["check_values"]

# What groups are given to that do not name it, and keys that the commands themselves read.
OWNERS = {
    "prepare": ("w2v_abx.shards.prepare", "w2v_abx.audio.Cleaning"),
    "features": ("w2v_abx.features.settings.FeatureSettings",),
    "abx": ("w2v_abx.abx.setting.AbxSetting",),
    "data": ("w2v_abx.data.settings.DataSettings",),
    "noise": ("w2v_abx.data.noise.NoiseSetting",),
}
OWN: dict[str, dict[str, Any]] = {
    "": {
        "seed": int,
        "name": str,
        "tag": str,
        "before": str,
        "after": str,
        "runs": list[str] | dict[str, str],
        "analysis_speech": dict[str, Any] | None,
        "measurements": str | None,
        "baselines": list[str],
        "primary_layer": int | None,
        "resume": str | None,
        "signals": list[str] | None,
        "textgrids": str | None,
    },
    "corpus": {"minutes": float | None},
    "paths": {"data": str, "outputs": str},
    "prepare": {"plan_only": bool},
    "features": {"folder": str | None, "gigabytes": float},
    "abx": {"frequency": float | str | None, "items": str | None, "root": str | None, "triplets": str | None},
}
GROUPS_OF_ANY_NAME = ("analysis", "callbacks", "logger")
WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a group of keys",
    type(None): "null",
}
# What no user's key is compared with, since it is missing or cannot be resolved: its owner says so.
UNKNOWN = object()


def check_values(config: DictConfig) -> None:
    """Raise InputError for a value that is not of the type which its key has, and for a key that nothing takes.

    The type is the annotation of the parameter, of what ``_target_`` names, that gets the value. What is annotated with
    nothing that YAML can write is left to its owner.
    """
    groups: list[tuple[str, DictConfig, Mapping[str, Any]]] = []
    for key, annotations in OWN.items():
        if isinstance(node := OmegaConf.select(config, key) if key else config, DictConfig):
            groups.append((key, node, annotations))
    for key, owners in OWNERS.items():
        if isinstance(node := config.get(key), DictConfig):
            groups += [(key, node, _parameters(key, owner)[0]) for owner in owners]
    for key in GROUPS_OF_ANY_NAME:
        if isinstance(node := config.get(key), DictConfig):
            groups.append((key, node, dict.fromkeys(map(str, node), dict | None)))
    for key, made in _targets(config):
        taken, whole = _parameters(key, made["_target_"])
        own = OWN.get(key, {})
        unknown = [name for name in map(str, made) if name not in {**taken, **own} and not name.startswith("_")]
        if whole and unknown:
            raise InputError(f"unknown key {key}.{unknown[0]}; {made['_target_']} takes {', '.join(taken)}")
        groups.append((key, made, taken))
    for key, node, hints in groups:
        for name in hints.keys() & set(map(str, node)):
            _check(f"{key}.{name}" if key else name, node, name, hints[name])


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Find the groups that name what is made of them, with their keys."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    if isinstance(node.get("_target_"), str):
        yield prefix, node
    for name in map(str, node):
        if not OmegaConf.is_interpolation(node, name) and not OmegaConf.is_missing(node, name):
            yield from _targets(node.get(name), f"{prefix}.{name}" if prefix else name)


def _parameters(key: str, target: str) -> tuple[dict[str, Any], bool]:
    """Annotations by parameter of what ``target`` names, of a class also those that it passes on to its bases, and
    whether these are all that it takes."""
    try:
        made = pkgutil.resolve_name(target)
    except Exception as error:  # whatever importing somebody's module leads to
        raise InputError(f"{key}._target_={target} cannot be loaded: {' '.join(str(error).split())}") from error
    owner = made if isinstance(made, type) else getattr(made, "__self__", None)  # a class, or the one of a method
    functions = [vars(base)["__init__"] for base in getattr(owner, "__mro__", ()) if "__init__" in vars(base)]
    found: dict[str, Any] = {}
    for function in functions if owner is made else [made, *functions]:
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # not one of Python's
            break
        named = {p.name: _hint(function, p.annotation) for p in parameters if p.name != "self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return named | found, not found
        found = named | found
    return found, False


def _hint(function: Any, annotation: Any) -> Any:
    """Evaluate an annotation; Any where there is none, or it names what is imported for type checkers only."""
    try:
        bare = types.SimpleNamespace(__annotations__={"it": annotation})
        hint = typing.get_type_hints(bare, getattr(function, "__globals__", {}))["it"]
    except (NameError, TypeError):
        return Any
    return Any if hint is inspect.Parameter.empty else hint


def _check(key: str, node: DictConfig, name: str, wanted: Any) -> None:
    try:
        value = UNKNOWN if OmegaConf.is_missing(node, name) else unwrap(node[name])
    except OmegaConfBaseException:
        value = UNKNOWN
    if value is UNKNOWN or (isinstance(value, Mapping) and "_target_" in value) or _fits(value, wanted):
        return
    content: Any = OmegaConf.to_container(node)
    source = re.fullmatch(r"\$\{([\w.]+)\}", str(content[name]))
    key = source[1] if source else key  # where a user sets it
    textual = _fits("", wanted) and not isinstance(value, str) and value is not None
    raise fail(key, value, _words(wanted), f"as a text: {quoted(f'{key}={value}')}" if textual else "")


def _fits(value: Any, wanted: Any) -> bool:
    arguments, kind = get_args(wanted), _kind(wanted)
    if kind is Union:
        return any(_fits(value, one) if _kind(one) else isinstance(value, list | dict) for one in arguments)
    if kind is Literal:
        return value in arguments
    if kind is None:
        return True
    fits = type(value) in ((int, float) if kind is float else (kind,))
    if not fits or kind is not list or not arguments:
        return fits
    if get_origin(wanted) is tuple and ... not in arguments:
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    return all(_fits(entry, arguments[0]) for entry in value)


def _kind(wanted: Any) -> Any:
    """Find what an annotation asks of a value: a type of `WORDS`, Union or Literal; None: nothing known here."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return Union
    if origin is Literal:
        return Literal
    plain = type(None) if wanted is None else origin or wanted
    if plain in WORDS:
        return plain
    bases = {Path: str, Mapping: dict, Collection: list} if isinstance(plain, type) else {}
    return next((kind for base, kind in bases.items() if issubclass(plain, base)), None)


def _words(wanted: Any) -> str:
    kind = _kind(wanted)
    if kind is Union:
        return " or ".join(dict.fromkeys(_words(one) for one in get_args(wanted) if _kind(one)))
    return f"one of {', '.join(map(str, get_args(wanted)))}" if kind is Literal else WORDS[kind]

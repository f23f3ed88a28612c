"""Where the configuration lives, and what its errors mean."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from w2v_abx.errors import InputError

__all__ = ["CONF", "PACKAGE", "changed", "expand_home", "explain", "quoted", "unwrap", "wandb_offline"]

PACKAGE = Path(__file__).resolve().parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def wandb_offline() -> bool:
    """Whether W&B is to write its runs here alone, as it is where it has no key (of the environment, or in the user's
    netrc). ``WANDB_MODE`` goes first: with another mode than offline, W&B does what that says."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode in ("offline", "dryrun")
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return not os.environ.get("WANDB_API_KEY") and not (netrc.is_file() and "api.wandb.ai" in netrc.read_text())


OmegaConf.register_new_resolver("package", lambda path: str(PACKAGE / path), replace=True)
OmegaConf.register_new_resolver(  # how a folder of so many of a corpus's minutes is called beside the whole one's
    "minutes", lambda minutes: "" if minutes is None else f"-{minutes}min".replace(".0min", "min"), replace=True
)
OmegaConf.register_new_resolver("home", lambda path: str(Path(path).expanduser()), replace=True)
OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)


MOVED = {  # settings of earlier versions: what a user writes now
    "objective.microbatch": "microbatch.clips",
    "objective.microbatch_seconds": "microbatch.seconds",
    "objective.microbatch_grow_after": "microbatch.grow_after",
    "objective.gradient_clip_norm": "optimizer.gradient_clip_norm",
    "objective/replay": "head@objective.heads.replay",
}


def explain(error: BaseException) -> InputError:
    """Find in Hydra's chain of errors what a user can mend; for an unknown key, name the keys there are."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        if known := _explain_one(cause):
            return InputError(known)
        cause = cause.__cause__ or cause.__context__
    message = " ".join(str(error).split())
    now = next((new for old, new in MOVED.items() if f"'{old}'" in message), None)
    return InputError(message if now is None else f"{message} It is {now} now.")


def expand_home(config: DictConfig | ListConfig) -> None:
    """Write the home folder for a ``~`` with which a value begins, in place: every key that is a path takes one."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
        if isinstance(value, str) and (value == "~" or value.startswith("~/")):
            config[key] = str(Path("~").expanduser()) + value[1:]
        elif isinstance(value, dict | list):
            expand_home(config[key])


def _explain_one(error: BaseException) -> str | None:
    """Say what a user can mend of an error of Hydra's or OmegaConf's, where it tells."""
    if isinstance(error, MissingConfigException) and "submitit" in (error.missing_cfg_file or ""):
        return "the package hydra-submitit-launcher is missing: pip install 'w2v-abx[slurm]'"
    if isinstance(error, MissingConfigException) and error.options:
        return f"{str(error).splitlines()[0]}; there are {', '.join(error.options)}"
    where = getattr(error, "full_key", "") or ""
    if isinstance(error, MissingMandatoryValue):
        where = where or str(error).rpartition(" ")[2]  # of one that another key takes its value from
        return f"{where} is missing; give {where}=…"
    parent = getattr(error, "parent_node", None)
    if isinstance(parent, DictConfig) and getattr(error, "key", None) not in parent.keys():  # noqa: SIM118
        level = where.rpartition(".")[0] or "the top level"
        moved = f"; it is {MOVED[where]} now" if where in MOVED else ""
        keys = sorted(key for key in map(str, parent) if not (key.startswith("_") and key.endswith("_")))
        has = f"has {', '.join(keys)}" if keys else f"is empty, and +{where}=… adds to it"
        return f"unknown key {where!r}{moved}; {level} {has}"
    if found := re.match("Ambiguous value for argument '(.*)'\n", str(error).lstrip()):
        key, _, value = found[1].partition("=")
        return (
            f"{found[1]} gives several values: --multirun tries one after another, a list is written "
            f"{shlex.quote(f'{key}=[{value}]')}, and a text {quoted(found[1])}"
        )
    return None


def quoted(override: str) -> str:
    """Write ``KEY=VALUE`` for a shell so that Hydra takes the value as text, whatever its characters."""
    key, _, value = override.partition("=")
    value = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return shlex.quote(f'{key}="{value}"')


def unwrap(config: Any) -> Any:
    """Plain containers out of a config node."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys, with dots, that are not the same in two configurations, with the value in each."""
    first, second = _flat(before), _flat(now)
    return {
        key: (first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found |= _flat(entry, f"{prefix}.{key}" if prefix else str(key))
    return found

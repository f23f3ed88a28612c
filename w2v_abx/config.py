"""Where the configuration lives, and what its errors mean."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from w2v_abx.errors import InputError

__all__ = ["CONF", "PACKAGE", "changed", "expand_home", "explain", "has_wandb_key", "unwrap"]

PACKAGE = Path(__file__).resolve().parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def has_wandb_key() -> bool:
    """Whether W&B could log in: a key in the environment or in the user's netrc."""
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return bool(os.environ.get("WANDB_API_KEY")) or (netrc.is_file() and "api.wandb.ai" in netrc.read_text())


OmegaConf.register_new_resolver("package", lambda path: str(PACKAGE / path), replace=True)
OmegaConf.register_new_resolver("home", lambda path: str(Path(path).expanduser()), replace=True)
OmegaConf.register_new_resolver("wandb_offline", lambda: not has_wandb_key(), replace=True)


MOVED = {  # settings of earlier versions: what a user writes now
    "objective.microbatch": "microbatch.clips",
    "objective.microbatch_seconds": "microbatch.seconds",
    "objective.microbatch_grow_after": "microbatch.grow_after",
    "objective.gradient_clip_norm": "optimizer.gradient_clip_norm",
    "objective/replay": "head@objective.heads.replay",
}


def explain(error: BaseException) -> InputError:
    """Find in Hydra's chain of errors what a user can mend; for an unknown key, name the keys there are."""
    message = str(error).strip()
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        if isinstance(cause, MissingConfigException) and "submitit" in (cause.missing_cfg_file or ""):
            return InputError("the package hydra-submitit-launcher is missing: pip install 'w2v-abx[slurm]'")
        parent = getattr(cause, "parent_node", None)
        where = getattr(cause, "full_key", "") or ""
        if isinstance(cause, MissingMandatoryValue):
            return InputError(f"{where} is missing; give {where}=…")
        if isinstance(parent, DictConfig) and getattr(cause, "key", None) not in parent.keys():  # noqa: SIM118
            level = where.rpartition(".")[0] or "the top level"
            moved = f"; it is {MOVED[where]} now" if where in MOVED else ""
            return InputError(f"unknown key {where!r}{moved}; {level} has {', '.join(sorted(map(str, parent)))}")
        cause = cause.__cause__ or cause.__context__
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

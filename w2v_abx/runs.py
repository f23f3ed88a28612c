"""One run's folder: what was asked, by which code, on which machine, and how far it got."""

import contextlib
import errno
import json
import logging
import os
import platform
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import psutil
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

import w2v_abx
from w2v_abx.config import changed
from w2v_abx.credentials import public
from w2v_abx.errors import InputError
from w2v_abx.system import signals
from w2v_abx.system.atomic import UNFINISHED, sweep, write_json, write_text

__all__ = ["AUTO", "HARMLESS", "Run", "check_same", "run_folder"]

log = logging.getLogger(__name__)

LOCK = ".lock"
TIME = "%Y-%m-%dT%H:%M:%S%z"
AUTO = "auto"
PACKAGES = ("torch", "torchaudio", "lightning", "transformers", "hydra-core", "numpy", "polars", "numba")  # in run.json

# Keys of a configuration that a run may go on with otherwise than it began. The data module looks after the order of
# the clips by itself: inside an epoch it refuses another number of processes.
HARMLESS = (
    "abx.batch_seconds",
    "abx.device",
    "archives",
    "callbacks.checkpoints",
    "callbacks.divergence",
    "callbacks.monitor",
    "callbacks.progress",
    "corpus.limits",
    "data.cache",
    "data.cache_gigabytes",
    "data.num_workers",
    "features.keep",
    "logger",
    "measurements",
    "microbatch",
    "model.gradient_checkpointing",
    "name",
    "paths",
    "prepare",
    "resume",
    "signals",
    "thermal",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.use_distributed_sampler",
)


def commit() -> str | None:
    """Name the commit of the checkout this code runs from, with ``+`` when it has uncommitted changes."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    where = Path(w2v_abx.__file__).resolve().parent
    try:
        return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class Run:
    """The folder of one run. Making one claims the folder: no other process may be at work in it.

    ``facts`` is what ``run.json`` holds; its ``id`` is that of the W&B run. Of its ``state``: a run that is not
    ``finished`` can be resumed; one that is ``running`` was killed if nobody has its lock, and a signal has stopped one
    that was ``preempted`` or ``interrupted``.

    Args:
        folder: where everything of the run goes.
        config: its configuration, written resolved to ``config.yaml``, and compared with what is there, but for
            passwords and the like: they are given again.
        resume: go on with the run that the folder holds, if it does.

    Raises:
        InputError: the folder holds a run, and may not or cannot be gone on with.
    """

    def __init__(self, folder: Path | str, config: DictConfig, *, resume: bool = False) -> None:
        self.folder = Path(folder)
        self.started = time.time()
        self.spent = 0.0  # seconds, before
        self.resumed = False  # the folder holds a run that goes on
        self.facts: dict[str, Any] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = contextlib.ExitStack()
        self._hold()
        try:
            # One that ended before it had done anything, of a wrong setting for instance, is begun anew.
            done = holds_work(self.folder) or any(self.folder.glob("abx/*/summary.json"))
            if (done or _is_finished(_facts(self.folder))) and not resume:
                hint = ", or go on with it with resume=auto" if "resume" in config else ""
                raise InputError(f"{self.folder} already holds a run; choose another folder with hydra.run.dir=…{hint}")
            self._begin(config)
        except BaseException:
            self._lock.close()
            raise

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.resumed and _is_finished(self.facts)

    def record(self, **facts: Any) -> None:
        """Add ``facts`` and the wall time so far, in seconds."""
        self.facts |= {"wall_seconds": round(self.spent + time.time() - self.started, 1), **public(facts)}
        write_json(self.folder / "run.json", self.facts, lasting=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if not self.finished:
                ended = {} if error is not None else {"ended": time.strftime(TIME)}
                self.record(state=_state(error), **ended)
        except OSError:
            if error is None:
                raise
        finally:
            self._lock.close()

    def _hold(self) -> None:
        try:
            self._lock.enter_context(FileLock(self.folder / LOCK, timeout=0, fallback_to_soft=False))
        except Timeout:
            raise InputError(
                f"another process is at work in {self.folder}: wait for it, or choose another folder with "
                f"hydra.run.dir=…"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            log.warning("The file system of %s has no locks: see to it that one process works there.", self.folder)

    def _begin(self, config: DictConfig) -> None:
        before = _facts(self.folder)
        self.resumed = _is_finished(before) or holds_work(self.folder)  # whether or not a power failure left its facts
        self.facts = before if self.resumed and before else _facts_of_this_process(config)
        now: Any = public(OmegaConf.to_container(config, resolve=True))
        if self.resumed:
            then = public(_configuration(self.folder / "config.yaml"))
            check_same(self.folder, then, now)
            if self.finished:
                return
            self.spent = float(before.get("wall_seconds", 0.0))
            part = _facts_of_this_process(config) | {"changed": sorted(changed(then, now))}
            names = ("command", "commit", "packages", "hardware", "started", "changed")
            self.facts["resumed"] = [*before.get("resumed", []), {name: part[name] for name in names}]
        for left in {path.parent for path in self.folder.rglob(f"{UNFINISHED}*")}:
            sweep(left)
        write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(now)), lasting=True)
        self.record(state="running")


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError unless the run in ``folder``, which began as ``before``, is the one that is wanted ``now``."""
    differing = {
        key: values
        for key, values in changed(before, now).items()
        if not any(key == harmless or key.startswith(f"{harmless}.") for harmless in HARMLESS)
    }
    if differing:
        listed = "; ".join(f"{key} was {then!r} and is {value!r}" for key, (then, value) in differing.items())
        raise InputError(
            f"the run in {folder} is another: {listed}. Give what it was begun with, or begin a run of its own with "
            f"hydra.run.dir=… (resume=CHECKPOINT starts one from a checkpoint)"
        )


def _facts(folder: Path) -> dict[str, Any]:
    """What ``run.json`` holds; nothing where a process was killed before it wrote it."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _configuration(path: Path) -> dict[Any, Any]:
    """What a run was begun with."""
    try:
        found = OmegaConf.to_container(OmegaConf.load(path))
    except Exception:  # whatever reading a damaged file leads to
        found = None
    if not isinstance(found, dict) or not found:
        raise InputError(
            f"{path} does not tell what the run there was begun with: put it back, or begin a run of its own with "
            f"hydra.run.dir=… (resume=CHECKPOINT starts one from a checkpoint)"
        )
    return found


def _facts_of_this_process(config: DictConfig) -> dict[str, Any]:
    return {
        "id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
        "w2v_abx": w2v_abx.__version__,
        "commit": commit(),
        "command": shlex.join([*Path(sys.argv[0]).name.split(), *map(public, sys.argv[1:])]),
        "seed": config.seed,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "cores": psutil.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": _gpus(),
        },
        "started": time.strftime(TIME),
        "state": "running",
    }


def _gpus() -> list[str]:
    """The GPUs that PyTorch sees, where the command has loaded it: others use none."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch is not None else []


def _is_finished(facts: dict[str, Any]) -> bool:
    """Not if a process was killed while it wrote the report of a run that it already called so."""
    return facts.get("state") == "finished" and "ended" in facts


def _state(error: BaseException | None) -> str:
    if error is None:
        return "finished"
    if signals.asked() and signals.is_due_to_signal(error):
        error = signals.Stopped(signals.asked())
    if isinstance(error, signals.Stopped):
        return error.state
    if isinstance(error, KeyboardInterrupt | SystemExit):  # Lightning makes the latter of the former
        return "interrupted"
    return f"stopped: {str(error) or type(error).__name__}"


def holds_work(folder: Path) -> bool:
    """Whether something of a run is done."""
    return (folder / "phases.json").exists() or any(folder.glob("checkpoints/*.ckpt"))


def unfinished(parent: Path) -> Path | None:
    """The training run below ``parent`` that was at work last, of those that can go on."""

    def can_go_on(folder: Path) -> bool:
        facts = _facts(folder)
        command = shlex.split(facts.get("command", ""))[1:2]
        if command != ["train"] or _is_finished(facts) or not holds_work(folder):
            return False
        with contextlib.suppress(Timeout), FileLock(folder / LOCK, timeout=0):
            return True
        log.warning("resume=auto: another process is at work in %s.", folder)
        return False

    found = sorted(parent.glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((path.parent for path in found if can_go_on(path.parent)), None)


def run_folder(parent: str, name: str, resume: str | None) -> str:
    """``hydra.run.dir``: with ``resume=auto`` the unfinished run below ``parent`` that was at work last, else a new
    folder there, ``name``."""
    folder = Path(parent).expanduser()
    return str((unfinished(folder) if resume == AUTO else None) or folder / name)

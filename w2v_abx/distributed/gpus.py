"""GPUs of their own for jobs that share a machine: of a sweep with `hydra/launcher=joblib`."""

import logging
import os
import tempfile
import time
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from w2v_abx.errors import InputError

__all__ = ["jobs_at_once", "take_gpus"]

log = logging.getLogger(__name__)

POLL_INTERVAL = 1.0  # s between looks at GPUs that are taken

_taken: tuple[int, ExitStack] | None = None


def jobs_at_once(devices: object, accelerator: object = "auto") -> int:
    """Count the jobs that have room on this machine's GPUs, of as many ``devices`` each; both as in ``trainer``."""
    if accelerator == "cpu" or not _is_number(devices):
        return 1
    return max(1, len(visible_gpus()) // devices)  # type: ignore[operator]


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES would call the GPUs that this process may use: after a wrong name CUDA sees none."""
    count = _count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")

    def is_there(name: str) -> bool:
        return name.startswith(("GPU-", "MIG-")) or (name.isdecimal() and int(name) < count)

    return list(takewhile(is_there, map(str.strip, names))) if count else []


def _count() -> int:
    """NVIDIA's cards in this machine, asked without PyTorch, which a sweep's own process does not load."""
    import pynvml

    try:
        pynvml.nvmlInit()
        count: int = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver
        return 0
    return count


def take_gpus(devices: object, folder: Path | None = None) -> None:
    """Have this process, and those it starts, see so many GPUs only, which no other that asks here sees until it ends.

    It waits until there are as many. Nothing happens where the job names its GPUs or asks for all, or none are here.

    Args:
        devices: as ``trainer.devices``.
        folder: where the locks are; None: a folder of this machine.

    Raises:
        InputError: fewer GPUs than ``devices``; the process has taken another number for a job before.
    """
    global _taken  # noqa: PLW0603 what CUDA has seen in a process it sees until that ends
    names = visible_gpus()
    if not names or not _is_number(devices):
        return
    assert isinstance(devices, int)
    if _taken is not None:
        if _taken[0] != devices:
            raise InputError(
                f"jobs of one sweep with hydra/launcher=joblib take equally many devices, not {devices} too"
            )
        return
    if devices > len(names):
        raise InputError(f"trainer.devices={devices}: this machine has {len(names)} GPUs; set trainer.devices lower")
    folder = folder or Path(tempfile.gettempdir()) / f"w2v-abx-gpus-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    warned = False
    while True:
        locks = ExitStack()
        mine: list[str] = []
        for name in names:
            if len(mine) < devices and _lock(locks, folder / f"{name}.lock"):
                mine.append(name)
        if len(mine) == devices:
            break
        locks.close()
        if not warned:
            log.warning("The GPUs are taken by other jobs: this one waits for %d of them.", devices)
            warned = True
        time.sleep(POLL_INTERVAL)
    _taken = devices, locks
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)


def _lock(locks: ExitStack, path: Path) -> bool:
    try:
        locks.enter_context(FileLock(path, timeout=0))
    except Timeout:
        return False
    return True


def _is_number(devices: object) -> bool:
    return isinstance(devices, int) and not isinstance(devices, bool) and devices > 0


OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)

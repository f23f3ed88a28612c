"""Where the processes of one job meet and leave each other messages.

On one machine that is a folder which is this user's alone: nothing listens, and the file system lets nobody else in.
Between machines it is the store of PyTorch's that torchrun or the first rank opens, to which anybody can connect; a
message in it counts only with a signature by the job's token, a secret that the launcher hands to all ranks.
"""

import hashlib
import hmac
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock, Timeout

from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write_text

if TYPE_CHECKING:
    import torch.distributed as dist

__all__ = ["FOLDER", "TOKEN", "Meeting", "MeetingFolder", "SignedStore", "launcher_store", "loopback", "private_folder"]

FOLDER = "W2V_ABX_RANKS"  # the variable that names the folder to ranks that `run_ranks` has started
TOKEN = "W2V_ABX_TOKEN"  # the variable that holds the token of ranks on several machines
PREFIX = "w2v-abx-ranks-"
LOCK = ".lock"
ABANDONED_SECONDS = 3600.0  # s after which a folder that nobody holds is left over: its maker locks it at once
MIN_TOKEN_CHARACTERS = 16


class Meeting(Protocol):
    """Messages by key, and the store in which PyTorch's process groups find each other.

    Methods raise `ConnectionError` once the process is gone whose meeting it was, and InputError for a message that
    is none of this job's.
    """

    def set(self, key: str, text: str) -> None: ...

    def get(self, key: str) -> str | None:
        """Return a message; None where there is none yet."""
        ...

    def store(self) -> "dist.Store": ...


class MeetingFolder:
    """Messages as files of a folder on this machine; it goes with the process that made it."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder that others than this user can enter."""
        self.folder = folder
        try:
            status = folder.lstat()
        except OSError as error:
            raise InputError(f"{folder}, where the ranks of this job meet, is not there: start them anew") from error
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise InputError(f"{folder} is not this user's alone: ranks do not meet there")

    def set(self, key: str, text: str) -> None:
        self._check()
        write_text(self._path(key), text)

    def get(self, key: str) -> str | None:
        try:
            return self._path(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            self._check()
            return None

    def store(self) -> "dist.Store":
        import torch.distributed as dist

        return dist.FileStore(str(self.folder / "store"))

    def _path(self, key: str) -> Path:
        return self.folder / key.replace("/", "-")

    def _check(self) -> None:
        if not self.folder.is_dir():
            raise ConnectionError(f"{self.folder} is gone")


class SignedStore:
    """Messages in a store of PyTorch's, signed with a token that all ranks have."""

    def __init__(self, plain: "dist.Store", token: str) -> None:
        self._plain, self._token = plain, token.encode()

    def set(self, key: str, text: str) -> None:
        with self._connected():
            self._plain.set(f"w2v-abx/{key}", self._signature(key, text) + text)

    def get(self, key: str) -> str | None:
        with self._connected():
            if not self._plain.check([f"w2v-abx/{key}"]):
                return None
            message = self._plain.get(f"w2v-abx/{key}").decode(errors="replace")
        length = len(self._signature(key, ""))
        signature, text = message[:length], message[length:]
        if not hmac.compare_digest(signature.encode(), self._signature(key, text).encode()):
            raise InputError(f"the message {key!r} of another rank was not written with this job's {TOKEN}: refused")
        return text

    def store(self) -> "dist.Store":
        return self._plain

    def _signature(self, key: str, text: str) -> str:
        return hmac.new(self._token, f"{key}\0{text}".encode(), hashlib.sha256).hexdigest()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # DistError
            raise ConnectionError(str(error)) from error


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder for ranks to meet in, which goes when the work ends; those that killed processes left go now."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):  # another user's, or in use
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                with FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
    try:
        with FileLock(folder / LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def loopback() -> str:
    """Name this machine's interface to itself, which no other machine reaches."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def launcher_store(rank: int, size: int, timeout: timedelta, *, one_machine: bool) -> "dist.Store":
    """Connect to the store of ranks that torchrun or srun has started; ``one_machine``: nobody else can reach it,
    unless it is torchrun's own.

    Raises RuntimeError (DistError), OSError or ValueError where there is none.
    """
    import torch.distributed as dist

    if one_machine and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        port, listener = int(os.environ["MASTER_PORT"]), None
        if rank == 0:  # left to itself, PyTorch listens on all interfaces
            listener = socket.create_server(("127.0.0.1", port)).detach()
        return dist.TCPStore("127.0.0.1", port, size, rank == 0, timeout, master_listen_fd=listener)
    store: dist.Store = next(dist.rendezvous("env://", rank, size, timeout=timeout))[0]
    return store

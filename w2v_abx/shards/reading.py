"""Read shards: only sound and JSON, by name; nothing in a shard is ever run."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from w2v_abx.audio import decode
from w2v_abx.errors import InputError

__all__ = ["Sample", "read_shard"]

AUDIO = ("flac", "wav")


@dataclass(frozen=True)
class Sample:
    """One clip of a shard, its audio still encoded. ``length`` counts samples at 16 kHz."""

    shard: Path
    key: str
    labels: dict[str, Any]
    length: int
    audio: bytes

    def decode(self, start: int = 0, length: int | None = None) -> np.ndarray:
        """float32 (T,) at 16 kHz, from sample ``start``, at most ``length`` samples; `InputError` names the clip."""
        try:
            return decode(self.audio, start, length)
        except ValueError as error:
            raise InputError(
                f"{self.shard}: the audio of {self.key} cannot be decoded ({error}): run `w2v-abx prepare` again"
            ) from error


def read_shard(path: Path | str, first: int = 0, last: int | None = None) -> Iterator[Sample]:
    """Samples number ``first`` to ``last`` (exclusive; ``None``: all) of a tar; those before are passed over unread.

    Raises `InputError`, naming the shard and the member, for anything but ``KEY.flac``, ``KEY.wav`` and ``KEY.json``,
    for an absolute path or one with ``..``, and for a tar that is missing, breaks off or holds fewer samples than
    asked for.
    """
    path = Path(path)
    try:
        with tarfile.open(path, "r:") as tar:
            number = 0
            pending: dict[str, tarfile.TarInfo] = {}
            current = ""
            for member in tar:
                key, ending = _name(path, member)
                if pending and (key != current or ending in pending):
                    raise InputError(f"{path}: the clip {current} lacks its audio or its .json: it is no shard of ours")
                current, pending[ending] = key, member
                if len(pending) < 2:
                    continue
                if number >= first:
                    yield _sample(path, tar, key, pending)
                number, pending = number + 1, {}
                if number == last:
                    return
            if pending or (last is not None and number < last):
                raise InputError(f"{path} holds {number} whole clips where {last} were expected: run `w2v-abx prepare`")
    except FileNotFoundError:
        raise InputError(f"the shard {path} is missing: run `w2v-abx prepare` again") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"the shard {path} is damaged or not a tar ({error}): run `w2v-abx prepare` again") from error


def _name(path: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and kind ("json" or "audio") of a member."""
    name = PurePosixPath(member.name)
    key, _, ending = name.name.partition(".")
    if not member.isfile() or name.is_absolute() or ".." in name.parts or "\\" in member.name or not key:
        raise InputError(f"{path}: refused the member {member.name!r}, which is not a plain file inside the shard")
    if ending not in (*AUDIO, "json"):
        raise InputError(f"{path}: refused the member {member.name!r}: only .flac, .wav and .json are read")
    return str(name.with_name(key)), "json" if ending == "json" else "audio"


def _sample(path: Path, tar: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]) -> Sample:
    data = {}
    for kind in ("audio", "json"):
        if kind not in members:
            raise InputError(f"{path}: the clip {key} lacks its {kind}")
        file = tar.extractfile(members[kind])
        data[kind] = file.read() if file else b""
        if len(data[kind]) < members[kind].size:
            raise InputError(f"{path} breaks off inside {members[kind].name}: run `w2v-abx prepare` again")
    try:
        content = json.loads(data["json"])
        return Sample(path, key, dict(content["labels"]), int(content["samples"]), data["audio"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {members['json'].name} is not a clip's description ({error!r})") from error

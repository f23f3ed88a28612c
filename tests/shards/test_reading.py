"""Shards: nothing in them is run, and what is damaged is named."""

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import Fixed, Sounds

from w2v_abx import audio
from w2v_abx.errors import InputError
from w2v_abx.shards import prepare, read_shard


def write_tar(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), kind
            tar.addfile(member, io.BytesIO(data))
    return path


SOUND = audio.encode(0.1 * np.random.default_rng(0).standard_normal(1600))
JSON = b'{"labels": {}, "samples": 1600}'


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.abort, ())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.flac", SOUND), ("a.json", JSON), ("b.pkl", pickle.dumps(Bomb()))], r"refused the member 'b\.pkl': only"),
        ([("a.pyd", pickle.dumps(Bomb()))], r"refused the member 'a\.pyd'"),
        ([("/etc/a.flac", SOUND)], r"refused the member '/etc/a\.flac'"),
        ([("../a.flac", SOUND)], r"refused the member '\.\./a\.flac'"),
        ([("x/../../a.json", JSON)], r"refused the member"),
        ([("a.flac", SOUND), ("b.json", JSON)], "the clip a lacks its audio or its .json"),
        ([("a.flac", SOUND)], "the clip a lacks its audio or its .json"),
        ([("a.flac", SOUND), ("a.json", b"{}")], r"a\.json is not a clip's description"),
        ([("a.flac", SOUND), ("a.json", b"\xff")], r"a\.json is not a clip's description"),
    ],
)
def test_only_sound_and_json_are_read(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    path = write_tar(tmp_path / "train-000000.tar", *members)
    with pytest.raises(InputError, match=f"train-000000.*{message}"):
        list(read_shard(path))


def test_links_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ("a.flac", b""), kind=tarfile.SYMTYPE)
    with pytest.raises(InputError, match=r"refused the member 'a\.flac', which is not a plain file"):
        list(read_shard(path))


def test_audio_that_is_none_names_its_clip(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ("k.flac", b"nothing"), ("k.json", JSON))
    with pytest.raises(InputError, match=r"a\.tar: the audio of k cannot be decoded"):
        next(read_shard(path)).decode()


def test_a_shard_that_is_missing_or_breaks_off_is_named(sounds: Sounds, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the shard .*none\.tar is missing"):
        list(read_shard(tmp_path / "none.tar"))
    (tmp_path / "text.tar").write_text("no tar" * 1000)
    with pytest.raises(InputError, match=r"the shard .*text\.tar is damaged or not a tar"):
        list(read_shard(tmp_path / "text.tar"))
    prepare(Fixed(sounds.clips), tmp_path / "out")
    path = tmp_path / "out" / "train-000000.tar"
    whole = path.read_bytes()
    for size in range(0, len(whole.rstrip(b"\0")), 1111):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"train-000000\.tar"):
            list(read_shard(path, 11))


def test_other_numbers_of_clips_are_refused(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "out")
    path = tmp_path / "out" / "train-000000.tar"
    assert len(list(read_shard(path, 11))) == 11
    with pytest.raises(InputError, match=r"train-000000\.tar holds 11 whole clips where 12 were expected"):
        list(read_shard(path, 12))

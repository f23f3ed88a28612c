"""One clip out of its bytes: as out of the whole shard, and just as careful."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from w2v_abx import audio
from w2v_abx.errors import InputError
from w2v_abx.shards.reading import read_clip

SOUND = audio.encode(0.1 * np.random.default_rng(0).standard_normal(1600))
JSON = b'{"labels": {"labels": ["a"]}, "samples": 1600}'


def blocks(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """The members of a tar without its end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), kind
            tar.addfile(member, io.BytesIO(data))
        end = tar.offset
    return buffer.getvalue()[:end]


@pytest.mark.parametrize("key", ["a", "folder/a", "ä", "x" * 150, "y" * 90 + "/" + "z" * 90])
def test_a_clip_by_any_name(key: str) -> None:
    sample = read_clip("s.tar", blocks((f"{key}.flac", SOUND), (f"{key}.json", JSON)))
    assert (sample.key, sample.labels, sample.length) == (key, {"labels": ["a"]}, 1600)
    assert np.array_equal(sample.decode(), audio.decode(SOUND))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("b.pkl", pickle.dumps(1)), ("a.flac", SOUND), ("a.json", JSON)], r"refused the member 'b\.pkl': only"),
        ([("a.flac", SOUND), ("a.json", JSON), ("é.pkl", b"")], r"refused the member 'é\.pkl': only"),
        ([("/etc/a.flac", SOUND), ("a.json", JSON)], r"refused the member '/etc/a\.flac', which is not a plain file"),
        ([("../a.flac", SOUND), ("a.json", JSON)], r"refused the member '\.\./a\.flac'"),
        ([("a.flac", SOUND), ("b.json", JSON)], r"holds a\.flac, b\.json where its index has one clip"),
        ([("a.flac", SOUND), ("a.wav", SOUND)], r"holds a\.flac, a\.wav where"),
        ([("a.flac", SOUND), ("a.json", JSON), ("b.json", JSON)], "where its index has one clip"),
        ([("a.flac", SOUND)], r"holds a\.flac where"),
        ([("a.flac", SOUND), ("a.json", b"[]")], r"a\.json is not a clip's description"),
        ([("a.flac", SOUND), ("a.json", b"[" * 100_000)], r"a\.json is not a clip's description"),
        ([("a.flac", SOUND), ("a.json", b'{"labels": {}, "samples": 0}')], "must be a whole number from 1 to"),
        ([("a.flac", SOUND), ("a.json", b'{"labels": {}, "samples": 9999999999999}')], "must be a whole number"),
        ([], "holds nothing where"),
    ],
)
def test_only_one_clip_is_taken(members: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(InputError, match=rf"s\.tar.*{message}"):
        read_clip("s.tar", blocks(*members))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_refused(kind: bytes) -> None:
    with pytest.raises(InputError, match=r"refused the member 'a\.flac', which is not a plain file"):
        read_clip("s.tar", blocks(("a.flac", b""), kind=kind))


def test_damage_is_named() -> None:
    data = blocks(("a.flac", SOUND), ("a.json", JSON))
    for size in range(0, len(data), 100):
        if size < len(data) - (512 - len(JSON)):
            with pytest.raises(InputError, match=r"s\.tar"):
                read_clip("s.tar", data[:size])
    with pytest.raises(InputError, match=r"the shard s\.tar is damaged or not a tar"):
        read_clip("s.tar", b"\1" * 2048)
    changed = bytearray(data)
    changed[0] ^= 1  # the header's checksum tells
    with pytest.raises(InputError, match=r"s\.tar"):
        read_clip("s.tar", bytes(changed))

"""Split zips, as Info-ZIP cuts them, become zips that the standard library reads."""

import io
import shutil
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.corpora.split_zip import join
from w2v_abx.errors import InputError


def cut(archive: bytes, size: int) -> list[bytes]:
    """A plain zip in parts of ``size`` bytes: places become a part's number and the place in it."""
    data = bytearray(archive)
    end = data.rindex(b"PK\5\6")
    count, _, begin = struct.unpack_from("<HII", data, end + 10)
    position = begin
    for _ in range(count):
        (offset,) = struct.unpack_from("<I", data, position + 42)
        struct.pack_into("<H", data, position + 34, offset // size)
        struct.pack_into("<I", data, position + 42, offset % size)
        position += 46 + sum(struct.unpack_from("<HHH", data, position + 28))
    struct.pack_into("<HH", data, end + 4, (len(data) - 1) // size, begin // size)
    struct.pack_into("<I", data, end + 16, begin % size)
    return [bytes(data[place : place + size]) for place in range(0, len(data), size)]


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@given(
    st.dictionaries(st.text("abcü/.", min_size=1, max_size=8), st.binary(max_size=300), min_size=1, max_size=6),
    st.integers(40, 400),
    st.booleans(),
)
def test_joined_parts_hold_what_the_whole_held(files: dict[str, bytes], size: int, deflate: bool) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = b"PK\5 a comment"
    with tempfile.TemporaryDirectory() as folder:
        parts = [Path(folder) / f"{number}" for number in range(len(cut(whole.getvalue(), size)))]
        for path, content in zip(parts, cut(whole.getvalue(), size), strict=True):
            path.write_bytes(content)
        assert contents(join(parts, Path(folder) / "joined.zip")) == files


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP's zip to cut an archive")
@pytest.mark.parametrize("option", ["-q", "-qfz"])  # -fz: with 64-bit fields
def test_what_info_zip_cuts(tmp_path: Path, option: str) -> None:
    (tmp_path / "in").mkdir()
    content = [bytes((7 * place * place + number) % 251 for place in range(40_000)) for number in range(6)]
    for number, data in enumerate(content):
        (tmp_path / "in" / f"{number}.bin").write_bytes(data)
    subprocess.run(["zip", option, "-0", "-r", "-s", "64k", "cut.zip", "in"], cwd=tmp_path, check=True)
    parts = sorted(tmp_path.glob("cut.z*"))
    assert len(parts) == 4
    found = contents(join(parts, tmp_path / "joined.zip"))
    assert [found[f"in/{number}.bin"] for number in range(6)] == content


@pytest.mark.parametrize("keep", [slice(0, 2), slice(1, 3), slice(2, 3)])
def test_parts_that_are_missing(tmp_path: Path, keep: slice) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a", bytes(1000))
        archive.writestr("b", bytes(1000))
    made = cut(whole.getvalue(), 800)
    assert len(made) == 3
    parts = [tmp_path / f"{number}" for number in range(3)]
    for path, content in zip(parts, made, strict=True):
        path.write_bytes(content)
    with pytest.raises(InputError, match="and the parts before it make no zip"):
        contents(join(parts[keep], tmp_path / "joined.zip"))
    assert not (tmp_path / "joined.zip").exists()

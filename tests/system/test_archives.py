"""Archives land inside their folder, whole, or not at all."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system import archives
from w2v_abx.system.archives import Limits, unpack


def tar(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member in members:
            data = member.name.encode() if member.isreg() else b""
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, target, 1_000_000_000
    return info


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz")])
def test_tars(tmp_path: Path, name: str, mode: str) -> None:
    members = [member("top/é/a.txt"), member("top", tarfile.DIRTYPE), member("top/b.txt")]
    links = [member("top/soft", tarfile.SYMTYPE, "é/a.txt"), member("top/hard", tarfile.LNKTYPE, "top/b.txt")]
    unpack(tar(tmp_path / name, *members, *links, mode=mode), tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "top/é/a.txt": "top/é/a.txt",
        "top/b.txt": "top/b.txt",
        "top/soft": "top/é/a.txt",
        "top/hard": "top/b.txt",
    }
    assert not (tmp_path / "out" / "top" / "soft").is_symlink()
    assert (tmp_path / "out" / "top" / "b.txt").stat().st_mtime == 1_000_000_000


def test_a_zip_beside_what_is_there(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("root/new.txt", "new")
        archive.writestr("root/both.txt", "from the zip")
    (tmp_path / "out" / "root").mkdir(parents=True)
    (tmp_path / "out" / "root" / "old.txt").write_text("old")
    (tmp_path / "out" / "root" / "both.txt").write_text("before")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "root/new.txt": "new",
        "root/old.txt": "old",
        "root/both.txt": "from the zip",
    }
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "out"]  # noqa: PTH208


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/evil"),
        member("../evil"),
        member("a/../../evil"),
        member("..\\evil"),
        member("pipe", tarfile.FIFOTYPE),
        member("disk", tarfile.BLKTYPE),
        member("out", tarfile.SYMTYPE, "/etc/passwd"),
        member("out", tarfile.SYMTYPE, "../../etc/passwd"),
        member("out", tarfile.SYMTYPE, "."),
        member("hard", tarfile.LNKTYPE, "/etc/passwd"),
        member("loop", tarfile.SYMTYPE, "loop"),
    ],
    ids=lambda bad: f"{bad.name}-{bad.linkname}",
)
def test_what_leads_out_is_refused_by_name_and_nothing_stays(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    archive = tar(tmp_path / "a.tar", member("fine.txt"), bad)
    with pytest.raises(InputError, match="a.tar: refused the member") as error:
        unpack(archive, tmp_path / "out")
    assert repr(bad.name) in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]  # noqa: PTH208


def test_zips_that_lead_out(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    for number, (name, data) in enumerate([("../evil", "x"), ("/evil", "x"), (link, "../../etc/passwd")]):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.writestr(name, data)
        with pytest.raises(InputError, match="refused the member"):
            unpack(tmp_path / f"{number}.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_becomes_a_copy(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("top/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "../b.txt")
        archive.writestr(zipfile.ZipInfo("b.txt", (2001, 9, 9, 1, 46, 40)), "b")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert tree(tmp_path / "out") == {"top/link": "b", "b.txt": "b"}
    assert not (tmp_path / "out" / "top" / "link").is_symlink()
    assert time.localtime((tmp_path / "out" / "b.txt").stat().st_mtime)[:3] == (2001, 9, 9)


def test_what_is_too_much_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name in ("zeros.0", "zeros.1"):
            info = tarfile.TarInfo(name)
            info.size = 100_000
            archive.addfile(info, io.BytesIO(bytes(info.size)))
        for number in range(3):
            archive.addfile(member(f"link{number}", tarfile.SYMTYPE, "zeros.0"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in ("zeros.0", "zeros.1", "zeros.2"):
            zipped.writestr(name, bytes(100_000))
    small = {"gigabytes": 0.000_15}
    for name, limits, last in [
        ("a.tgz", {"members": 4}, r"'link2', one more than the 4 of archives\.members"),
        ("a.tgz", {"links": 2}, r"'link2', one more than the 2 links of archives\.links"),
        (
            "a.tgz",
            small,
            r"'zeros\.1', with which .* bytes would become 200000, more than the 150000 that archives\.gig",
        ),
        ("a.tgz", {"gigabytes": 0.000_45}, r"'link\d', with which .* would become 500000"),  # copies count
        ("a.zip", {"members": 2}, r"'zeros\.2', one more than the 2 of"),
        ("a.zip", small, r"'zeros\.1', with which .* bytes would become 200000"),
    ]:
        with pytest.raises(InputError, match=rf"{name}: refused the member {last}"):
            unpack(tmp_path / name, tmp_path / "out", Limits(**limits))
    for name in ("a.tgz", "a.zip"):
        refused = pytest.raises(InputError, match=r"'zeros\.[01]', with which .* archives\.ratio=50 allow")
        with patch.object(archives, "SMALL_BYTES", 10), refused:
            unpack(tmp_path / name, tmp_path / "out", Limits(ratio=50))
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "a.zip"]  # noqa: PTH208
    unpack(tmp_path / "a.tgz", tmp_path / "out", Limits(members=5, links=3, gigabytes=0.000_5))
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) == 500_000


@pytest.mark.parametrize("limits", [{"gigabytes": 0}, {"ratio": 0.5}, {"members": True}, {"links": -1}, {"links": 1.5}])
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"archives.{next(iter(limits))}="):
        Limits(**limits)


def test_a_bomb_of_a_few_megabytes(tmp_path: Path) -> None:
    """What `Limits` says by itself holds for a tar, a zip, and for what is read before a member is known."""
    zeros = bytes(1 << 20)
    with tarfile.open(tmp_path / "a.tgz", "w:gz", compresslevel=1) as packed:
        info = tarfile.TarInfo("zeros")
        info.size = 200 << 20
        packed.addfile(info, SimpleNamespace(read=lambda size: zeros[:size]))  # type: ignore[arg-type]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for number in range(200):
            zipped.writestr(f"{number}", zeros)
    with tarfile.open(tmp_path / "b.tgz", "w:gz", format=tarfile.GNU_FORMAT) as packed:
        packed.addfile(tarfile.TarInfo("a" * (2 << 20)))  # a header of that size, which is read at once
    with tarfile.open(tmp_path / "c.tgz", "w:gz", format=tarfile.PAX_FORMAT) as packed:
        info = tarfile.TarInfo("a")
        info.pax_headers["comment"] = "a" * (2 << 20)
        packed.addfile(info)
    for name, message in (("a.tgz", "refused"), ("a.zip", "refused"), ("b.tgz", "damaged"), ("c.tgz", "damaged")):
        assert (tmp_path / name).stat().st_size < 1_000_000
        with pytest.raises(InputError, match=rf"{name}.* {message}"):
            unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_to_links(tmp_path: Path) -> None:
    """A long chain costs no more than its members, and a circle is none."""
    chain = [member(f"l{number}", tarfile.SYMTYPE, f"l{number + 1}") for number in range(600)]
    deep = member("d/up", tarfile.SYMTYPE, "../l595")
    unpack(tar(tmp_path / "long.tar", deep, *chain, member("l600")), tmp_path / "long")
    assert set(tree(tmp_path / "long").values()) == {"l600"}
    assert len(tree(tmp_path / "long")) == 602
    hard = [member(f"h{number}", tarfile.LNKTYPE, f"h{number + 1}") for number in range(600)]
    unpack(tar(tmp_path / "hard.tar", *hard, member("h600")), tmp_path / "hard")
    assert set(tree(tmp_path / "hard").values()) == {"h600"}
    for number, end in enumerate(("l0", "l300", "l599", "../l0", "/l600", "l")):
        circle = [*chain[:-1], member("l599", tarfile.SYMTYPE, end), member("l600")]
        with pytest.raises(InputError, match=r"refused the member 'l\d+', a link to"):
            unpack(tar(tmp_path / f"{number}.tar", *circle), tmp_path / "circle")
    many = [*(member(f"{number}", tarfile.SYMTYPE, "l") for number in range(10_001)), member("l")]
    with pytest.raises(InputError, match=r"one more than the 10000 links"):
        unpack(tar(tmp_path / "many.tar", *many), tmp_path / "many")


def test_a_link_takes_and_gives_its_place(tmp_path: Path) -> None:
    """The last member of a name counts, and nothing is written through a link."""
    (tmp_path / "outside").mkdir()
    link = member("a", tarfile.SYMTYPE, "b")
    unpack(tar(tmp_path / "1.tar", member("b"), member("a"), link), tmp_path / "1")
    assert tree(tmp_path / "1") == {"a": "b", "b": "b"}
    unpack(tar(tmp_path / "2.tar", member("b"), link, member("a")), tmp_path / "2")
    assert tree(tmp_path / "2") == {"a": "a", "b": "b"}
    for target in (str(tmp_path / "outside"), "../outside", "b"):
        through = [member("a", tarfile.SYMTYPE, target), member("a/evil"), member("b", tarfile.DIRTYPE)]
        archive = tar(tmp_path / "3.tar", *through)
        with pytest.raises(InputError, match="refused the member 'a'"):
            unpack(archive, tmp_path / "3")
    assert not any((tmp_path / "outside").iterdir())


def test_a_header_that_is_none_amidst_a_tar(tmp_path: Path) -> None:
    """Python's tarfile takes it for the end."""
    path = tar(tmp_path / "a.tar", *(member(f"{number}.txt") for number in range(4)))
    content = bytearray(path.read_bytes())
    content[2 * 1024 : 2 * 1024 + 512] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.tar is damaged or no archive"):
        unpack(path, tmp_path / "out")


def test_a_disk_without_room_is_named_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar", member("1234567890"))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=9))
    with pytest.raises(InputError, match="'1234567890', for which the disk has no room: 9 bytes are free"):
        unpack(archive, tmp_path / "out")


def test_a_folder_on_another_disk(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other disk to unpack on")
    with tempfile.TemporaryDirectory(dir=other) as disk:
        (tmp_path / "out").symlink_to(disk)
        unpack(tar(tmp_path / "a.tar", member("top/a.txt"), member("b.txt")), tmp_path / "out")
        assert tree(tmp_path / "out") == {"top/a.txt": "top/a.txt", "b.txt": "b.txt"}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", *(member(f"{number}.txt") for number in range(3)))
    script = """
import os, signal, sys
from pathlib import Path
from w2v_abx.system import archives
archives._merge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
archives.unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    killed = subprocess.run([sys.executable, "-c", script, archive, tmp_path / "out"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.txt"))) == 3  # those left
    unpack(archive, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "out"]  # noqa: PTH208
    assert sorted(os.listdir(tmp_path / "out")) == ["0.txt", "1.txt", "2.txt"]  # noqa: PTH208


def test_several_unpack_into_one_folder(tmp_path: Path) -> None:
    fine = [tar(tmp_path / f"{number}.tar", member(f"{number}.txt")) for number in range(4)]
    bad = [tar(tmp_path / f"bad{number}.tar", member("../x")) for number in range(4)]

    def one(archive: Path) -> bool:
        try:
            unpack(archive, tmp_path / "deep" / "out")
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, [*bad, *fine])) == [False] * 4 + [True] * 4
    assert sorted(os.listdir(tmp_path / "deep" / "out")) == [f"{number}.txt" for number in range(4)]  # noqa: PTH208


def test_a_file_in_the_way_is_not_taken_for_a_missing_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotWritten, match="a.tar cannot be unpacked into .*file/out .Not a directory"):
        unpack(tar(tmp_path / "a.tar", member("b.txt")), tmp_path / "file" / "out")


def test_damage_amidst_a_tar_xz(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(200_000))
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "large", "large")
    content = bytearray((tmp_path / "a.tar.xz").read_bytes())
    content[100_000:150_000] = bytes(50_000)
    (tmp_path / "a.tar.xz").write_bytes(content)
    with pytest.raises(InputError, match="a.tar.xz is damaged or no archive"):
        unpack(tmp_path / "a.tar.xz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def scribble(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>" * 100)


@pytest.mark.parametrize("damage", [cut, scribble])
@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
def test_damage_leaves_nothing(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    path = tmp_path / name
    content = os.urandom(20_000)
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("fine", "fine")
            archive.writestr("large", content)
    else:
        (tmp_path / "large").write_bytes(content)
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "large", "large")
    damage(path)
    with pytest.raises(InputError, match=f"{name} is damaged or no archive"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a.tar does not exist"):
        unpack(tmp_path / "a.tar", tmp_path / "out")

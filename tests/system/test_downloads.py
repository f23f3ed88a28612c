"""Downloads against a real server on loopback that misbehaves."""

import base64
import hashlib
import os
import threading
from pathlib import Path

import pytest
from loopback import HALF, SILENCE, STALL, Answer, Loopback

from w2v_abx.errors import InputError
from w2v_abx.system.downloads import download

DATA = bytes(range(256)) * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.bin").write_bytes(DATA)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208


def test_what_broke_off_is_continued_and_checked(folder: Path) -> None:
    with Loopback(folder / "served") as server:
        server.answers["a.bin"] = [HALF, Answer(503, retry_after=0), STALL]
        sha256 = hashlib.sha256(DATA).hexdigest()
        path = download(server.url("a.bin"), folder / "out" / "a.bin", sha256=sha256, timeout=3)  # one answer stalls
        assert path.read_bytes() == DATA
        half, more = len(DATA) // 2, len(DATA) * 3 // 4
        asked = [request.range for request in server.requests]
        assert asked == [None, f"bytes={half}-", f"bytes={half}-", f"bytes={more}-"]
        download(server.url("a.bin"), path, sha256=sha256)
        assert server.count("a.bin") == 4  # a whole file is not asked for again
    assert names(folder / "out") == ["a.bin"]


def test_a_later_run_continues(folder: Path) -> None:
    path = folder / "out" / "a.bin"
    with Loopback(folder / "served") as server:
        server.always["a.bin"] = Answer(404)
        server.answers["a.bin"] = [HALF]
        with pytest.raises(InputError, match="a.bin cannot be fetched: the server answers 404"):
            download(server.url("a.bin"), path)
        assert not path.exists()
        server.always.clear()
        assert download(server.url("a.bin"), path).read_bytes() == DATA
        assert server.sent["a.bin"] == len(DATA)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_or_a_server_without_ranges_starts_anew(folder: Path, ranges: bool) -> None:
    path, served = folder / "out" / "a.bin", folder / "served" / "a.bin"
    with Loopback(folder / "served", ranges=ranges) as server:
        server.always["a.bin"] = Answer(404)
        server.answers["a.bin"] = [HALF]
        with pytest.raises(InputError):
            download(server.url("a.bin"), path)
        served.write_bytes(DATA[::-1] if ranges else DATA)
        server.always.clear()
        assert download(server.url("a.bin"), path).read_bytes() == served.read_bytes()


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with Loopback(folder / "served", ranges=False) as server:
        server.answers["a.bin"] = [Answer(share=0.2), HALF] * 20
        with pytest.raises(InputError, match=r"it broke off after .* \(tried 3 times\)"):
            download(server.url("a.bin"), folder / "out" / "a.bin", attempts=3)
        assert server.count("a.bin") == 5


def test_all_bytes_but_no_rename_fetches_nothing_again(folder: Path) -> None:
    path = folder / "out" / "a.bin"
    with Loopback(folder / "served") as server:
        server.always["a.bin"] = Answer(404)
        server.answers["a.bin"] = [HALF]
        with pytest.raises(InputError):
            download(server.url("a.bin"), path)
        (path.parent / ".a.bin.part").write_bytes(DATA)  # as when killed just before the rename
        server.always.clear()
        before = server.sent["a.bin"]
        assert download(server.url("a.bin"), path).read_bytes() == DATA
        assert server.sent["a.bin"] == before


def test_what_will_not_pass_is_not_tried_again(folder: Path) -> None:
    with Loopback(folder / "served") as server:
        with pytest.raises(InputError, match="404"):
            download(server.url("none.bin"), folder / "none.bin")
        assert server.count("none.bin") == 1
        server.always["a.bin"] = Answer(429, retry_after=7200)
        with pytest.raises(InputError, match="come back in 7200 s"):
            download(server.url("a.bin"), folder / "a.bin")
        server.always["a.bin"] = SILENCE
        with pytest.raises(InputError, match=r"nothing came for 0.2 s \(tried 1 times\)"):
            download(server.url("a.bin"), folder / "a.bin", timeout=0.2, attempts=1)
    with pytest.raises(InputError, match=r"no connection \(Connection refused\)"):
        download(server.url("a.bin"), folder / "a.bin", attempts=1)
    with pytest.raises(InputError, match="no http or https address"):
        download("file:///etc/passwd", folder / "b")


def test_wrong_content_is_thrown_away(folder: Path) -> None:
    with Loopback(folder / "served") as server:
        with pytest.raises(InputError, match="has the md5 .* where 00ff was published"):
            download(server.url("a.bin"), folder / "out" / "a.bin", md5="00FF")
        announced = base64.b64encode(hashlib.md5(b"else").digest()).decode()
        server.headers["a.bin"] = {"x-goog-hash": f"crc32c=AAAAAA==,md5={announced}"}
        with pytest.raises(InputError, match=f"where {hashlib.md5(b'else').hexdigest()} was published"):
            download(server.url("a.bin"), folder / "out" / "a.bin")
        assert names(folder / "out") == []
        (folder / "out" / "a.bin").write_bytes(b"mine")
        with pytest.raises(InputError, match="delete it to fetch it again"):
            download(server.url("a.bin"), folder / "out" / "a.bin", sha256="0" * 64)
        assert (folder / "out" / "a.bin").read_bytes() == b"mine"


def test_several_ask_and_one_fetches(folder: Path) -> None:
    with Loopback(folder / "served") as server:
        asking = [
            threading.Thread(target=download, args=(server.url("a.bin"), folder / "out" / "a.bin")) for _ in range(5)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert server.count("a.bin") == 1
    assert names(folder / "out") == ["a.bin"]

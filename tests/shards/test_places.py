"""Files from folders, servers and commands: whole, resumed where they broke off, or one clear sentence."""

import contextlib
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from loopback import HALF, SILENCE, STALL, Answer, Loopback

from w2v_abx.errors import InputError
from w2v_abx.shards import streams
from w2v_abx.shards.places import Place
from w2v_abx.system import web

CONTENT = bytes(range(256)) * 2000
SIZE = len(CONTENT)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(web, "FIRST_WAIT_SECONDS", 0.01)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.tar").write_bytes(CONTENT)
    return tmp_path / "files"


def commands(folder: Path) -> list[str]:
    return [str(folder), folder.as_uri(), f"pipe:cat {shlex.quote(str(folder))}/{{name}}"]


def test_every_kind_of_place_gives_the_same_bytes(folder: Path) -> None:
    with Loopback(folder) as server, Loopback(folder, ranges=False) as plain:
        for address in [*commands(folder), server.base, f"{server.base}/", plain.base]:
            place = Place(address)
            assert place.read("a.tar") == CONTENT
            reader = place.open("a.tar", SIZE)
            spans = [(0, 10), (10, 5000), (5010, 0), (300_000, 7), (200, 100), (SIZE - 3, 100), (0, SIZE)]
            for start, size in spans:
                assert reader.read(start, size) == CONTENT[start : start + size]
            reader.close()


def test_bytes_that_are_not_wanted_do_not_travel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000)
    with Loopback(folder) as server:
        reader = Place(server.base).open("a.tar", SIZE)
        for start in (400_000, 400_500, 450_000):
            assert reader.read(start, 500) == CONTENT[start : start + 500]
        reader.close()
        assert [request.range for request in server.requests] == ["bytes=400000-", "bytes=450000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_stream_goes_on_where_it_broke_off(folder: Path, ranges: bool) -> None:
    with Loopback(folder, ranges=ranges) as server:
        server.answers["a.tar"] = [HALF, Answer(share=0.1), Answer(429, retry_after=0), *([HALF] if ranges else [])]
        reader = Place(server.base).open("a.tar", SIZE)
        read = b"".join(reader.read(start, 1000) for start in range(0, SIZE, 1000))
        assert read == CONTENT
        assert server.count("a.tar") == (5 if ranges else 4)
        server.answers["a.tar"] = [HALF]
        assert Place(server.base).read("a.tar") == CONTENT


@pytest.mark.parametrize("answer", [STALL, SILENCE])
def test_a_server_that_falls_silent_is_asked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(streams, "MAX_SILENCE_SECONDS", 2.0)
    with Loopback(folder) as server:
        server.answers["a.tar"] = [answer]
        assert Place(server.base).open("a.tar", SIZE).read(0, SIZE) == CONTENT
        monkeypatch.setattr(streams, "MAX_SILENCE_SECONDS", 0.2)
        server.always["a.tar"] = SILENCE
        with pytest.raises(InputError, match=r"/a\.tar cannot be read: .* \(tried 4 times\); check the address"):
            Place(server.base).open("a.tar", SIZE).read(0, SIZE)


@pytest.mark.parametrize("status", [404, 403, 401])
def test_what_will_not_pass_is_said_at_once(folder: Path, status: int) -> None:
    with Loopback(folder) as server:
        server.always["a.tar"] = Answer(status)
        for read in (Place(server.base).read, lambda name: Place(server.base).open(name, SIZE).read(0, 10)):
            with pytest.raises(InputError, match=rf"http://127.*/a\.tar cannot be read: the server answers {status}"):
                read("a.tar")
        assert server.count("a.tar") == 2


def test_what_does_not_pass_after_all(folder: Path) -> None:
    with Loopback(folder) as server:
        server.always["a.tar"] = Answer(503)
        with pytest.raises(InputError, match=r"the server answers 503 .* \(tried 4 times\)"):
            Place(server.base).read("a.tar")
        server.always["a.tar"] = Answer(429, retry_after=3600)
        before = time.monotonic()
        with pytest.raises(InputError, match="the server answers 429"):
            Place(server.base).read("a.tar")
        assert time.monotonic() - before < 60
    with pytest.raises(InputError, match=r"a\.tar cannot be read: no connection \(Connection refused\)"):
        Place(server.base).read("a.tar")


def test_a_file_of_another_size_is_refused(folder: Path) -> None:
    with Loopback(folder) as server:
        message = rf"a\.tar has {SIZE} bytes where the manifest says {SIZE + 1}"
        for start in (0, 1000):
            with pytest.raises(InputError, match=message):
                Place(server.base).open("a.tar", SIZE + 1).read(start, 10)
    with pytest.raises(InputError, match=rf"ended with status 0 after {SIZE} of {SIZE + 1} bytes"):
        Place(commands(folder)[2]).open("a.tar", SIZE + 1).read(0, SIZE + 1)


def test_passwords_and_signatures_are_sent_and_not_shown(folder: Path) -> None:
    with Loopback(folder) as server:
        address = server.base.replace("http://", "http://me:secret%21@") + "?sig=hidden"
        assert Place(address).read("a.tar") == CONTENT
        with pytest.raises(InputError) as caught:
            Place(address).read("none.tar")
        assert "hidden" not in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_command_that_breaks_off_is_run_again(folder: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    script = tmp_path / "unsteady.sh"
    script.write_text(f'if [ -e {once} ]; then cat "$1"; else touch {once}; head -c 5000 "$1"; exit 3; fi\n')
    place = Place(f"pipe:sh {script} {folder}/{{name}}")
    reader = place.open("a.tar", SIZE)
    assert b"".join(reader.read(start, 1000) for start in range(0, SIZE, 1000)) == CONTENT
    once.unlink()
    assert place.read("a.tar") == CONTENT


def test_a_command_that_fails_is_named(folder: Path) -> None:
    place = Place("pipe:head -c 100 /dev/zero; false {name}")
    for read in (place.read, lambda name: place.open(name, SIZE).read(0, SIZE)):
        with pytest.raises(
            InputError, match=r"pipe:head … a\.tar cannot be read: the command ended with status 1 after"
        ):
            read("a.tar")
    with pytest.raises(
        InputError, match=r"no-such-program a\.tar .* cannot be read: the command ended with status 127 after 0 bytes"
    ):
        Place("pipe:no-such-program {name} 2>/dev/null").read("a.tar")


def test_a_command_that_never_ends_is_ended(folder: Path) -> None:
    reader = Place(f"pipe:exec {sys.executable} -c 'while True: print(\"{{name}}\", flush=True)'").open("a.tar", SIZE)
    assert reader.read(0, 12) == b"a.tar\na.tar\n"
    process = reader._file.proc  # type: ignore[attr-defined]
    reader.close()
    assert process.poll() is not None


class Blocks(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        if self.fs.faults:
            raise self.fs.faults.pop()
        return CONTENT[start:end]


class Unsteady(AbstractFileSystem):
    """A store of fsspec's with one file, which fails in as many ways as ``faults`` has before it is read."""

    protocol = "unsteady"
    faults: ClassVar[list[Exception]] = []

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self._strip_protocol(path).rpartition("@")[2] != "bucket/a folder/a.tar":
            raise FileNotFoundError(path)
        return {"name": path, "size": SIZE, "type": "file"}

    def _open(self, path: str, *arguments: Any, **options: Any) -> Blocks:
        return Blocks(self, path, block_size=100_000)


@pytest.fixture
def store(folder: Path) -> type[Unsteady]:
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    Unsteady.faults.clear()
    return Unsteady


def test_what_fsspec_opens_is_read_through_it(store: type[Unsteady]) -> None:
    place = Place("unsteady://bucket/a folder/")
    reader = place.open("a.tar", SIZE)
    for start, size in [(0, 10), (300_000, 7), (200, 100), (SIZE - 3, 100)]:
        assert reader.read(start, size) == CONTENT[start : start + size]
    reader.close()
    store.faults[:] = [OSError("reset"), TimeoutError(), RuntimeError("throttled")]
    assert place.read("a.tar") == CONTENT
    store.faults[:] = [RuntimeError("slow down")] * 3
    assert place.open("a.tar", SIZE).read(1000, 300_000) == CONTENT[1000:301_000]
    with pytest.raises(InputError, match=rf"a\.tar has {SIZE} bytes where the manifest says {SIZE + 1}"):
        place.open("a.tar", SIZE + 1).read(0, 1)


def test_what_fsspec_cannot_open_is_named(store: type[Unsteady]) -> None:
    with pytest.raises(InputError, match=r"unsteady://bucket/none\.tar cannot be read: FileNotFoundError"):
        Place("unsteady://bucket").read("none.tar")
    store.faults[:] = [RuntimeError("me:s%21x or s!x was refused")] * 4
    with pytest.raises(InputError, match=r"refused \(tried 4 times\); check the address") as caught:
        Place("unsteady://me:s%21x@bucket/a folder").read("a.tar")
    assert "s%21x" not in str(caught.value)
    assert "s!x" not in str(caught.value)


def test_a_package_that_is_not_here_is_named() -> None:
    with pytest.raises(InputError, match=r"s3://bucket needs another package: Install s3fs"):
        Place("s3://bucket")


def test_addresses_that_nothing_opens() -> None:
    with pytest.raises(InputError, match="nothing opens addresses that begin with nfs: "):
        Place("nfs://host/folder")
    with pytest.raises(InputError, match="write {name} where the command is to have the file's name"):
        Place("pipe:cat x")


def test_a_colon_in_a_path_makes_no_scheme(tmp_path: Path) -> None:
    (tmp_path / "runs:1").mkdir()
    (tmp_path / "runs:1" / "a.tar").write_bytes(b"a")
    place = Place(f"{tmp_path}/runs:1")
    assert place.read("a.tar") == b"a"
    assert Place("runs:1/shards").folder == Path("runs:1/shards")


class Other(BaseHTTPRequestHandler):
    """Answers with the headers that it got."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


class Sending(Other):
    """Sends on to another address."""

    to = ""

    def do_GET(self) -> None:
        if self.path.startswith("/here"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", self.to)
        self.end_headers()
        return None


class Dribbling(Other):
    """Gives little of the file each time, or, without an announced length, more than there may be."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        if "endless" not in self.path:
            self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if "endless" not in self.path else CONTENT)


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(web, "FIRST_WAIT_SECONDS", 0.01)


def test_a_password_is_for_one_server(direct: None) -> None:
    with serving(Other) as other, serving(Sending) as sending:
        place = Place(f"http://me:secret@{sending}/folder")
        Sending.to = f"http://{sending}/here"
        assert b"Authorization: Basic" in place.read("a.tar")
        Sending.to = f"http://{other}/a"
        got = place.read("a.tar")
        assert b"User-Agent" in got
        assert b"Authorization" not in got
        Sending.to = f"ftp://{other}/a"
        with pytest.raises(InputError, match="answers 302 and leads from http to ftp, where nothing is protected"):
            place.read("a.tar")


def test_next_to_nothing_is_nothing(folder: Path, direct: None) -> None:
    Dribbling.asked = 0
    with serving(Dribbling) as server, pytest.raises(InputError, match=r"broke off .* \(tried 4 times\)"):
        Place(f"http://{server}").open("a.tar", SIZE).read(0, SIZE)
    assert Dribbling.asked == 4
    # Nor is it when it is read in small parts.
    with Loopback(folder) as server:
        server.always["a.tar"] = Answer(share=0.005)
        reader = Place(server.base).open("a.tar", SIZE)
        with pytest.raises(InputError, match=r"\(tried 4 times\)"):
            b"".join(reader.read(start, 500) for start in range(0, SIZE, 500))
        assert server.count("a.tar") == 4


def test_a_file_of_unknown_size_has_bounds(direct: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_UNKNOWN_BYTES", SIZE - 1)
    for path in ("", "endless"):
        message = rf"a\.tar has more than the {SIZE - 1} bytes that such a file may have"
        with serving(Dribbling) as server, pytest.raises(InputError, match=message):
            Place(f"http://{server}/{path}").read("a.tar")

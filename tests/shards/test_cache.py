"""A cache of shards: each fetched once, checked, and gone only when nobody reads it."""

import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from loopback import HALF, Loopback

from w2v_abx.errors import InputError
from w2v_abx.shards.cache import Cache
from w2v_abx.shards.manifest import Shard
from w2v_abx.shards.places import Place
from w2v_abx.system import web
from w2v_abx.system.locks import alone

SIZE = 300_000


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Shard]:
    monkeypatch.setattr(web, "FIRST_WAIT_SECONDS", 0.01)
    (tmp_path / "far").mkdir()
    made = []
    for number in range(4):
        content = np.random.default_rng(number).bytes(SIZE)
        (tmp_path / "far" / f"{number}.tar").write_bytes(content)
        made.append(Shard(f"{number}.tar", "train", 1, 1, SIZE, hashlib.sha256(content).hexdigest()))
    return made


def held(folder: Path, shards: list[Shard]) -> list[int]:
    return [number for number, shard in enumerate(shards) if (folder / f"{shard.sha256}.tar").exists()]


def read_all(address: str, folder: Path, shards: list[Shard], gigabytes: float) -> None:
    """What a worker does, several times."""
    cache = Cache(folder, gigabytes)
    for shard in [*shards, *shards[::-1], *shards]:
        reader = cache.open(Place(address), shard)
        content = b"".join(reader.read(start, 1000) for start in range(0, SIZE, 1000))
        assert hashlib.sha256(content).hexdigest() == shard.sha256
        reader.close()


def test_a_shard_is_fetched_once(shards: list[Shard], tmp_path: Path) -> None:
    with Loopback(tmp_path / "far") as server:
        server.answers["0.tar"] = [HALF]
        read_all(server.base, tmp_path / "cache", shards, 1.0)
        assert [server.count(shard.name) for shard in shards] == [2, 1, 1, 1]
    assert not list((tmp_path / "cache").glob(".*.partial"))


def test_processes_share_it(shards: list[Shard], tmp_path: Path) -> None:
    with Loopback(tmp_path / "far") as server:
        workers = [
            multiprocessing.get_context("fork").Process(
                target=read_all, args=(server.base, tmp_path / "cache", shards, 1.0)
            )
            for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert [server.count(shard.name) for shard in shards] == [1, 1, 1, 1]


def test_processes_share_one_that_is_too_small(shards: list[Shard], tmp_path: Path) -> None:
    with Loopback(tmp_path / "far") as server:
        workers = [
            multiprocessing.get_context("fork").Process(
                target=read_all, args=(server.base, tmp_path / "cache", shards, 1.5 * SIZE / 1e9)
            )
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0]
    assert 1 <= len(held(tmp_path / "cache", shards)) <= 2


def test_the_least_recently_used_goes_first(shards: list[Shard], tmp_path: Path) -> None:
    cache, place = Cache(tmp_path / "cache", 3 * SIZE / 1e9), Place(str(tmp_path / "far"))
    for age, number in enumerate([0, 1, 2]):
        cache.open(place, shards[number]).close()
        os.utime(cache.folder / f"{shards[number].sha256}.tar", (age, age))
    cache.open(place, shards[0]).close()
    cache.open(place, shards[3]).close()
    assert held(cache.folder, shards) == [0, 2, 3]


def test_what_is_being_read_stays(shards: list[Shard], tmp_path: Path) -> None:
    cache, place = Cache(tmp_path / "cache", SIZE / 1e9), Place(str(tmp_path / "far"))
    reader = cache.open(place, shards[0])
    cache.open(place, shards[1]).close()
    cache.open(place, shards[2]).close()
    assert held(cache.folder, shards) == [0, 2]
    reader.close()
    cache.open(place, shards[3]).close()
    assert held(cache.folder, shards) == [3]


def test_what_is_not_the_manifests_is_refused(shards: list[Shard], tmp_path: Path) -> None:
    (tmp_path / "far" / "1.tar").write_bytes(bytes(SIZE))
    cache = Cache(tmp_path / "cache", 1.0)
    with pytest.raises(InputError, match=r"1\.tar is not the one that the manifest names \(its SHA-256 differs\)"):
        cache.open(Place(str(tmp_path / "far")), shards[1])
    assert not list(cache.folder.glob("*.tar"))
    assert not list(cache.folder.glob("*.partial"))


def test_a_cut_file_in_the_cache_is_fetched_anew(shards: list[Shard], tmp_path: Path) -> None:
    cache, place = Cache(tmp_path / "cache", 1.0), Place(str(tmp_path / "far"))
    cache.open(place, shards[0]).close()
    path = cache.folder / f"{shards[0].sha256}.tar"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(cache.open(place, shards[0]).read(0, SIZE)) == SIZE


def test_a_cache_that_cannot_be_written_is_named(shards: list[Shard], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data\.cache=.*file/cache cannot hold .*0\.tar"):
        Cache(tmp_path / "file" / "cache", 1.0).open(Place(str(tmp_path / "far")), shards[0])


def test_what_another_process_removes_meanwhile_is_fetched(
    shards: list[Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, place = Cache(tmp_path / "cache", 1.0), Place(str(tmp_path / "far"))
    cache.open(place, shards[0]).close()
    path = cache.folder / f"{shards[0].sha256}.tar"
    look = Path.stat

    def looked(self: Path, **options: bool) -> os.stat_result:
        status = look(self, **options)
        if self == path:
            path.unlink()
        return status

    monkeypatch.setattr(Path, "stat", looked)
    assert len(cache.open(place, shards[0]).read(0, SIZE)) == SIZE


def test_room_is_made_before_a_shard_comes(shards: list[Shard], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 2 * SIZE / 1e9)
    for shard in shards[:2]:
        cache.open(Place(str(tmp_path / "far")), shard).close()
    stale = cache.folder / ".gone.partial"
    stale.write_bytes(bytes(10))
    (tmp_path / "far" / "2.tar").unlink()
    with pytest.raises(InputError, match=r"2\.tar is missing"):
        cache.open(Place(str(tmp_path / "far")), shards[2])
    busy = cache.folder / ".busy.partial"
    with alone(cache.folder / ".busy.lock"):  # of another process
        busy.write_bytes(bytes(SIZE))
        (tmp_path / "far" / "3.tar").rename(tmp_path / "far" / "3")
        source = Place(f"pipe:ls -A {cache.folder} > {tmp_path}/seen; cat {tmp_path}/far/3; : {{name}}")
        cache.open(source, shards[3]).close()
    seen = [name for name in (tmp_path / "seen").read_text().split() if name.endswith((".tar", ".partial"))]
    assert sorted(seen) == sorted([".busy.partial", f".{shards[3].sha256}.partial"])
    assert not stale.exists()


def test_a_manifest_from_elsewhere_opens_nothing_outside(shards: list[Shard], tmp_path: Path) -> None:
    """Its SHA-256 names the file in the cache."""
    (tmp_path / "victim.tar").write_bytes(bytes(SIZE))
    for sha256 in ("../victim", str(tmp_path / "victim"), "victim"):
        with pytest.raises(ValueError, match="not a SHA-256"):
            Shard("0.tar", "train", 1, 1, SIZE, sha256)
    assert not (tmp_path / "cache").exists()

"""The folder of stores by content: what makes room for what, and what is never removed."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from w2v_abx.errors import InputError
from w2v_abx.features.cache import FeatureCache
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter

ROWS = 1000
BYTES = ROWS * 10 * 4


def identity(name: str) -> StoreIdentity:
    return StoreIdentity(name, "32-true", 50.0, 10, "float32", (0,), "clips")


def write(writer: StoreWriter) -> None:
    writer.add(["clip"], [torch.ones(1, ROWS, 10)], torch.tensor([ROWS]))


def opened(cache: FeatureCache, name: str) -> FeatureStore:
    return cache.store(identity(name), BYTES, write)


@pytest.fixture
def two(tmp_path: Path) -> FeatureCache:
    """A cache with room for two stores."""
    return FeatureCache(tmp_path / "features", 2.5 * BYTES / 10**9)


def test_a_store_in_use_makes_no_room(two: FeatureCache) -> None:
    stores = [opened(two, name) for name in "ab"]
    with pytest.raises(InputError, match=r"^features.gigabytes=0.0001, and with those that are in use"):
        opened(two, "c")
    assert [store.layer(0).array.shape for store in stores] == [(ROWS, 10)] * 2
    del stores[0]
    assert opened(two, "c").layer(0).array.shape == stores[0].layer(0).array.shape == (ROWS, 10)
    assert sum(path.is_dir() for path in two.folder.iterdir()) == 2


def test_a_store_that_another_process_uses_makes_no_room(two: FeatureCache) -> None:
    oldest = opened(two, "a").folder
    opened(two, "b")
    code = (
        f"import fcntl; f = open({str(oldest / 'store.json')!r}); fcntl.flock(f, fcntl.LOCK_SH); print(1, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code + "; input()"], stdin=-1, stdout=-1) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        opened(two, "c")
        assert oldest.is_dir()
        reader.communicate(b"\n")
    opened(two, "d")
    assert not oldest.exists()


def test_an_unfinished_store_makes_room_unless_it_is_written(two: FeatureCache) -> None:
    def stopped(writer: StoreWriter) -> None:
        write(writer)
        kept = opened(two, "b").folder
        opened(two, "c")  # in place of b: a is being written
        assert not kept.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two.store(identity("a"), BYTES, stopped)
    assert list(two.folder.glob(".*.partial"))
    stores = [opened(two, "d"), opened(two, "e")]
    assert not list(two.folder.glob(".*.partial"))
    assert len(stores) == 2


def test_a_full_disk_is_no_fault_of_stores_that_are_there(two: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(two, "a")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=BYTES - 1))
    assert opened(two, "a").keys == ["clip"]
    with pytest.raises(InputError, match="features has no room: make room, or choose another paths.data"):
        opened(two, "b")

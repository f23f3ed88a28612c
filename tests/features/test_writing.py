"""Stores are written in any order, whole or not at all, and by processes that are killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from w2v_abx.errors import InputError
from w2v_abx.features import writing
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter

KEYS = [f"clip{number}" for number in range(8)]
NUMBERS = {key: number for number, key in enumerate(KEYS)}
IDENTITY = StoreIdentity("e", "32-true", 50.0, 3, "float32", (0, 1), "c")


def frames(key: str, layer: int) -> torch.Tensor:
    """The features of a clip: of another length each, some without a frame."""
    number = NUMBERS[key]
    return torch.arange(3.0 * (number % 4)).reshape(-1, 3) + 100 * number + 1000 * layer


def write(writer: StoreWriter, keys: list[str]) -> None:
    for key in keys:
        hidden = [torch.nn.functional.pad(frames(key, layer), (0, 0, 0, 2), value=-1.0)[None] for layer in (0, 1)]
        writer.add([key], hidden, torch.tensor([len(frames(key, 0))]))


def assert_whole(store: FeatureStore) -> None:
    assert sorted(store.keys) == KEYS
    for layer in (0, 1):
        assert all(store.clip(layer, key).equal(frames(key, layer)) for key in KEYS)


def in_a_process_that_is_killed(work: Callable[[], None]) -> None:
    """Do ``work`` in a fork of this process, which must be killed by it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("where", ["while adding", "frames", "half a frame", "half a line", "header"])
def test_a_killed_process_is_gone_on_with(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FLUSH_BYTES", 0)  # each clip is in the journal before the next

    def work() -> None:
        with StoreWriter(tmp_path / "store", IDENTITY) as writer:
            if where == "header":
                write(writer, KEYS)
                writer._header = lambda total: die()  # type: ignore[assignment, method-assign, return-value]
                writer.finish()
            write(writer, KEYS[3::-1])
            if where == "frames":  # on the disk, and not in the journal
                writer.flush = die  # type: ignore[method-assign]
                write(writer, KEYS[5:6])
            if where == "half a frame":
                writer._files[0].write(b"12345")
                writer._files[0].flush()
            if where == "half a line":
                for file in writer._files:
                    file.write(bytes(12))
                    file.flush()
                writer._journal.write(b'["clip4", 1')
                writer._journal.flush()
            die()

    in_a_process_that_is_killed(work)
    assert not (tmp_path / "store").exists()
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        assert list(writer.frames) == (KEYS if where == "header" else KEYS[3::-1])
        write(writer, [key for key in KEYS if key not in writer.frames])
        assert_whole(writer.finish())
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_no_more_of_the_journal_is_trusted_than_all_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FLUSH_BYTES", 0)
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        write(writer, KEYS[:4])
    path = writer.partial / "layer_01.npy"
    path.write_bytes(path.read_bytes()[:-13])  # more than the last frame
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        assert list(writer.frames) == KEYS[:3]
        write(writer, KEYS[:2:-1])
        assert_whole(writer.finish())


def test_what_was_begun_for_another_store_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="bad"), StoreWriter(tmp_path / "store", IDENTITY) as writer:
        write(writer, [*KEYS[:4], "bad"])  # an error, after which what is there stays
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        assert list(writer.frames) == KEYS[:4]
    other = StoreIdentity("other", "32-true", 50.0, 3, "float32", (0, 1), "c")
    with StoreWriter(tmp_path / "store", other) as writer:
        assert not writer.frames
        write(writer, KEYS)
        writer.finish()
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        write(writer, KEYS)
        assert FeatureStore(tmp_path / "store").identity == other  # until the new one is whole
        assert writer.finish().identity == IDENTITY


@pytest.mark.parametrize("missing", ["store.json", "journal.jsonl", "layer_00.npy"])
def test_a_folder_in_which_something_is_missing_is_begun_anew(missing: str, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        write(writer, KEYS[:4])
        writer.flush()
    (writer.partial / missing).unlink()
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        assert not writer.frames
        write(writer, KEYS)
        assert_whole(writer.finish())


def test_two_do_not_write_one_store(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".store.lock"),
        pytest.raises(InputError, match="another process writes .*store"),
        StoreWriter(tmp_path / "store", IDENTITY),
    ):
        pass


def test_a_folder_that_is_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.txt").touch()
    with pytest.raises(InputError, match="is no feature store"), StoreWriter(tmp_path / "store", IDENTITY):
        pass
    assert (tmp_path / "store" / "mine.txt").exists()


def test_what_does_not_fit_float16_is_named(tmp_path: Path) -> None:
    half = StoreIdentity("e", "32-true", 50.0, 3, "float16", (0, 1), "c")
    values = torch.zeros(2, 4, 3)
    values[1, 0, 0], values[0, 1, 2] = 70_000.0, torch.inf
    with StoreWriter(tmp_path / "store", half) as writer:
        with pytest.raises(InputError, match=r"features\.dtype=float16 cannot hold layer 1 of 'b'"):
            writer.add(["a", "b"], [torch.zeros(2, 4, 3), values], torch.tensor([3, 2]))
        assert not writer.frames
        writer.add(["a"], [values[:1], values[:1]], torch.tensor([3]))  # infinite before: the scorer names it
        assert writer.finish().clip(0, "a").dtype == torch.float16


def test_a_clip_is_written_once(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", IDENTITY) as writer:
        write(writer, KEYS[:1])
        for keys in (KEYS[:1], KEYS[1:2] * 2):
            with pytest.raises(ValueError, match="written twice"):
                writer.add(keys, [torch.zeros(len(keys), 1, 3)] * 2, torch.ones(len(keys), dtype=torch.int64))

"""The same batches from a folder, a server, a command and a cache, whatever goes wrong on the way."""

import multiprocessing
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import contents, fit, fit_until_killed, same
from loopback import HALF, SILENCE, Answer, Loopback

from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.system import prefetch, web


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_WAIT_SECONDS", 0.01)


def modes(root: Path) -> list[dict[str, Any]]:
    mix = {"speech": {"folder": str(root / "speech"), "weight": 0.3}}
    return [{"mix": mix, "crop_seconds": 0.1}, {"balance": "labels"}, {"batch_seconds": 1.5}, {}]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_address_gives_the_batches_of_its_folder(root: Path, tmp_path: Path, workers: int) -> None:
    with Loopback(root) as server:
        for number, mode in enumerate(modes(root) if not workers else modes(root)[:1]):
            settings = {"batch_size": 4, "num_workers": workers} | mode
            here = contents(ShardDataModule(root / "sounds", **settings).train_dataloader())
            for address, more in (
                (server.url("sounds"), {}),
                (f"pipe:cat {shlex.quote(str(root))}/sounds/{{name}}", {}),
                (server.url("sounds"), {"cache": tmp_path / f"cache{number}", "cache_gigabytes": 1e-5}),
            ):
                far = contents(ShardDataModule(address, **settings, **more).train_dataloader())
                assert len(far) == len(here)
                assert all(map(same, far, here))


def test_a_stream_that_breaks_off_gives_each_clip_once(root: Path) -> None:
    here = contents(ShardDataModule(root / "sounds", batch_size=4).train_dataloader())
    with Loopback(root) as server:
        names = [path.name for path in (root / "sounds").iterdir()]
        for name in names:
            server.answers[f"sounds/{name}"] = [HALF, Answer(503), Answer(share=0.3)]
        far = contents(ShardDataModule(server.url("sounds"), batch_size=4).train_dataloader())
    assert len(far) == len(here)
    assert all(map(same, far, here))


def test_a_cache_fetches_each_shard_once(root: Path, tmp_path: Path) -> None:
    with Loopback(root) as server:
        data = ShardDataModule(server.url("sounds"), batch_size=4, num_workers=2, cache=tmp_path / "cache")
        loader = data.train_dataloader()
        first = contents(loader)
        loader.epoch = 1  # type: ignore[attr-defined]
        contents(loader)
        shards = [shard.name for shard in data.manifest.of("train")]
        assert [server.count(f"sounds/{name}") for name in shards] == [1] * len(shards)
    # The server is gone, but for the manifest and the index nothing more is asked of it.
    loader.epoch = 0  # type: ignore[attr-defined]
    assert all(map(same, contents(loader), first))


def test_a_run_that_is_to_stop_does_not_wait_for_a_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "POLL_SECONDS", 0.01)
    with Loopback(root) as server:
        server.always |= dict.fromkeys((f"sounds/train-00000{number}.tar" for number in range(9)), SILENCE)
        data = ShardDataModule(server.url("sounds"), batch_size=4, num_workers=1)
        data.should_stop = lambda: True
        with pytest.raises(InputError, match="clips were waited for and had not come"):
            next(iter(data.train_dataloader()))


def test_what_an_address_lacks_is_named(root: Path, tmp_path: Path) -> None:
    with Loopback(root) as server:
        with pytest.raises(InputError, match=r"/none/manifest\.json cannot be read: the server answers 404"):
            ShardDataModule(server.url("none"))
        for name in ("index.parquet", "train-000001.tar"):
            server.always[f"sounds/{name}"] = Answer(404)
            for workers in (0, 1):
                data = ShardDataModule(server.url("sounds"), batch_size=4, num_workers=workers)
                with pytest.raises(InputError, match=rf"{name} cannot be read: the server answers 404") as caught:
                    list(data.train_dataloader())
                assert "\n" not in str(caught.value)
            del server.always[f"sounds/{name}"]
    (tmp_path / "manifest.json").write_text("{}")
    with Loopback(tmp_path) as server, pytest.raises(InputError, match=r"http://127.*manifest\.json cannot be read"):
        ShardDataModule(server.base)


def test_names_that_a_manifest_must_not_hold(root: Path, tmp_path: Path) -> None:
    text = (root / "sounds" / "manifest.json").read_text()
    (tmp_path / "index.parquet").write_bytes((root / "sounds" / "index.parquet").read_bytes())
    for name in ("x;touch pwned;.tar", "$(touch pwned).tar", "-x.tar"):
        (tmp_path / "manifest.json").write_text(text.replace("train-000000.tar", name))
        with pytest.raises(InputError, match="not a plain file's name"):
            ShardDataModule(f"pipe:cd {tmp_path} && cat {{name}}", batch_size=4)
    assert not (tmp_path / "pwned").exists()


def test_a_run_killed_at_once_goes_on_to_the_same_end(root: Path, tmp_path: Path) -> None:
    mix = {"speech": {"folder": str(root / "speech"), "weight": 0.3}}
    settings = {"folder": root / "sounds", "batch_size": 4, "crop_seconds": 0.1, "balance": "labels", "mix": mix}
    whole = fit(tmp_path / "whole", **settings)

    # Spawned: torch's threads do not survive a fork.
    process = multiprocessing.get_context("spawn").Process(
        target=fit_until_killed, args=(tmp_path / "killed", settings)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = fit(tmp_path / "resumed", tmp_path / "killed" / "step=5.ckpt", **settings)
    assert resumed.seen == whole.seen[5:]
    assert torch.equal(resumed.weight, whole.weight)

"""Passwords of addresses are in nothing that a run leaves, and the run can be gone on with."""

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from noises import noises
from small import ARCHITECTURE

from w2v_abx import audio
from w2v_abx.models.encoder import Encoder

Command = Callable[..., str]

SECRET = "Opensesame"
USER = b64encode(f"ali:{SECRET}".encode()).decode()


class Guarded(SimpleHTTPRequestHandler):
    """Gives the files of a folder to who has the password and the token."""

    def do_GET(self) -> None:
        token = parse_qs(urlsplit(self.path).query).get("token")
        if self.headers.get("Authorization") != f"Basic {USER}" or token != [SECRET]:
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}/shards"
    server.shutdown()
    server.server_close()


def holding(folder: Path) -> list[str]:
    """The files below a folder that hold the secret, in clear or as it is sent."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    return [
        str(path.relative_to(folder))
        for path in files
        if any(word.encode() in path.read_bytes() for word in (SECRET, USER))
    ]


def test_a_run_on_shards_behind_a_password(
    run: Command, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        samples = (0.1 * rng.standard_normal(4_000)).astype(np.float32)
        audio.save(tmp_path / "sounds" / ("frog", "rain")[number % 2] / f"{number}.wav", samples)
    noises(tmp_path / "speech").items.write(tmp_path / "speech" / "test.item")
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    corpus = ("corpus=folder", "corpus.name=sounds", "corpus.root=sounds", "prepare.folder=shards")
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = [
        "train", *corpus, "abx=item_file", "abx.items=speech/test.item", "abx.root=speech/audio", "model=local",
        "model.source=model", "thermal=off", "data.batch_size=4", "data.crop_seconds=0.2", "baselines=[]",
        "resume=auto", "hydra.run.dir=out",
    ]  # fmt: skip
    folder = f"data.folder='http://ali:{SECRET}@{address}?token={SECRET}'"
    said = run(*arguments, folder, "trainer.max_steps=1", "trainer.max_epochs=1")
    assert holding(tmp_path / "out") == []
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))
    command = json.loads((tmp_path / "out" / "run.json").read_text())["command"]
    assert f"data.folder='http://{address}?token=…'" in command.replace("'\"'\"'", "'")
    assert f"http://{address}?token=…" in (tmp_path / "out" / "config.yaml").read_text()
    facts = tmp_path / "out" / "run.json"
    facts.write_text(facts.read_text().replace('"state": "finished"', '"state": "interrupted"'))
    (tmp_path / "out" / "phases.json").unlink()  # as though it had been stopped
    said += run(*arguments, folder, "trainer.max_steps=2", "trainer.max_epochs=2")  # with the credentials again
    assert json.loads(facts.read_text())["state"] == "finished"
    with pytest.raises(SystemExit):
        run(*arguments, folder.replace(f"={SECRET}", "=other"), "hydra.run.dir=other")
    output = capfd.readouterr()
    assert f"http://{address}/manifest.json?token=… cannot be read: the server answers 401" in output.err
    assert SECRET not in said + output.out + output.err
    assert holding(tmp_path / "out") == []
    assert holding(tmp_path / "other") == []


@pytest.mark.parametrize(
    "note",
    [
        f"http://ali:{SECRET}@host/x",
        f"s3://KEY:{SECRET}@bucket/x",
        f"https://host/x?X-Amz-Signature={SECRET}",
        f"pipe:curl -u ali:{SECRET} http://host/\\{{name\\}}",
        f"pipe:PASSWORD={SECRET} get \\{{name\\}}",
        f"{{a: {{folder: 'pipe:sshpass -p {SECRET} ssh host cat'}}}}",
        f"{{password: {SECRET}}}",
    ],
)
@pytest.mark.parametrize("mode", ["--run", "--multirun"])
def test_what_is_asked_is_kept_without_them(
    run: Command, pond: Path, tmp_path: Path, note: str, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    quoted = note if note.startswith("{") else f"'{note}'"
    name = "secrets" if "password" in note else "note"
    where = "hydra.run.dir=out" if mode == "--run" else "hydra.sweep.dir=out"
    said = run(
        "prepare", mode, f"+{name}={quoted}", "corpus=pond", f"hydra.searchpath=[file://{pond}]", where,
        "prepare.folder=shards",
    )  # fmt: skip
    assert holding(tmp_path / "out") == []
    assert (tmp_path / "out" / "hydra" / "overrides.yaml").is_file() or (tmp_path / "out" / "multirun.yaml").is_file()
    assert SECRET not in said + capfd.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        f"data.folder=http://ali:{SECRET}@127.0.0.1:9/x",
        f"data.folder='nothing://ali:{SECRET}@host/x?a={SECRET}'",
        f"data.folder='pipe:curl -u ali:{SECRET} host'",
        f"data.folder=http://ali:{SECRET}@host/x?a=[",
        f"data.folder=pipe:curl -u ali:{SECRET} [",
        f"nothing.of.the.kind=http://ali:{SECRET}@host/x",
        f"model.train=http://ali:{SECRET}@host/x",
        f"corpus.root=http://ali:{SECRET}@host/x",
    ],
)
def test_messages_are_without_them(
    run: Command, wrong: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("w2v_abx.system.web.FIRST_WAIT_SECONDS", 0.01)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    with pytest.raises(SystemExit):
        run(
            "train", "corpus=soundscape", "corpus.n_train=8", "corpus.n_valid=4", "thermal=off", "logger=csv", wrong,
            "hydra.run.dir=kept/out", "abx=item_file", "abx.items=none", "abx.root=none",
        )  # fmt: skip
    output = capfd.readouterr()
    assert output.err.startswith("w2v-abx: ") or "w2v-abx: " in output.err
    assert SECRET not in output.out + output.err
    assert holding(tmp_path / "kept") == []

"""What is secret in an address or a command is neither shown nor stored."""

import pickle
from typing import Any

import pytest

from w2v_abx.credentials import public, without_credentials
from w2v_abx.errors import InputError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:SECRET@host/x", "http://host/x"),
        ("HTTPS://user:SECRET@Host:8080/x", "HTTPS://Host:8080/x"),
        ("http://SECRET@host/x", "http://host/x"),
        ("http://user:SE@CRET@host/x", "http://host/x"),
        ("http://user:SE%40CRET@[::1]:80/x", "http://[::1]:80/x"),
        ("http://user:SE#CRET@host/x", "http://host/x"),
        ("http://user:SE?CRET@host/x", "http://host/x"),
        ("s3://AKIA:SEC/RET+x=@bucket/a", "s3://bucket/a"),
        ("ftp://user:SE'CR\"ET@host/a: 'x'", "ftp://host/a: 'x'"),
        ("git+ssh://SECRET@host/r", "git+ssh://host/r"),
        ("https://host/x?token=SECRET", "https://host/x?token=…"),
        (
            "https://host/x?a=SECRET&X-Amz-Signature=SECRET;b=SECRET#SECRET",
            "https://host/x?a=…&X-Amz-Signature=…;b=…#…",
        ),
        ("https://host/x?SECRET", "https://host/x?…"),
        ("'http://u:SECRET@h/a' and http://v:SECRET@h/b, too", "'http://h/a' and http://h/b, too"),
        ("Authorization: Bearer SECRET", "Authorization: Bearer …"),
        ("password=SECRET {token:SECRET} x.api_key='SECRET 2'", "password=… {token:…} x.api_key=…"),
        ("#0 : data.folder=pipe:curl -u u:SECRET {name} seed=0", "#0 : data.folder=pipe:curl … {name} …"),
        ("at 'data.folder=pipe:curl -u u:SECRET {name}'", "at 'data.folder=pipe:curl … {name}'"),
        # and what is none
        ("written without this job's TOKEN: refused; export TOKEN=$(openssl rand -hex 16)",) * 2,
        ("http://host:8080/@user/x", "http://host:8080/@user/x"),
        ("hf://datasets/user/repo@main/x", "hf://datasets/user/repo@main/x"),
        ("http://[::1]:80/x@y", "http://[::1]:80/x@y"),
        ("abx.root=/data/a@b: no such folder", "abx.root=/data/a@b: no such folder"),
        ("pipe:cat a.tar cannot be read: it broke off", "pipe:cat a.tar cannot be read: it broke off"),
    ],
)
def test_messages(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown
    assert str(InputError(text)) == shown
    assert str(pickle.loads(pickle.dumps(InputError(text)))) == shown


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("pipe:ssh host cat folder/{name}", "pipe:ssh … folder/{name}"),
        ("pipe:curl -u user:SECRET http://host/{name}", "pipe:curl … http://host/{name}"),
        ("pipe:curl -s 'https://u:SECRET@h/{name}?sig=SECRET' | cat", "pipe:curl … https://h/{name}?sig=… …"),
        ("pipe:TOKEN=SECRET curl -H 'Authorization: Bearer SECRET' h/{name}", "pipe:… curl … h/{name}"),
        ("data.folder=pipe:sshpass -p SECRET ssh h cat {name}", "data.folder=pipe:sshpass … {name}"),
        ("data.mix={a: {folder: 'pipe:x SECRET {name}'}}", "data.mix={a: {folder: 'pipe:x … …{name}"),
        ("pipe:curl --data=SECRET&f={name}", "pipe:curl …{name}"),
        ("pipe:'SECRET {name}", "pipe:… {name}"),
        ("PIPE:cat {name}", "PIPE:cat {name}"),
        ("+secrets={password: SECRET, user: u}", "+secrets={password: …, user: u}"),
        ("corpus.fetching.yt_dlp.password='SECRET 2'", "corpus.fetching.yt_dlp.password=…"),
        ("x.api_key=SECRET", "x.api_key=…"),
        ("objective.heads.token=frames", "objective.heads.token=…"),
        ("abx.tokens=[a,b]", "abx.tokens=[a,b]"),
        ("", ""),
    ],
)
def test_commands(command: str, shown: str) -> None:
    assert "SECRET" not in shown
    assert public(command) == shown
    assert public(shown) == shown


def test_settings() -> None:
    settings: dict[str, Any] = {
        "folder": "http://u:SECRET@h/x",
        "mix": {"a": {"folder": "pipe:x SECRET {name}", "weight": 0.5}},
        "urls": ["https://h/x?sig=SECRET", 3, None],
        "yt_dlp": {"username": "u", "password": "SECRET"},
        "http_headers": {"Authorization": "Bearer SECRET", "Cookie": "SECRET", "X-Api-Key": "SECRET", "Accept": "*"},
        "api_key": "SECRET",
        "pad_token_id": 3,
        "token": None,
    }
    assert public(settings) == {
        "folder": "http://h/x",
        "mix": {"a": {"folder": "pipe:x … {name}", "weight": 0.5}},
        "urls": ["https://h/x?sig=…", 3, None],
        "yt_dlp": {"username": "u", "password": "…"},
        "http_headers": {"Authorization": "…", "Cookie": "…", "X-Api-Key": "…", "Accept": "*"},
        "api_key": "…",
        "pad_token_id": 3,
        "token": None,
    }

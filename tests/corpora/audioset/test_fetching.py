"""Clips fetched through yt-dlp's generic extractor from a server on loopback that misbehaves."""

import errno
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audioset_lists import DOG, RAIN, Row, corpus, noise, video
from loopback import HALF, SILENCE, Answer, Loopback

from w2v_abx import audio
from w2v_abx.clips import Failure
from w2v_abx.corpora.audioset import AudioSet, Choice, Fetching, youtube
from w2v_abx.corpora.audioset.source import STATUSES, classify
from w2v_abx.errors import InputError

COUNT = 5


def rows(count: int = COUNT, start: float = 2.0) -> list[Row]:
    return [(video(number), start, start + 2.0, [DOG, RAIN][: 1 + number % 2]) for number in range(count)]


def key(number: int) -> str:
    return f"{video(number)}_2000"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Loopback]:
    folder = tmp_path / "site"
    folder.mkdir()
    for number in range(COUNT):
        noise(folder / f"{video(number)}.wav", number)
    with Loopback(folder) as running:
        yield running


def build(tmp_path: Path, server: Loopback, count: int = COUNT, **settings: Any) -> AudioSet:
    return corpus(tmp_path, rows(count), **{"url": f"{server.base}/{{id}}.wav"} | settings)


def ledger(made: AudioSet) -> dict[str, tuple[str, str, int]]:
    with sqlite3.connect(made.ledger_file) as connection:
        found = connection.execute("SELECT key, fate, source, attempts FROM clips").fetchall()
    connection.close()
    return {name: (status, source, attempts) for name, status, source, attempts in found}


def bring(made: AudioSet) -> dict[str, str]:
    """The reasons of what could not be fetched."""
    return {name: failure.reason for name, failure in made.fetch(made.clips()).items()}


def test_clips_are_the_very_samples_of_the_recording(tmp_path: Path, server: Loopback) -> None:
    made = build(tmp_path, server)
    assert bring(made) == {}
    for number, clip in enumerate(made.clips()):
        whole = server.folder / f"{video(number)}.wav"
        np.testing.assert_allclose(audio.load(clip.path), audio.load(whole, 2.0, 4.0), atol=2e-5)
    assert ledger(made) == {key(number): ("ok", "youtube", 1) for number in range(COUNT)}
    requests = len(server.requests)
    assert bring(build(tmp_path, server)) == {}
    assert len(server.requests) == requests
    assert not list((made.root / "unfinished").iterdir())


def test_a_server_that_knows_no_ranges_gives_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    samples = noise(tmp_path / "site" / f"{video(0)}.wav", 0)
    with Loopback(tmp_path / "site", ranges=False) as server:
        made = build(tmp_path, server, 1)
        assert bring(made) == {}
    np.testing.assert_allclose(audio.load(made.clips()[0].path), samples[32_000:64_000], atol=4e-5)


def test_each_status_has_its_row(tmp_path: Path, server: Loopback) -> None:
    name = [f"{video(number)}.wav" for number in range(COUNT)]
    server.always[name[0]] = Answer(451)
    (server.folder / name[1]).unlink()
    noise(server.folder / name[2], 2, seconds=2.5)  # ends in the midst of the segment
    audio.save(server.folder / "x.wav", np.random.default_rng(0).normal(0, 0.1, 96_000))
    content = bytearray((server.folder / "x.wav").read_bytes())
    content[44:] = bytes(len(content) - 44)
    (server.folder / name[3]).write_bytes(content)  # digital silence
    made = build(tmp_path, server)
    expected = {key(0): "blocked", key(1): "removed", key(2): "too_short", key(3): "silent"}
    assert bring(made) == expected
    assert {name: status for name, (status, _, _) in ledger(made).items()} == expected | {key(4): "ok"}
    assert set(expected.values()) <= set(STATUSES)
    requests = len(server.requests)
    assert bring(build(tmp_path, server)) == expected  # nothing has changed: nobody is asked again
    assert len(server.requests) == requests
    report = build(tmp_path, server).report()
    assert all(word in report for word in ("ok", "blocked", "removed", "too_short", "silent"))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments that ffmpeg is given."""
    commands: list[list[str]] = []
    run = youtube.run
    monkeypatch.setattr(youtube, "run", lambda command, **more: (commands.append(command), run(command, **more))[1])
    return commands


def test_what_may_have_changed_is_tried_again(
    tmp_path: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.always[f"{video(0)}.wav"] = Answer(451)
    assert bring(build(tmp_path, server)) == {key(0): "blocked"}
    server.always.clear()
    assert bring(build(tmp_path, server)) == {key(0): "blocked"}
    commands = spied(monkeypatch)
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tlogin\tme\n")
    asked = len(server.requests)
    assert bring(build(tmp_path, server, cookies=str(cookies))) == {}
    assert {request.cookie for request in server.requests[asked:]} == {"login=me"}
    # Arguments are for every user of the machine to read.
    assert commands
    assert "login" not in str(commands)
    assert "127.0.0.1\tFALSE\t/\tFALSE\t0\tlogin\tme" in cookies.read_text()


def test_a_new_yt_dlp_asks_again(tmp_path: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    server.always[f"{video(0)}.wav"] = Answer(451)
    assert bring(build(tmp_path, server)) == {key(0): "blocked"}
    server.always.clear()
    monkeypatch.setattr("yt_dlp.version.__version__", "2999.01.01")
    assert bring(build(tmp_path, server)) == {}


def test_what_the_site_refused_is_asked_again(tmp_path: Path, server: Loopback) -> None:
    server.always[f"{video(0)}.wav"] = Answer(403)
    assert bring(build(tmp_path, server)) == {key(0): "refused"}
    server.always.clear()
    assert bring(build(tmp_path, server)) == {}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(503), "server_error"),
        (Answer(429, retry_after=0), "rate_limited"),
        (HALF, "broken_off"),
        (SILENCE, "timed_out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_pass_is_tried_again(tmp_path: Path, server: Loopback, answer: Answer, status: str) -> None:
    path = f"{video(0)}.wav"
    server.always[path] = answer
    made = build(tmp_path, server, timeout=0.5 if answer is SILENCE else 60.0, attempts=2)
    assert bring(made) == {key(0): status}
    assert ledger(made)[key(0)] == (status, "youtube", 2)
    server.always.clear()
    assert bring(build(tmp_path, server)) == {}
    assert ledger(made)[key(0)] == ("ok", "youtube", 3)


def test_a_half_file_once_is_no_clip_of_half_the_length(tmp_path: Path, server: Loopback) -> None:
    path = f"{video(0)}.wav"
    for place in range(3):  # at the page, at the question for ranges, at the recording itself
        folder = tmp_path / str(place)
        server.answers[path] = [*[Answer()] * place, HALF]
        made = build(folder, server, 1)
        assert bring(made) == {}
        assert len(audio.load(made.clips()[0].path)) == 32_000


def test_too_many_requests_hold_up_every_worker(tmp_path: Path, server: Loopback, monkeypatch: Any) -> None:
    made = build(tmp_path, server, workers=1)
    server.answers[f"{video(0)}.wav"] = [Answer(429, retry_after=1)]
    pauses = []
    from w2v_abx.corpora.audioset.ledger import Ledger

    pause = Ledger.pause
    monkeypatch.setattr(Ledger, "pause", lambda self, seconds: (pauses.append(seconds), pause(self, seconds))[1])
    assert bring(made) == {}
    assert pauses == [1.0]
    with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as other:
        one.pause(50)
        assert 45 < other.next_request(0) <= 50  # another process waits too


def test_a_server_that_wants_a_long_pause_ends_the_run(tmp_path: Path, server: Loopback) -> None:
    server.always[f"{video(0)}.wav"] = Answer(429, retry_after=5000)
    with pytest.raises(InputError, match="asks to come back in 5000 s"):
        bring(build(tmp_path, server, workers=1))
    server.always.clear()
    assert bring(build(tmp_path, server)) == {}


def test_refusals_in_a_row_end_the_run(tmp_path: Path, server: Loopback) -> None:
    for number in range(COUNT):
        server.always[f"{video(number)}.wav"] = Answer(429, retry_after=0)
    with pytest.raises(InputError, match="3 clips in a row were refused .the last: .*429"):
        bring(build(tmp_path, server, workers=1, attempts=1, refusals=3))


def test_forbidden_clips_end_the_run_whatever_was_removed_between(tmp_path: Path, server: Loopback) -> None:
    (server.folder / f"{video(2)}.wav").unlink()
    for number in (0, 1, 3):
        server.always[f"{video(number)}.wav"] = Answer(403)
    settings = {"workers": 1, "attempts": 1}
    expected = {key(0): "refused", key(1): "refused", key(2): "removed", key(3): "refused"}
    with pytest.raises(InputError, match="3 clips in a row were refused .the last: .*403"):
        bring(build(tmp_path / "a", server, **settings, refusals=3))
    assert bring(build(tmp_path / "b", server, **settings, refusals=4)) == expected
    # Nothing but these is left to ask for, and they must not hold up the corpus for ever.
    assert bring(build(tmp_path / "b", server, **settings, refusals=2)) == expected


def test_no_network_ends_the_run_and_blames_no_clip(tmp_path: Path, server: Loopback, monkeypatch: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/{{id}}.wav"
    with pytest.raises(InputError, match="cannot be reached .*refused.*check the network"):
        bring(build(tmp_path, server, url=closed, attempts=2))

    def unresolved(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unresolved)
        with pytest.raises(InputError, match="cannot be reached .*name resolution"):
            bring(build(tmp_path, server, url="http://videos.invalid/{id}.wav", attempts=2, proxy=""))
    made = build(tmp_path, server)
    assert {status for status, _, _ in ledger(made).values()} == {"begun"}
    assert bring(made) == {}


def test_a_full_disk_ends_the_run_and_leaves_whole_clips(tmp_path: Path, server: Loopback, monkeypatch: Any) -> None:
    made = build(tmp_path, server, workers=1)
    save, saved = audio.save, []

    def full(path: Path, samples: np.ndarray) -> None:
        if len(saved) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(path)
        save(path, samples)

    with monkeypatch.context() as patched:
        patched.setattr(audio, "save", full)
        with pytest.raises(InputError, match="root cannot be written .No space left on device"):
            bring(made)
    assert len(list(made.root.rglob("*.flac"))) == 2
    assert bring(made) == {}


def test_the_proxy_is_used_by_yt_dlp_and_ffmpeg(
    tmp_path: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://videos.invalid/{id}.wav"  # no such host: only the proxy can answer
    commands = spied(monkeypatch)
    proxy = server.base.replace("//", "//me:secret@")
    assert bring(build(tmp_path, server, 1, url=url, proxy=proxy)) == {}
    assert commands
    assert "secret" not in str(commands)
    assert {request.host for request in server.requests} == {"videos.invalid"}
    assert len(server.requests) >= 3


def test_requests_are_paced(tmp_path: Path, server: Loopback, monkeypatch: Any) -> None:
    from w2v_abx.corpora.audioset.ledger import Ledger

    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    with Ledger(tmp_path / "l.sqlite") as ledger, Ledger(tmp_path / "l.sqlite") as other:
        assert [round(each.next_request(2.0), 6) for each in (ledger, other, ledger, other)] == [0.0, 2.0, 4.0, 6.0]


def test_more_options_reach_yt_dlp(tmp_path: Path, server: Loopback) -> None:
    made = build(tmp_path, server, 1, yt_dlp={"format": "no-such-format"})
    assert bring(made) == {key(0): "refused"}


def test_a_page_without_a_recording(tmp_path: Path, server: Loopback) -> None:
    (server.folder / f"{video(0)}.wav").write_text("<html><title>Gone</title><p>nothing here</p></html>")
    failures = build(tmp_path, server, 1).fetch(build(tmp_path, server, 1).clips())
    assert isinstance(failures[key(0)], Failure)
    assert failures[key(0)].reason in STATUSES


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("[youtube] x: Private video. Sign in if you've been granted access to this video", "private"),
        ("[youtube] x: Video unavailable. This video has been removed by the uploader", "removed"),
        ("[youtube] x: This video is no longer available because the YouTube account has been terminated", "removed"),
        ("[youtube] x: Video unavailable. The uploader has not made this video available in your country", "blocked"),
        ("[youtube] x: Video unavailable. This video contains content from X, who has blocked it on copyright grounds",
         "blocked"),
        ("[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.", "age_restricted"),
        ("[youtube] x: Sign in to confirm you’re not a bot. Use --cookies-from-browser", "rate_limited"),
        ("[youtube] x: The current session has been rate-limited by YouTube for up to an hour.", "rate_limited"),
        ("[youtube] x: Join this channel to get access to members-only content", "members_only"),
        ("[youtube] x: Premieres in 3 days", "not_yet"),
        ("[youtube] x: Requested format is not available. Use --list-formats", "refused"),
        ("[youtube] x: This video is unavailable", "removed"),
        ("[youtube] x: Playback on other websites has been disabled by the video owner", "blocked"),
        ("[youtube] x: We’re processing this video. Check back later.", "not_yet"),
        ("[youtube] xDRMabc1234: Something new", "failed"),
        ("[youtube] x-DRM-abc123: Something new", "failed"),
        ("[youtube] x: Something new about dreams and drmx", "failed"),
        ("Error opening input file http://127.0.0.1:8000/forbidden-drm.wav", "failed"),
        ("[youtube] x: This video is DRM protected", "no_audio"),
        ("unable to download video data: HTTP Error 403: Forbidden", "refused"),
        ("Unable to download webpage: HTTP Error 429: Too Many Requests", "rate_limited"),
        ("Unable to download webpage: [Errno -3] Temporary failure in name resolution", "unreachable"),
        ("Read timed out. (read timeout=20.0)", "timed_out"),
        ("1024 bytes read, 4096 more expected", "broken_off"),
        ("Stream ends prematurely at 30000, should be 60000", "broken_off"),
        ("Error opening input: Invalid data found when processing input", "undecodable"),
        ("something new", "failed"),
    ],
)  # fmt: skip
def test_messages_have_their_status(message: str, status: str) -> None:
    assert classify(message) == status
    assert status in STATUSES


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    for wrong, message in (
        ({"sources": ["tape"]}, "corpus.fetching.sources=.* some of local, youtube, .*'tape' is none"),
        ({"sources": ["local"]}, "has no source"),
        ({"url": "http://x/y"}, r"needs \{id\}"),
        ({"workers": 0}, "workers=0"),
        ({"backoff": -1.0}, "corpus.fetching.backoff=-1.0 must be a number of seconds at least 0"),
        ({"backoff": float("inf")}, "backoff=inf"),
        ({"longest_wait": float("nan")}, "longest_wait=nan"),
    ):
        with pytest.raises(InputError, match=message):
            Fetching(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cookies=.* cannot be read"):
        Fetching(cookies=str(tmp_path / "none")).read_cookies()
    with pytest.raises(InputError, match="corpus.categories=none is neither a CSV nor one of audioset_108"):
        AudioSet("x", tmp_path, ontology="", train={}, evaluation={}, categories="none", choice=Choice())

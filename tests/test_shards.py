"""Shards: whole or not there, the same bytes every time, and nothing in them that runs."""

import csv
import io
import json
import multiprocessing
import os
import pickle
import resource
import signal
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from w2v_abx import audio
from w2v_abx.corpora.clip import Clip
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, prepare, read_shard, writing
from w2v_abx.shards.planning import _names

FORK = multiprocessing.get_context("fork")


@dataclass
class Fixed:
    """A corpus of given clips."""

    given: list[Clip]
    name: str = "fixed"

    def clips(self) -> list[Clip]:
        return self.given


@dataclass
class Sounds:
    """Noise in files, and the clips that name them."""

    root: Path
    clips: list[Clip] = field(default_factory=list)

    def add(self, key: str, seconds: float = 0.1, split: str = "train", **labels: Any) -> None:
        path = self.root / f"{len(self.clips):03d}.wav"
        generator = np.random.default_rng(len(self.clips))
        sf.write(path, 0.1 * generator.standard_normal(round(seconds * 16000)), 16000)
        self.clips.append(Clip(key, path, split=split, labels=labels, source="noise", licence="CC0"))


@pytest.fixture
def sounds(tmp_path: Path) -> Sounds:
    (tmp_path / "raw").mkdir()
    sounds = Sounds(tmp_path / "raw")
    for i in range(11):
        sounds.add(f"a/{i}.x", labels=["rain", f"kind {i % 2}"], speaker=f"s{i % 3}")
    for i in range(3):
        sounds.add(f"v{i}", split="valid", labels=["rain"], phones=[[0.0, 0.05, "a"], [0.05, 0.1, "b"]], text="ab")
    return sounds


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def in_a_fork(work: Callable[[], None]) -> int | None:
    """Exit code of ``work`` in a process of its own."""
    process = FORK.Process(target=work)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("format", ["flac", "wav"])
def test_what_goes_in_comes_out(sounds: Sounds, tmp_path: Path, format: str) -> None:
    manifest = prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4, format=format)  # type: ignore[arg-type]
    assert [shard.name for shard in manifest.shards] == [
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
        "valid-000000.tar",
    ]
    assert manifest == Manifest.read(tmp_path / "out")
    assert (manifest.clips, manifest.skipped) == (14, {})
    assert manifest.hours == pytest.approx(1.4 / 3600)
    assert manifest.labels == {
        "train": {"labels": {"kind 0": 6, "kind 1": 5, "rain": 11}, "speaker": {"s0": 4, "s1": 4, "s2": 3}},
        "valid": {"labels": {"rain": 3}, "phones": {"a": 3, "b": 3}},
    }
    assert manifest.categories() == ["kind 0", "kind 1", "rain"]
    assert manifest.categories("labels", "valid") == ["rain"]
    by_path = {clip.key: clip for clip in sounds.clips}
    found = {}
    for shard in manifest.shards:
        for sample in read_shard(tmp_path / "out" / shard.name):
            content = json.loads(_members(sample.shard)[f"{sample.key}.json"])
            clip = by_path[content["key"]]
            found[clip.key] = sample
            assert sample.labels == json.loads(json.dumps(clip.labels))
            assert (content["source"], content["licence"]) == ("noise", "CC0")
            assert np.array_equal(sample.decode(), audio.load(clip.path))
            assert np.array_equal(sample.decode(100, 50), audio.load(clip.path)[100:150])
            assert sample.length == len(sample.decode())
    assert len(found) == 14


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_webdataset_reads_the_same(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "out")
    path = tmp_path / "out" / "train-000000.tar"
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    ours = list(read_shard(path))
    assert [sample["__key__"] for sample in theirs] == [sample.key for sample in ours]
    assert [sample["flac"] for sample in theirs] == [sample.audio for sample in ours]


def test_preparing_twice_adds_nothing(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4)
    before = contents(tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4)
    assert contents(tmp_path / "out") == before
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")} == times
    prepare(Fixed(sounds.clips), tmp_path / "again", clips_per_shard=4)
    assert contents(tmp_path / "again") == before


@pytest.mark.parametrize(
    ("function", "call"), [("load", 1), ("load", 6), ("write_json", 1), ("write_json", 3), ("write_text", 1)]
)
def test_a_killed_prepare_resumes_to_the_same_bytes(sounds: Sounds, tmp_path: Path, function: str, call: int) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "undisturbed", clips_per_shard=4)

    def die() -> None:
        original, calls = getattr(writing, function), []

        def deadly(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        setattr(writing, function, deadly)
        prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4)

    assert in_a_fork(die) == -signal.SIGKILL
    with pytest.raises(InputError, match=r"holds no manifest\.json: run `w2v-abx prepare corpus=…` first, or again if"):
        Manifest.read(tmp_path / "out")
    prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_changed_corpus_rewrites_what_changed_only(sounds: Sounds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Fixed(sounds.clips), out, clips_per_shard=4)
    before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    relabelled = [replace(clip, labels={"labels": ["hail"]}) if clip.key == "v0" else clip for clip in sounds.clips]
    prepare(Fixed(relabelled), out, clips_per_shard=4)
    after = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    assert {name for name in before if before[name] != after[name]} == {"valid-000000.tar"}
    manifest = prepare(Fixed([clip for clip in sounds.clips if clip.split == "train"]), out, clips_per_shard=100)
    assert sorted(path.name for path in out.glob("*.tar")) == ["train-000000.tar"]
    assert manifest.clips == 11


def test_a_damaged_shard_is_written_anew(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "train-000000.tar").write_bytes(before["train-000000.tar"][:5000])
    (tmp_path / "out" / "valid-000000.json").write_text("{")
    prepare(Fixed(sounds.clips), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_every_skipped_clip_is_listed_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    sf.write(root / "good.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
    (root / "corrupt.flac").write_bytes(b"fLaC" + bytes(range(256)))
    (root / "empty.wav").touch()
    sf.write(root / "silent.wav", np.zeros(16000), 16000)
    sf.write(root / "one.wav", np.ones(1), 16000)
    (root / "text.wav").write_text("not a sound")
    (root / "x.wav").mkdir()
    log = io.StringIO()
    manifest = prepare(Folder("own", root), tmp_path / "out", console=Console(file=log))
    assert manifest.clips == 1
    assert manifest.skipped == {"empty": 1, "folder": 1, "silent": 1, "too_short": 1, "unreadable": 2}
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["key"], row["reason"]) for row in rows] == [
        ("corrupt", "unreadable"),
        ("empty", "empty"),
        ("one", "too_short"),
        ("silent", "silent"),
        ("text", "unreadable"),
        ("x", "folder"),
    ]
    assert all(row["path"] in row["message"] and row["split"] == "train" for row in rows)
    assert "prepare 7/7 clips, 0.00 h, 6 skipped" in log.getvalue()


def test_no_usable_clip_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no clip of the corpus fixed can be used \(missing: 1\): see .*skipped\.csv"):
        prepare(Fixed([Clip("a", tmp_path / "a.wav")]), tmp_path / "out")
    with pytest.raises(InputError, match="the corpus fixed has no clips"):
        prepare(Fixed([]), tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        Manifest.read(tmp_path / "out")


def test_a_full_disk_says_so_and_leaves_whole_shards(sounds: Sounds, tmp_path: Path) -> None:
    sounds.add("long", seconds=20, split="valid")  # its shard, the last, passes the limit that stands for a full disk

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4)
        except InputError as error:
            (tmp_path / "message").write_text(str(error))

    assert in_a_fork(fill) == 0
    message = (tmp_path / "message").read_text()
    assert "out cannot be written (File too large): the shards there are whole; make room or choose" in message
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [f"train-00000{i}.tar" for i in range(3)]
    assert sum(1 for path in (tmp_path / "out").glob("*.tar") for _ in read_shard(path)) == 11
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4).clips == 15


def test_a_folder_of_another_corpus_is_left_alone(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="holds shards of the corpus fixed: choose another folder for other"):
        prepare(Fixed(sounds.clips, name="other"), tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "its split 'dev' is unknown: choose from train, valid, test"),
        ({"key": "v0"}, "have the same key 'v0': keys must be unique"),
        ({"labels": {"labels": {1, 2}}}, r"the labels of v2 are not JSON"),
        ({"labels": {"level": float("nan")}}, r"the labels of v2 are not JSON"),
    ],
)
def test_clips_that_cannot_be_stored(sounds: Sounds, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Fixed([*sounds.clips[:-1], replace(sounds.clips[-1], **change)]), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "mp3"}, "prepare.format='mp3' is unknown: choose from flac, wav"),
        ({"level": "max"}, "prepare.level='max' is unknown: choose from none, peak, rms"),
        ({"clips_per_shard": 0}, "prepare.clips_per_shard=0 must be 1 or more"),
    ],
)
def test_settings_out_of_range(sounds: Sounds, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Fixed(sounds.clips), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), unique=True))
def test_names_in_a_shard_are_distinct_and_plain(keys: list[str]) -> None:
    names = _names(keys)
    assert len(set(names.values())) == len(keys)
    assert all(name and not set(name) & set("./\\ \0\n") for name in names.values())


def write_tar(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), kind
            tar.addfile(member, io.BytesIO(data))
    return path


SOUND = audio.encode(0.1 * np.random.default_rng(0).standard_normal(1600))
JSON = b'{"labels": {}, "samples": 1600}'


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.abort, ())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.flac", SOUND), ("a.json", JSON), ("b.pkl", pickle.dumps(Bomb()))], r"refused the member 'b\.pkl': only"),
        ([("a.pyd", pickle.dumps(Bomb()))], r"refused the member 'a\.pyd'"),
        ([("/etc/a.flac", SOUND)], r"refused the member '/etc/a\.flac'"),
        ([("../a.flac", SOUND)], r"refused the member '\.\./a\.flac'"),
        ([("x/../../a.json", JSON)], r"refused the member"),
        ([("a.flac", SOUND), ("b.json", JSON)], "the clip a lacks its audio or its .json"),
        ([("a.flac", SOUND)], "holds 0 whole clips"),
        ([("a.flac", SOUND), ("a.json", b"{}")], r"a\.json is not a clip's description"),
        ([("a.flac", SOUND), ("a.json", b"\xff")], r"a\.json is not a clip's description"),
    ],
)
def test_only_sound_and_json_are_read(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    path = write_tar(tmp_path / "train-000000.tar", *members)
    with pytest.raises(InputError, match=f"train-000000.*{message}"):
        list(read_shard(path))


def test_links_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ("a.flac", b""), kind=tarfile.SYMTYPE)
    with pytest.raises(InputError, match=r"refused the member 'a\.flac', which is not a plain file"):
        list(read_shard(path))


def test_audio_that_is_none_names_its_clip(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ("k.flac", b"nothing"), ("k.json", JSON))
    with pytest.raises(InputError, match=r"a\.tar: the audio of k cannot be decoded"):
        next(read_shard(path)).decode()


def test_a_shard_that_is_missing_or_breaks_off_is_named(sounds: Sounds, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the shard .*none\.tar is missing"):
        list(read_shard(tmp_path / "none.tar"))
    (tmp_path / "text.tar").write_text("no tar" * 1000)
    with pytest.raises(InputError, match=r"the shard .*text\.tar is damaged or not a tar"):
        list(read_shard(tmp_path / "text.tar"))
    prepare(Fixed(sounds.clips), tmp_path / "out")
    path = tmp_path / "out" / "train-000000.tar"
    whole = path.read_bytes()
    for size in range(0, len(whole.rstrip(b"\0")), 1111):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"train-000000\.tar"):
            list(read_shard(path, 0, 11))


def test_samples_before_the_first_are_passed_over(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "out")
    path = tmp_path / "out" / "train-000000.tar"
    keys = [sample.key for sample in read_shard(path)]
    assert [sample.key for sample in read_shard(path, 3, 7)] == keys[3:7]


@pytest.mark.parametrize("text", ["{", "[]", '{"corpus": 1}', '{"shards": [{"name": "../x.tar"}]}'])
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        Manifest.read(tmp_path)


def test_asking_a_manifest_for_what_it_lacks(sounds: Sounds, tmp_path: Path) -> None:
    manifest = prepare(Fixed(sounds.clips), tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no clip of the split 'test' \(clips by split: train: 11, valid: 3\)"):
        manifest.of("test")
    with pytest.raises(InputError, match="carries the label 'emotion'; the labels there are: labels, phones, speaker"):
        manifest.categories("emotion")

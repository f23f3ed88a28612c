"""Shards: whole or not there, the same bytes every time, nothing left out in silence."""

import csv
import io
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
import soundfile as sf
import webdataset
from rich.console import Console
from sounds import Fixed, Sounds, contents

from w2v_abx import audio
from w2v_abx.audio import Cleaning
from w2v_abx.clips import Clip, Failure
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, prepare, read_shard, workers, writing
from w2v_abx.shards.index import SCHEMA
from w2v_abx.system.spreadsheets import restored


def in_a_process(script: str) -> int:
    """Exit code of a script that has the tests' modules at hand."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, check=False, stdout=subprocess.DEVNULL
    ).returncode


PREPARE = """
import pickle
from pathlib import Path
from sounds import Fixed
from w2v_abx.shards import prepare
clips = pickle.loads(Path({clips!r}).read_bytes())
def work():
    prepare(Fixed(clips), {out!r}, clips_per_shard=4, workers=1)
"""


@pytest.fixture
def script(sounds: Sounds, tmp_path: Path) -> Callable[[], str]:
    """Makes ``work()``, which prepares the sounds, known to a script."""

    def make() -> str:
        (tmp_path / "clips.pickle").write_bytes(pickle.dumps(sounds.clips))
        return PREPARE.format(clips=str(tmp_path / "clips.pickle"), out=str(tmp_path / "out"))

    return make


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


DEADLY = """
import os, signal
from w2v_abx.shards import workers
from w2v_abx.shards import manifest, packing, writing
original, calls = {module}.{function}, []
def deadly(*arguments, **options):
    calls.append(arguments)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
{module}.{function} = deadly
work()
"""


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        ("workers", "load", 6),
        ("packing", "write_parquet", 2),
        ("packing", "write_json", 3),
        ("writing", "write_parquet", 1),
        ("manifest", "write_json", 1),
    ],
)
def test_a_killed_prepare_resumes_to_the_same_bytes(
    sounds: Sounds, tmp_path: Path, script: Callable[[], str], module: str, function: str, call: int
) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "undisturbed", clips_per_shard=4)
    assert in_a_process(script() + DEADLY.format(module=module, function=function, call=call)) == -signal.SIGKILL
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
    assert manifest.skipped == {"empty": 1, "folder": 1, "not_audio": 1, "silent": 1, "too_short": 1, "unreadable": 1}
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["key"], row["reason"]) for row in rows] == [
        ("corrupt", "unreadable"),
        ("empty", "empty"),
        ("one", "too_short"),
        ("silent", "silent"),
        ("text", "not_audio"),
        ("x", "folder"),
    ]
    assert all(row["path"] in row["message"] and row["split"] == "train" for row in rows)
    assert "prepare 7/7 clips, 0.00 h, 6 skipped" in log.getvalue()


def test_what_may_pass_is_tried_again(sounds: Sounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Path, *arguments: Any) -> Any:
        if path == sounds.clips[0].path:
            raise audio.AudioError(path, "timeout", "ffmpeg was still decoding it")
        return audio.load(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(workers, "load", busy)
        assert prepare(Fixed(sounds.clips), tmp_path / "out").skipped == {"timeout": 1}
    assert prepare(Fixed(sounds.clips), tmp_path / "out").skipped == {}


def test_a_second_prepare_says_that_it_waits(sounds: Sounds, tmp_path: Path) -> None:
    log = io.StringIO()
    with ThreadPoolExecutor(1) as pool:
        with writing._held(tmp_path, Console(), shared=True):
            second = pool.submit(prepare, Fixed(sounds.clips), tmp_path, console=Console(file=log))
            while "waiting for another prepare in" not in log.getvalue():
                assert not second.done()
        assert second.result().clips == 14


def test_no_usable_clip_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no clip of the corpus fixed can be used \(missing: 1\): see .*skipped\.csv"):
        prepare(Fixed([Clip("a", tmp_path / "a.wav")]), tmp_path / "out")
    with pytest.raises(InputError, match="the corpus fixed has no clips"):
        prepare(Fixed([]), tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        Manifest.read(tmp_path / "out")


FULL = """
import resource
from w2v_abx.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    work()
except InputError as error:
    Path({message!r}).write_text(str(error))
"""


def test_a_full_disk_says_so_and_leaves_whole_shards(sounds: Sounds, tmp_path: Path, script: Callable[[], str]) -> None:
    sounds.add("long", seconds=20, split="valid")  # its shard, the last, passes the limit that stands for a full disk
    assert in_a_process(script() + FULL.format(message=str(tmp_path / "message"))) == 0
    message = (tmp_path / "message").read_text()
    assert "out cannot be written (File too large): the shards there are whole; make room or choose" in message
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [f"train-00000{i}.tar" for i in range(3)]
    assert sum(1 for path in (tmp_path / "out").glob("*.tar") for _ in read_shard(path)) == 11
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".") and path.name != ".lock"]
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
        ({"labels": {"labels": {1, 2}}}, r"the labels of v2 cannot be stored"),
        ({"labels": {"level": float("nan")}}, r"the labels of v2 cannot be stored"),
        ({"labels": {"phones": [[0.2, 0.1, "a"]]}}, r"the labels of v2 cannot be stored .*'phones' is not \[onset s"),
    ],
)
def test_clips_that_cannot_be_stored(sounds: Sounds, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Fixed([*sounds.clips[:-1], replace(sounds.clips[-1], **change)]), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "mp3"}, "prepare.format='mp3' must be one of flac, wav"),
        ({"clips_per_shard": 2.5}, "prepare.clips_per_shard=2.5 must be a whole number"),
        ({"clips_per_shard": 0}, "prepare.clips_per_shard=0 must be a whole number from 1, or null"),
        ({"megabytes_per_shard": math.nan}, "prepare.megabytes_per_shard=nan must be a number above 0, or null"),
        ({"workers": 0}, "prepare.workers=0 must be a whole number from 1, or null"),
        ({"workers": True}, "prepare.workers=True must be a whole number from 1"),
        ({"part": "0/4"}, "prepare.part=0/4 is no part: write 3/64"),
        ({"part": "5/4"}, "prepare.part=5/4 is no part"),
        ({"part": "third"}, "prepare.part=third is no part"),
    ],
)
def test_settings_out_of_range(sounds: Sounds, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Fixed(sounds.clips), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_changes_no_byte(
    sounds: Sounds, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sounds.root / "bad.wav").write_text("no sound")
    sounds.clips.append(Clip("bad", sounds.root / "bad.wav"))
    prepare(Fixed(sounds.clips), tmp_path / "one", clips_per_shard=4, workers=1)
    monkeypatch.setattr(writing, "MIN_CLIPS_FOR_PROCESSES", 0)
    prepare(Fixed(sounds.clips), tmp_path / "several", clips_per_shard=4, workers=processes)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


def test_a_process_killed_at_random_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """The command itself, with the processes that it starts; killed at moments from its first clip to its last."""
    (tmp_path / "raw").mkdir()
    sounds = Sounds(tmp_path / "raw")
    for i in range(80):
        sounds.add(f"clip{i:03d}", seconds=1.0)
    folder = Folder("own", sounds.root)
    prepare(folder, tmp_path / "undisturbed", clips_per_shard=10)
    script = (
        "import sys; from w2v_abx.corpora.folder import Folder; from w2v_abx.shards import prepare\n"
        f"if __name__ == '__main__': prepare(Folder('own', {str(sounds.root)!r}), {str(tmp_path / 'out')!r}, "
        "clips_per_shard=10, workers=2)"
    )
    generator = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
        while process.poll() is None and not list((tmp_path).glob("out/*.tar")):
            time.sleep(0.001)
        time.sleep(float(generator.uniform(0, 0.15)))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=120)
        assert not alive
        for path in sorted((tmp_path / "out").glob("*.tar"))[1::2]:
            path.unlink()  # so that the next run has something left to do
    prepare(folder, tmp_path / "out", clips_per_shard=10)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_limit_of_size_holds_for_whole_shards(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    sounds = Sounds(tmp_path / "raw")
    for i, seconds in enumerate([0.5, 0.1, 0.1, 0.4, 0.2, 2.0, 0.1]):
        sounds.add(f"clip{i}", seconds=seconds)
    sounds.clips.append(replace(sounds.clips[5], key="part", start=0.5, end=0.6))
    sounds.clips.append(Clip("gone", tmp_path / "gone.wav"))
    limit = 0.6 * 32_000 / 1e6
    manifest = prepare(
        Fixed(sounds.clips), tmp_path / "out", clips_per_shard=None, megabytes_per_shard=limit, format="wav"
    )
    assert manifest.clips == 8
    for shard in manifest.shards:
        assert shard.clips == 1 or shard.samples <= 0.6 * 16_000
    assert len(manifest.shards) < 8
    assert (
        len(prepare(Fixed(sounds.clips), tmp_path / "one", clips_per_shard=None, megabytes_per_shard=None).shards) == 1
    )


def test_the_index_says_where_each_clip_lies(sounds: Sounds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sounds.add("deaf", labels=["rain"], speaker="s9")
    (sounds.root / f"{len(sounds.clips) - 1:03d}.wav").write_bytes(b"")
    manifest = prepare(Fixed(sounds.clips), out, clips_per_shard=4)
    index = pl.read_parquet(out / "index.parquet")
    assert index.schema == pl.Schema(SCHEMA)
    rows = index.iter_rows(named=True)
    for number, shard in enumerate(manifest.shards):
        tar = (out / shard.name).read_bytes()
        for sample, row in zip(read_shard(out / shard.name), rows, strict=False):
            assert (row["shard"], row["key"], row["samples"]) == (number, sample.key, sample.length)
            assert tar[row["offset"] : row["offset"] + row["size"]] == sample.audio
            content = json.loads(tar[row["json_offset"] : row["json_offset"] + row["json_size"]])
            assert content["labels"] == sample.labels
            timed = {"phones", "text"}
            categories = {name: value for name, value in sample.labels.items() if name not in timed}
            assert {
                name: value[0] if name == "speaker" else value for name, value in json.loads(row["labels"]).items()
            } == {name: sorted(value) if name == "labels" else value for name, value in categories.items()}
    assert next(rows, None) is None
    (out / "train-000000.parquet").write_bytes(b"no index")
    (out / "index.parquet").unlink()
    (out / "manifest.json").unlink()
    prepare(Fixed(sounds.clips), out, clips_per_shard=4)
    assert pl.read_parquet(out / "index.parquet").equals(index)


def test_what_was_prepared_otherwise_gives_way_only_where_that_is_asked_for(sounds: Sounds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Fixed(sounds.clips), out, clips_per_shard=4, replace=False)
    before = contents(out)
    prepare(Fixed(sounds.clips), out, clips_per_shard=4, replace=False)
    relabelled = [replace(clip, labels={**clip.labels, "phones": []}) for clip in sounds.clips]
    for corpus, settings in (
        (Fixed(relabelled), {"clips_per_shard": 4}),
        (Fixed(sounds.clips[1:]), {"clips_per_shard": 4}),
        (Fixed(sounds.clips), {"clips_per_shard": 5}),
        (Fixed(sounds.clips), {"clips_per_shard": 4, "cleaning": Cleaning(level="peak")}),
        (Fixed(relabelled), {"clips_per_shard": 4, "part": "1/2"}),
    ):
        with pytest.raises(InputError, match=r"prepared from other clips, labels or settings .*prepare\.replace=true"):
            prepare(corpus, out, **settings, replace=False)  # type: ignore[arg-type]
        assert contents(out) == before
    assert "phones" not in prepare(Fixed(relabelled), out, clips_per_shard=4).labels["valid"]
    (sounds.root / "000.wav").write_bytes((sounds.root / "001.wav").read_bytes())  # what files hold may change
    prepare(Fixed(relabelled), out, clips_per_shard=4, replace=False)


@dataclass
class Fetched(Fixed):
    """A corpus whose audio has to be fetched; what ``failing`` names cannot be."""

    failing: dict[str, Failure] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)

    def fetch(self, clips: Sequence[Clip]) -> dict[str, Failure]:
        self.asked.append([clip.key for clip in clips])
        for clip in clips:
            if clip.key not in self.failing:
                clip.path.with_suffix(".away").replace(clip.path) if not clip.path.exists() else None
        return {clip.key: self.failing[clip.key] for clip in clips if clip.key in self.failing}


def test_what_has_to_be_fetched_is_fetched_shard_by_shard(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "there", clips_per_shard=4)
    corpus = Fetched(sounds.clips, name="fixed")
    for clip in sounds.clips:
        clip.path.rename(clip.path.with_suffix(".away"))
    corpus.failing = {"v1": Failure("removed", "v1: the video was removed")}
    manifest = prepare(corpus, tmp_path / "out", clips_per_shard=4)
    assert [len(keys) for keys in corpus.asked] == [4, 4, 3, 3]
    assert (manifest.clips, manifest.skipped) == (13, {"removed": 1})
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["key"], row["message"]) for row in csv.DictReader(file)] == [("v1", "v1: the video was removed")]
    written = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    corpus.failing = {"v1": Failure("blocked", "v1: blocked here")}
    assert prepare(corpus, tmp_path / "out", clips_per_shard=4).skipped == {"blocked": 1}
    corpus.failing = {}
    assert prepare(corpus, tmp_path / "out", clips_per_shard=4).skipped == {}
    after = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert {name for name in after if after[name] != written[name]} == {"valid-000000.tar"}
    for name in after:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_a_table_of_skipped_clips_holds_no_formula(sounds: Sounds, tmp_path: Path) -> None:
    """Names of files come from elsewhere, and people open the table with a spreadsheet."""
    corpus = Fetched(sounds.clips, name="fixed")
    names = ["=cmd|' /C calc'!A0", "+1+1", "-x", "@SUM(1)", "\t=1", "-0.5", "'=1"]
    for name in names:
        sounds.add(name)
        corpus.failing[name] = Failure("removed", f"{name}: it was removed")
    prepare(corpus, tmp_path / "out")
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert not any(cell[:1] in "=+@\t" for row in rows for cell in row.values() if cell)
    assert [restored(row["key"]) for row in rows] == sorted(names)
    assert [restored(row["message"]) for row in rows] == [f"{name}: it was removed" for name in sorted(names)]

"""`w2v-abx prepare`: plans, parts, and the corpora that it must bring to a good end."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from audioset_lists import BARK, DOG, RAIN, SPEECH, Row, noise, ontology, segments, video, wanted
from loopback import HALF, Answer, Loopback
from sounds import Sounds, contents

from w2v_abx.__main__ import main
from w2v_abx.shards import Manifest, read_shard
from w2v_abx.system.spreadsheets import restored

Command = Callable[..., str]


@pytest.fixture
def run(run: Command) -> Command:
    """Run `w2v-abx prepare` in an empty folder; its standard output."""
    return partial(run, "prepare")


@pytest.fixture
def pond(tmp_path: Path) -> tuple[str, ...]:
    """Overrides of a corpus of ten sounds."""
    (tmp_path / "raw").mkdir()
    sounds = Sounds(tmp_path / "raw")
    for i in range(10):
        sounds.add(str(i))
    return ("corpus=folder", "corpus.name=pond", f"corpus.root={sounds.root}", "prepare.clips_per_shard=3")


def test_parts_of_a_sweep_are_merged_into_the_whole(run: Command, pond: tuple[str, ...], tmp_path: Path) -> None:
    run(*pond, "prepare.folder=whole")
    run("--multirun", *pond, "prepare.folder=parts", "prepare.part=1/3,2/3,3/3", "hydra/launcher=basic")
    assert not (tmp_path / "parts" / "manifest.json").exists()
    assert "10 clips" in run(*pond, "prepare.folder=parts", "prepare.part=merge")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "address", ["http://u:SECRET@h/x", "s3://u:SECRET@h/x", "file:///x", "pipe:curl SECRET {name}"]
)
@pytest.mark.parametrize("more", [(), ("prepare.plan_only=true",), ("prepare.part=merge",)])
def test_an_address_is_no_folder_to_write_to(
    address: str,
    more: tuple[str, ...],
    run: Command,
    pond: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*pond, f"prepare.folder='{address}'", *more)
    said = capfd.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2
    assert "SECRET" not in said
    assert not [path for path in tmp_path.rglob("*") if "SECRET" in path.name or path.suffix == ".tar"]


def test_minutes_of_a_corpus_go_to_a_folder_of_their_own(
    run: Command, pond: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(*pond)
    said = run(*pond, "corpus.minutes=0.01")  # 0.6 s in clips of 0.1
    assert "corpus.minutes=0.01: 0.01 minutes" in said
    manifests = {path.parent.name: Manifest.read(path.parent) for path in tmp_path.glob("data/shards/*/manifest.json")}
    assert set(manifests) == {"pond", "pond-0.01min"}
    assert manifests["pond-0.01min"].splits["train"]["clips"] < manifests["pond"].splits["train"]["clips"]
    assert manifests["pond-0.01min"].corpus == "pond"
    with pytest.raises(SystemExit):
        run(*pond, "corpus.minutes=0.005", "prepare.folder=data/shards/pond")
    assert "prepared from other clips" in capfd.readouterr().err


def test_a_plan_writes_no_shard(run: Command, pond: tuple[str, ...], tmp_path: Path) -> None:
    assert (
        run(*pond, "corpus.valid.fraction=0.3", "prepare.plan_only=true")
        == "pond: 7 clips in train, 3 clips in valid\n"
    )
    assert not (tmp_path / "data").exists()


def test_files_that_are_not_audio_are_counted(
    run: Command, pond: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = next(Path(override.partition("=")[2]) for override in pond if override.startswith("corpus.root="))
    for name in ("list.txt", "notes.txt", "LICENSE"):
        (root / name).write_text("a text")
    home = (f'corpus.root="~/{root.relative_to(tmp_path)}"', 'prepare.folder="~/out"')
    assert "  passed over: 3 files are not audio (2 .txt, 1 without ending)\n" in run(*pond, *home)
    assert Manifest.read(tmp_path / "out").passed_over == {".txt": 2, "": 1}
    run(*pond, "prepare.folder=parts", "prepare.part=1/1")
    assert "passed over: 3 files" in run(*pond, "prepare.folder=parts", "prepare.part=merge")
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text())
    assert manifest.pop("passed_over") == {".txt": 2, "": 1}
    assert Manifest.parse(json.dumps(manifest).encode(), tmp_path, "of old", "").passed_over == {}


@pytest.mark.parametrize("setting", ["prepare.part=1/2", "prepare.plan_only=true"])
def test_training_needs_all_clips(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, setting: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["w2v-abx", "train", setting])
    with pytest.raises(SystemExit):
        main()
    assert "prepare.part are for `w2v-abx prepare`; training needs all clips" in capfd.readouterr().err


def test_how_clips_are_cleaned_is_said_in_the_manifest(run: Command, pond: tuple[str, ...], tmp_path: Path) -> None:
    run(*pond, "prepare.level=r128", "prepare.remove_dc=true", "prepare.silence_dbfs=-60", "prepare.max_clipped=0.1")
    manifest = Manifest.read(tmp_path / "data" / "shards" / "pond")
    assert manifest.cleaning == {"level": "r128", "remove_dc": True, "silence_dbfs": -60, "max_clipped": 0.1}


def test_esc10_whole(run: Command, shared_data: Path, tmp_path: Path) -> None:
    out = run("corpus=esc10", f"corpus.root={shared_data / 'esc10'}")
    assert "320 clips, 0.45 hours" in out
    manifest = Manifest.read(tmp_path / "data" / "shards" / "esc10")
    published = Counter(path.parent.name[6:] for path in (shared_data / "esc10").glob("*/*.ogg"))
    found: Counter[str] = Counter()
    for split in ("train", "valid"):
        found.update(manifest.labels[split]["labels"])
    assert found == published
    assert manifest.skipped == {}
    assert set(manifest.labels["valid"]["fold"]) == {"4"}


def test_audioset_from_a_server_ends_with_every_clip_accounted_for(run: Command, tmp_path: Path) -> None:
    """Eleven segments: of the nine wanted, five are served, and each of the others is missing for its own reason."""
    site, root = tmp_path / "site", tmp_path / "root"
    site.mkdir()
    root.mkdir()
    carried: list[list[str]] = [[DOG], [DOG, RAIN], [RAIN], [BARK, RAIN], [DOG], [RAIN], [DOG], [RAIN], [DOG]]
    rows: list[Row] = [(video(i), 1.0, 3.0, mids) for i, mids in enumerate(carried)]
    rows += [(video(20), 0.0, 2.0, [DOG, SPEECH]), (video(21), 0.0, 2.0, [SPEECH])]
    for number in (0, 1, 2, 3, 4, 6, 8):
        noise(site / f"{video(number)}.wav", number, seconds=4.0)
    noise(site / f"{video(7)}.wav", 7, seconds=1.5)
    (site / f"{video(8)}.wav").write_text("no recording")
    ontology(root / "ontology.json")
    segments(root / "train.csv", rows)
    segments(root / "eval.csv", [(video(i), 1.0, 3.0, [RAIN]) for i in (2,)])
    with Loopback(site) as server:
        server.answers[f"{video(1)}.wav"] = [Answer(429, retry_after="0")]
        server.answers[f"{video(4)}.wav"] = [HALF]
        server.always[f"{video(6)}.wav"] = Answer(403)
        settings = (
            "corpus=audioset_108", f"corpus.root={root}", "corpus.choice.valid=0.5",
            "corpus.ontology_sha256=null", "corpus.choice.exclude=[/m/voice]",
            f"corpus.categories={wanted(tmp_path / 'wanted.csv', DOG, BARK, RAIN)}",
            f"corpus.fetching.url='{server.base}/{{id}}.wav'", "corpus.fetching.requests_per_minute=null",
            "corpus.fetching.backoff=0.05", "corpus.fetching.attempts=3", "corpus.fetching.timeout=5",
            "~corpus.train", "+corpus.train={train.csv: 'http://none.invalid/train.csv'}",
            "~corpus.evaluation", "+corpus.evaluation={eval.csv: 'http://none.invalid/eval.csv'}",
        )  # fmt: skip
        planned = run(*settings, "prepare.plan_only=true")
        assert not server.requests
        out = run(*settings)
        requests = len(server.requests)
        again = run(*settings)
        assert {request.path for request in server.requests[requests:]} == {f"{video(6)}.wav"}
    assert "left out: 2 segments, excluded category" in planned
    assert planned.splitlines()[0] in out
    folder = tmp_path / "data" / "shards" / "audioset_108"
    manifest = Manifest.read(folder)
    with (folder / "skipped.csv").open(encoding="utf-8", newline="") as file:
        reasons = {restored(row["key"])[:11]: row["reason"] for row in csv.DictReader(file)}
    assert reasons[video(5)] == "removed"
    assert reasons[video(6)] == "refused"
    assert reasons[video(7)] == "too_short"
    assert sorted(reasons) == [video(i) for i in (5, 6, 7, 8)]
    found: Counter[str] = Counter()
    for split in manifest.labels:
        found.update(manifest.labels[split]["labels"])
    assert found == {"Dog": 3, "Rain": 3, "Bark": 1}
    lengths = [sample.length for shard in manifest.shards for sample in read_shard(folder / shard.name)]
    assert lengths == [32_000] * 5
    for reason, count in manifest.skipped.items():
        assert f"skipped: {count} clips, {reason}" in out
    assert "removed" in again
    plan = json.loads((folder / "plan" / "plan.json").read_text())
    assert sum(split["clips"] for split in plan["splits"].values()) == 9

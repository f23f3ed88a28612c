"""Parts: made apart, the same as made in one go; gaps and overlaps are named."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sounds import Fixed, Sounds, contents

from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, merge, prepare, writing


def make(clips: list, folder: Path, part: str) -> int:
    return prepare(Fixed(clips), folder, clips_per_shard=2, part=part).clips


def test_parts_made_at_once_and_merged_are_the_whole(sounds: Sounds, tmp_path: Path) -> None:
    whole = prepare(Fixed(sounds.clips), tmp_path / "whole", clips_per_shard=2)
    with ThreadPoolExecutor(3) as pool:
        parts = [pool.submit(make, sounds.clips, tmp_path / "out", f"{n}/3") for n in (1, 2, 3)]
        assert sum(part.result() for part in parts) == 14
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        Manifest.read(tmp_path / "out")
    assert replace(merge(tmp_path / "out"), folder=whole.folder) == whole
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_whole_takes_what_parts_have_made(sounds: Sounds, tmp_path: Path) -> None:
    prepare(Fixed(sounds.clips), tmp_path / "whole", clips_per_shard=2)
    make(sounds.clips, tmp_path / "out", "2/5")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert before
    prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert before.items() <= {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}.items()


def test_more_parts_than_shards(sounds: Sounds, tmp_path: Path) -> None:
    for n in range(1, 12):
        make(sounds.clips, tmp_path / "out", f"{n}/11")
    assert merge(tmp_path / "out").clips == 14


def test_gaps_and_overlaps_are_named(sounds: Sounds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"out holds no part to merge: make them with prepare\.part=1/N"):
        merge(out)
    make(sounds.clips, out, "1/3")
    with pytest.raises(InputError, match=r"out lacks the parts 2, 3 of 3: run prepare\.part=2/3"):
        merge(out)
    make(sounds.clips, out, "2/3")
    make(sounds.clips[:-1], out, "3/3")
    with pytest.raises(InputError, match="the parts 3 of 3 were planned from other clips or settings than the rest"):
        merge(out)
    make(sounds.clips, out, "3/3")
    make(sounds.clips, out, "1/2")
    with pytest.raises(InputError, match="holds parts of 2 and of 3, which overlap"):
        merge(out)
    (out / "part-0001-of-0002.json").unlink()
    record = out / "part-0002-of-0003.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"shards": content["shards"] | {"train-000000.tar": "other"}}))
    with pytest.raises(InputError, match=r"the parts 1 and 2 of 3 both hold train-000000\.tar"):
        merge(out)
    record.write_text("{")
    with pytest.raises(InputError, match=r"part-0002-of-0003\.json cannot be read .*: make that part again"):
        merge(out)
    make(sounds.clips, out, "2/3")
    (out / "train-000001.tar").unlink()
    with pytest.raises(
        InputError,
        match=r"train-000001\.tar is missing, not whole or not what its part made: run prepare\.part=2/3 again",
    ):
        merge(out)
    make(sounds.clips, out, "2/3")
    assert merge(out).clips == 14


def test_a_part_that_was_begun_anew_is_not_merged(
    sounds: Sounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shards may be of two minds, though its old record agrees with the others."""
    out = tmp_path / "out"
    for n in (1, 2):
        make(sounds.clips, out, f"{n}/2")
    relabelled = [replace(clip, labels={"labels": ["new"]}) for clip in sounds.clips]
    record = (out / "part-0001-of-0002.json").read_text()
    make(relabelled, out, "1/2")
    (out / "part-0001-of-0002.json").write_text(record)
    with pytest.raises(InputError, match=r"not what its part made: run prepare\.part=1/2 again"):
        merge(out)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    make(sounds.clips, out, "1/2")
    with monkeypatch.context() as patch:
        patch.setattr(writing, "pack", killed)
        with pytest.raises(KeyboardInterrupt):
            make(relabelled, out, "1/2")
    with pytest.raises(InputError, match="lacks the parts 1 of 2"):
        merge(out)


def test_a_clip_in_two_shards_is_no_merge(sounds: Sounds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for n in (1, 2):
        make(sounds.clips, out, f"{n}/2")
    for ending in ("tar", "parquet"):
        (out / f"train-000000.{ending}").replace(out / f"train-000001.{ending}")
    for name in ("train-000000", "train-000001"):
        path = out / f"{name}.json"
        content = json.loads(path.read_text())
        (out / f"{name}.tar").write_bytes((out / "train-000002.tar").read_bytes())
        (out / f"{name}.parquet").write_bytes((out / "train-000002.parquet").read_bytes())
        content["shard"]["bytes"] = (out / f"{name}.tar").stat().st_size
        path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="two shards hold the clip"):
        merge(out)

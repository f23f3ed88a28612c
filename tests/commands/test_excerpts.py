"""The audio of transcripts, copied from prepared shards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from sounds import Fixed, Sounds

from w2v_abx.commands.excerpts import save_excerpts
from w2v_abx.data.module import ShardDataModule
from w2v_abx.report.transcripts import MAX_CLIPS, MAX_SECONDS, clip_path
from w2v_abx.shards import prepare, read_shard

ODD = 'ä "b" <c> ' + "x" * 90


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    sounds = Sounds(tmp_path / "raw")
    sounds.add("trained")
    for number in range(MAX_CLIPS + 6):
        sounds.add(f"v{number}", split="valid")
    sounds.add(ODD, seconds=0.3, split="test")
    sounds.add("long", seconds=MAX_SECONDS + 0.1, split="test")
    sounds.add("cropped", seconds=MAX_SECONDS - 1, split="test")
    prepare(Fixed(sounds.clips), tmp_path / "shards", clips_per_shard=4)
    return tmp_path / "shards"


def rated(*keys: str) -> dict[str, Any]:
    return {"transcripts": [{"corpus": "fixed", "key": key} for key in keys]}


def test_short_clips_of_both_splits_are_copied(folder: Path, tmp_path: Path) -> None:
    data = ShardDataModule(folder, num_workers=0)
    odd = next(clip.key for clip in data.labels("test") if clip.samples == 4800)  # as a tar can have it
    many = [f"v{number}" for number in reversed(range(MAX_CLIPS + 6))]
    heads = {"valid": {"phones": rated(*many), "sex": rated()}, "test": {"phones": rated("long", odd)}}
    saved = save_excerpts(tmp_path / "run", data, heads)
    wanted = [*many[:MAX_CLIPS], odd]
    assert saved == [clip_path(tmp_path / "run", "phones", "fixed", key) for key in wanted]
    assert sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file()) == sorted(saved)
    (sample,) = [found for path in folder.glob("*.tar") for found in read_shard(path) if found.key == odd]
    assert np.array_equal(sf.read(saved[-1], dtype="float32")[0], sample.decode())


def test_a_clip_of_which_a_part_was_transcribed_is_left_out(folder: Path, tmp_path: Path) -> None:
    data = ShardDataModule(folder, num_workers=0, eval_crop_seconds=MAX_SECONDS / 2)
    assert not save_excerpts(tmp_path / "run", data, {"test": {"phones": rated("cropped")}})


def test_no_transcripts_read_nothing(folder: Path, tmp_path: Path) -> None:
    data = ShardDataModule(folder, num_workers=0)
    for shard in folder.glob("*.tar"):
        shard.unlink()
    assert save_excerpts(tmp_path / "run", data, {"valid": {"sex": rated()}}) == []

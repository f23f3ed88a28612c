"""Clips taken from what others downloaded: loose files, tars, parquet tables."""

import io
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile as sf
from audioset_lists import DOG, RATE, corpus, noise, video
from loopback import Loopback

from w2v_abx import audio
from w2v_abx.errors import InputError

START, END = 2.0, 4.0
ROWS = [(video(number), START, END, [DOG]) for number in range(3)]


def key(number: int) -> str:
    return f"{video(number)}_2000"


def flac(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, RATE, format="FLAC")
    return buffer.getvalue()


def segment(number: int) -> np.ndarray:
    """The two seconds, as `noise` has them."""
    return np.random.default_rng(number).normal(0, 0.1, 6 * RATE).astype(np.float32)[2 * RATE : 4 * RATE]


def local(tmp_path: Path, place: Path | list[Path], **settings: Any) -> Any:
    places = [str(path) for path in place] if isinstance(place, list) else str(place)
    return corpus(tmp_path, ROWS, **{"sources": ["local"], "local": places} | settings)


def check(made: Any, *numbers: int) -> None:
    failures = made.fetch(made.clips())
    assert {name: failure.reason for name, failure in failures.items()} == {
        key(number): "missing" for number in set(range(3)).difference(numbers)
    }
    for clip in made.clips():
        if clip.key not in failures:
            number = [key(each) for each in range(3)].index(clip.key)
            np.testing.assert_allclose(audio.load(clip.path), segment(number), atol=5e-5)


@pytest.mark.parametrize("name", ["{0}", "Y{0}", "{0}_2", "{0}_2.000", "{0}_2.000_4.000", "{0}_2000_4000", "Y{0}_2000"])
def test_names_of_cut_segments(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy" / "deep"
    folder.mkdir(parents=True)
    for number in (0, 1):
        sf.write(folder / f"{name.format(video(number))}.wav", segment(number), RATE)
    (folder / "notes.txt").write_text("x")
    check(local(tmp_path, tmp_path / "copy"), 0, 1)


def test_whole_videos_and_other_segments_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    noise(folder / f"{video(0)}.flac", 0)
    noise(folder / f"{video(1)}_30000.wav", 9, seconds=2.0)  # the segment from 30 s on
    noise(folder / "somebody_else.wav", 9)
    check(local(tmp_path, folder), 0)


def test_tar_shards(tmp_path: Path) -> None:
    tmp_path.joinpath("copy").mkdir()
    with tarfile.open(tmp_path / "copy" / "00000.tar", "w") as tar:
        for number, name in enumerate((f"audio/{video(0)}.flac", f"../../{video(1)}.flac")):  # a name is but a name
            data = flac(segment(number))
            for member, content in ((name, data), (name.replace(".flac", ".json"), b"{}")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo(f"{video(2)}.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    check(local(tmp_path, tmp_path / "copy" / "00000.tar"), 0, 1)


def mirror(path: Path, rows: dict[str, bytes | None]) -> None:
    """As https://huggingface.co/datasets/agkphysics/AudioSet has them."""
    pl.DataFrame(
        {
            "video_id": list(rows),
            "audio": [{"bytes": data, "path": f"{name}.flac"} for name, data in rows.items()],
            "labels": [[DOG]] * len(rows),
            "human_labels": [["Dog"]] * len(rows),
        },
        schema_overrides={"audio": pl.Struct({"bytes": pl.Binary, "path": pl.String})},
    ).write_parquet(path, row_group_size=2)


def test_parquet_as_the_hugging_face_mirror_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "bal_train"
    folder.mkdir(parents=True)
    others = {f"other-{number:05d}": flac(segment(7)) for number in range(5)}
    mirror(folder / "00.parquet", others | {video(1): flac(segment(1)), video(2): None})
    mirror(folder / "01.parquet", {video(0): flac(segment(0))})
    check(local(tmp_path, tmp_path / "data"), 0, 1)


def test_the_first_source_that_has_a_clip_gives_it(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "site").mkdir()
    for number in range(3):
        noise(tmp_path / "site" / f"{video(number)}.wav", number)
    sf.write(tmp_path / "copy" / f"{video(0)}.wav", segment(0), RATE)
    (tmp_path / "copy" / f"{video(1)}.wav").write_text("this is no sound")
    with Loopback(tmp_path / "site") as server:
        url = f"{server.base}/{{id}}.wav"
        made = local(tmp_path, tmp_path / "copy", sources=["local", "youtube"], url=url)
        check(made, 0, 1, 2)
        assert server.count(f"{video(0)}.wav") == 0
        assert "local" in made.report()
        assert "youtube" in made.report()
        first = local(tmp_path / "b", tmp_path / "copy", sources=["youtube", "local"], url=url)
        check(first, 0, 1, 2)
        assert server.count(f"{video(0)}.wav") > 0


def test_a_copy_that_comes_later_is_tried(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    check(local(tmp_path, tmp_path / "a"))
    sf.write(tmp_path / "b" / f"{video(1)}.wav", segment(1), RATE)
    check(local(tmp_path, [tmp_path / "a", tmp_path / "b"]), 1)


def test_files_added_to_or_repaired_in_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / f"{video(0)}.wav").write_text("this is no sound")

    def failures() -> dict[str, str]:
        made = local(tmp_path, folder)
        return {name: failure.reason for name, failure in made.fetch(made.clips()).items()}

    broken = {key(0): "undecodable", key(1): "missing", key(2): "missing"}
    assert failures() == failures() == broken
    with sqlite3.connect(tmp_path / "root" / "ledger.sqlite") as ledger:  # what has not changed is not read again
        assert ledger.execute("SELECT attempts FROM clips WHERE key=?", [key(0)]).fetchone() == (1,)
    ledger.close()
    sf.write(folder / f"{video(1)}.wav", segment(1), RATE)
    assert failures() == {key(0): "undecodable", key(2): "missing"}
    sf.write(folder / f"{video(0)}.wav", segment(0), RATE)
    check(local(tmp_path, folder), 0, 1)


@pytest.mark.parametrize("damage", ["text", "cut", "silent"])
def test_a_second_copy_stands_in_for_a_damaged_one(tmp_path: Path, damage: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = tmp_path / "a" / f"{video(0)}.flac"
    content = {"text": b"no sound", "cut": flac(segment(0))[:5000], "silent": flac(np.zeros(2 * RATE))}
    first.write_bytes(content[damage])
    sf.write(tmp_path / "b" / f"{video(0)}.wav", segment(0), RATE)
    check(local(tmp_path, [tmp_path / "a", tmp_path / "b"]), 0)


def test_copies_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(InputError, match="fetching.local=.*none does not exist"):
        check(local(tmp_path, tmp_path / "none"))
    for name, content, message in (
        ("a.tar", b"no tar" * 200, "a.tar is damaged or no plain tar"),
        ("a.tar.gz", b"", "is compressed"),
        ("a.parquet", b"PAR1", "a.parquet is damaged or no parquet table"),
    ):
        path = tmp_path / "copy" / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            check(local(tmp_path / name, tmp_path / "copy"))
        path.unlink()
    pl.DataFrame({"id": ["x"]}).write_parquet(tmp_path / "copy" / "b.parquet")
    with pytest.raises(InputError, match="b.parquet has the columns id, not video_id and audio"):
        check(local(tmp_path / "b", tmp_path / "copy"))

"""The index of a prepared folder: where clips lie, how long they are, what they carry."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from sounds import Fixed, Sounds

from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, prepare, read_shard
from w2v_abx.shards.index import INDEX, Index, scan_shard
from w2v_abx.shards.places import Place
from w2v_abx.shards.reading import read_clip


@pytest.fixture
def folder(sounds: Sounds, tmp_path: Path) -> Path:
    sounds.add("ä long name " + "x" * 120, labels="a single one")
    prepare(Fixed(sounds.clips), tmp_path / "out", clips_per_shard=4)
    return tmp_path / "out"


def index_of(folder: Path, split: str = "train") -> Index:
    manifest = Manifest.read(folder)
    return Index.read(Place(str(folder)), manifest, manifest.of(split))


@pytest.mark.parametrize("scanned", [False, True])
def test_each_clip_lies_where_the_index_says(folder: Path, scanned: bool) -> None:
    if scanned:
        (folder / INDEX).unlink()
    for split in ("train", "valid"):
        index = index_of(folder, split)
        for number, shard in enumerate(index.shards):
            content = (folder / shard.name).read_bytes()
            for clip, sample in enumerate(read_shard(folder / shard.name)):
                start, end = index.span(number, clip)
                found = read_clip(shard.name, content[start:end])
                assert (found.key, found.labels, found.length) == (sample.key, sample.labels, sample.length)
                assert bytes(found.audio) == sample.audio
                assert index.samples[index.firsts[number] + clip] == sample.length
        assert index.firsts[-1] == len(index.samples)


SERVED = """
import multiprocessing, sys
from w2v_abx.shards import Manifest, index
from w2v_abx.shards.places import Place

manifest = Manifest.read(sys.argv[1])
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["w2v_abx.shards.index"])
with context.Pool(1) as pool:
    print(len(pool.apply(index.Index.read, (Place(sys.argv[1]), manifest, manifest.of("train"))).samples))
"""


def test_a_process_of_a_fork_server_reads_it(folder: Path) -> None:
    """The server has imported polars, and never used it."""
    found = subprocess.run(
        [sys.executable, "-c", SERVED, str(folder)], check=True, capture_output=True, text=True, timeout=300
    )
    assert int(found.stdout) == len(index_of(folder).samples)


def test_categories_of_every_clip(folder: Path) -> None:
    index = index_of(folder)
    samples = [sample for shard in index.shards for sample in read_shard(folder / shard.name)]
    for field in ("labels", "speaker"):
        numbers, carried = index.categories(field)
        for number, sample in zip(numbers, samples, strict=True):
            value = sample.labels.get(field, [])
            assert list(carried[number]) == sorted({value} if isinstance(value, str) else value)


def test_the_first_clips_alone(folder: Path) -> None:
    manifest = Manifest.read(folder)
    whole = index_of(folder)
    shards = [shard.__class__(**(vars(shard) | {"clips": 2})) for shard in manifest.of("train")]
    part = Index.read(Place(str(folder)), manifest, shards)
    assert part.counts == (2, 2, 2)
    assert part.span(1, 1) == whole.span(1, 1)
    assert part.samples.tolist() == [n for i in (0, 4, 8) for n in whole.samples[i : i + 2]]


def test_it_takes_a_few_bytes_a_clip(folder: Path) -> None:
    index = index_of(folder)
    assert index.samples.nbytes + index.ends.nbytes == 12 * len(index.samples)


def test_scanning_gives_what_preparing_wrote(folder: Path) -> None:
    written = pl.read_parquet(folder / INDEX)
    manifest = Manifest.read(folder)
    for number, shard in enumerate(manifest.shards):
        assert scan_shard(folder / shard.name).equals(written.filter(pl.col("shard") == number).drop("shard"))
    labels = [json.loads(text) for text in written["labels"]]
    assert all("phones" not in fields and "text" not in fields for fields in labels)


def change(folder: Path, **columns: pl.Expr) -> None:
    pl.read_parquet(folder / INDEX).with_columns(**columns).write_parquet(folder / INDEX)


def test_an_index_that_does_not_fit_is_refused(folder: Path) -> None:
    whole = (folder / INDEX).read_bytes()
    for columns, message in (
        ({"shard": pl.col("shard").reverse()}, "does not fit the manifest"),
        ({"shard": pl.col("shard") * 0}, "does not fit the manifest"),
        ({"shard": pl.lit(2**32 - 1)}, "does not fit the manifest"),
        ({"offset": pl.lit(2**64 - 1, pl.UInt64)}, r"does not fit train-000000\.tar"),
        ({"json_offset": pl.lit(2**63, pl.UInt64)}, r"does not fit train-000000\.tar"),
        ({"json_size": pl.lit(2**32 - 1)}, r"does not fit train-000000\.tar"),
        ({"offset": pl.lit(-1)}, "cannot be read"),
        ({"samples": pl.lit(float("nan"))}, "cannot be read"),
        ({"samples": pl.lit(2**32)}, "cannot be read"),
        ({"offset": pl.col("offset") + 10**9}, r"does not fit train-000000\.tar"),
        ({"offset": pl.col("offset") * 0, "json_offset": pl.col("offset") * 0}, r"does not fit train-000000\.tar"),
        ({"samples": pl.lit(None)}, "cannot be read"),
        ({"size": pl.lit("x")}, "cannot be read"),
        ({"samples": pl.col("samples") * 0}, "does not fit"),
    ):
        change(folder, **columns)
        with pytest.raises(InputError, match=rf"index\.parquet {message}"):
            index_of(folder)
        (folder / INDEX).write_bytes(whole)
    for content in (b"", b"text", whole[:-100]):
        (folder / INDEX).write_bytes(content)
        with pytest.raises(InputError, match=r"index\.parquet cannot be read"):
            index_of(folder)


def test_rows_that_cost_nothing_are_not_made(folder: Path) -> None:
    """A few kilobytes of Parquet may claim ten million rows."""
    table = pl.DataFrame({name: pl.repeat(1, 10**7, eager=True, dtype=pl.UInt32) for name in ("shard", "samples")})
    table.write_parquet(folder / INDEX)
    assert (folder / INDEX).stat().st_size < 100_000
    with pytest.raises(InputError, match=r"index\.parquet cannot be read \(it has 10000000 rows in"):
        index_of(folder)


@pytest.mark.parametrize("text", ['{"speaker": [1', '{"speaker": "["}', '{"speaker": "[[[["}', "5", '"', "[" * 10**6])
def test_labels_that_are_none_are_refused_or_empty(folder: Path, text: str) -> None:
    change(folder, labels=pl.lit(text))
    index = index_of(folder)
    with suppress(InputError):
        assert index.categories("speaker")[1] == [()]


def test_clips_are_found_by_their_keys(folder: Path) -> None:
    for split in ("train", "valid"):
        index = index_of(folder, split)
        keys = [sample.key for shard in index.shards for sample in read_shard(folder / shard.name)]
        wanted = [*keys[::2], "none"]
        assert [keys[number] for number in index.find(wanted)] == keys[::2]

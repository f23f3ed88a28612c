"""What a manifest tells, and what is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import Fixed, Sounds

from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, Shard, prepare

GOOD = {"name": "a.tar", "split": "train", "clips": 2, "samples": 9, "bytes": 9999, "sha256": "0a" * 32}
SOUND = {
    "corpus": "c",
    "format": "flac",
    "cleaning": {},
    "listing": "x",
    "shards": [GOOD, GOOD | {"name": "b.tar"}],
    "labels": {"train": {"labels": {"rain": 2}}},
    "skipped": {"silent": 1},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "null",
        '{"shards": [], "shards": []}',
        '{"corpus": "\\ud800"}',
        "[]",
        '{"corpus": 1}',
        '{"shards": [{"name": "../x.tar"}]}',
        '{"shards": [{"name": "x.tar", "split": "", "clips": "1", "samples": 1, "bytes": 1, "sha256": ""}]}',
        "[" * 100_000,
    ],
)
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


@pytest.mark.parametrize(
    "name",
    [
        "../a.tar",
        "/etc/passwd",
        "a.tar;rm",
        "$(id)",
        "a b",
        "-rf",
        ".a",
        "..",
        "a/b",
        "",
        "`id`",
        "a\n",
        "a\0",
        "a" * 300,
        3,
    ],
)
def test_only_plain_names_reach_a_path_a_shell_or_a_server(name: Any) -> None:
    with pytest.raises(ValueError, match="^name is "):
        Shard(**GOOD | {"name": name})
    with pytest.raises(ValueError, match="^name is "):
        replace(Shard(**GOOD), name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../victim"},
        {"sha256": "0a" * 31},
        {"sha256": "0a" * 32 + "\n"},
        {"sha256": "0A" * 32},
        {"sha256": 5},
        {"split": ["train"]},
        {"split": "../train"},
        {"clips": True},
        {"clips": -1},
        {"clips": 1.0},
        {"clips": 10**18},
        {"clips": 5},  # in 9999 bytes
        {"samples": -1},
        {"samples": "9"},
        {"bytes": 2**64},
        {"bytes": None},
    ],
)
def test_a_shard_that_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(SOUND | {"shards": [GOOD | change]}))
    with pytest.raises(InputError, match=r"manifest\.json cannot be read \("):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": [GOOD, GOOD]},
        {"shards": {"a": GOOD}},
        {"shards": None},
        {"shards": ["a.tar"]},
        {"labels": 5},
        {"labels": {"train": [1]}},
        {"labels": {"train": {"labels": {"rain": -1}}}},
        {"labels": {"train": {"labels": {"rain": "2"}}}},
        {"skipped": [1]},
        {"skipped": {"silent": True}},
        {"format": "../../flac"},
        {"corpus": "a\x1b[31m"},
        {"corpus": ""},
        {"listing": None},
        {"cleaning": "none"},
    ],
)
def test_a_manifest_of_another_form(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(SOUND | change))
    with pytest.raises(InputError, match=r"manifest\.json cannot be read \("):
        Manifest.read(tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from([*SOUND, *(f"shards.{name}" for name in GOOD)]), value=JSON)
def test_any_value_in_any_place_is_refused_or_of_use(tmp_path: Path, place: str, value: Any) -> None:
    field, _, inner = place.partition(".")
    shards = [GOOD | {inner: value}] if inner else SOUND["shards"]
    (tmp_path / "manifest.json").write_text(json.dumps(SOUND | {"shards": shards} | ({} if inner else {field: value})))
    try:
        manifest = Manifest.read(tmp_path)
    except InputError:
        return
    assert manifest.clips >= 0
    assert manifest.hours >= 0
    assert all(
        shard.name.isprintable() for split in manifest.splits for shard in manifest.shards if shard.split == split
    )
    manifest.write()
    assert Manifest.read(tmp_path) == manifest

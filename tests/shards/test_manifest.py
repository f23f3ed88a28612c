"""What a manifest tells, and what is none."""

from pathlib import Path

import pytest
from sounds import Fixed, Sounds

from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, prepare


@pytest.mark.parametrize(
    "text",
    [
        "{",
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

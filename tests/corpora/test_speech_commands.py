"""Speech Commands as its archive unpacks."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from loopback import Loopback
from trees import by_key, configured, downloading, grow, readable

from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

BACKGROUND = "corpus.cut._background_noise_=1.0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grow(
        tmp_path / "gsc",
        {
            "README.md": "",
            "LICENSE": "",
            "validation_list.txt": "bed/026290a7_nohash_0.wav\nyes/026290a7_nohash_0.wav\n",
            "testing_list.txt": "bed/0c40e715_nohash_0.wav\n",
            "bed/026290a7_nohash_0.wav": 1.0,
            "bed/0c40e715_nohash_0.wav": 1.0,
            "bed/00176480_nohash_0.wav": 1.0,
            "bed/00176480_nohash_1.wav": 0.7,
            "yes/026290a7_nohash_0.wav": 1.0,
            "_background_noise_/README.md": "",
            "_background_noise_/pink_noise.wav": 10.5,
        },
    )


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("speech_commands", f"corpus.root={tree}").clips())
    assert {key: clip.split for key, clip in clips.items()} == {
        "bed/00176480_nohash_0": "train",
        "bed/00176480_nohash_1": "train",
        "bed/026290a7_nohash_0": "valid",
        "bed/0c40e715_nohash_0": "test",
        "yes/026290a7_nohash_0": "valid",
    }
    assert clips["bed/00176480_nohash_1"].labels == {
        "labels": ["bed"],
        "text": "bed",
        "speaker": "00176480",
        "language": "en",
    }
    readable(list(clips.values()))


def test_words_and_background(tree: Path) -> None:
    clips = by_key(configured("speech_commands", f"corpus.root={tree}", 'corpus.only.labels=["yes"]').clips())
    assert list(clips) == ["yes/026290a7_nohash_0"]
    noise = by_key(configured("speech_commands", f"corpus.root={tree}", BACKGROUND).clips())
    cut = [(clip.start, clip.end, clip.split) for key, clip in noise.items() if key.startswith("_background_noise_/")]
    splits = ["train"] * 8 + ["valid", "test"]
    assert cut == [(float(second), second + 1.0, split) for second, split in enumerate(splits)]
    readable(list(noise.values()))


def test_prepared_with_what_is_missing(tree: Path, tmp_path: Path) -> None:
    (tree / "bed/0c40e715_nohash_0.wav").unlink()
    manifest = prepare(configured("speech_commands", f"corpus.root={tree}", BACKGROUND), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (14, {"missing": 1})
    assert manifest.labels["valid"]["labels"] == {"_background_noise_": 1, "bed": 1, "yes": 1}


def test_downloaded_when_absent(tree: Path) -> None:
    with tarfile.open(tree / "speech_commands.tar.gz", "w:gz") as tar:
        tar.add(tree, ".", filter=lambda member: None if member.name.endswith(".gz") else member)
    sum_ = hashlib.sha256((tree / "speech_commands.tar.gz").read_bytes()).hexdigest()
    with Loopback(tree) as server:
        overrides = downloading(server.url("speech_commands.tar.gz"), f"sha256:{sum_}")
        assert len(configured("speech_commands", f"corpus.root={tree.parent}/here", *overrides).clips()) == 5


@pytest.mark.parametrize(
    ("files", "override", "message"),
    [
        (
            {},
            "corpus.only.labels=[no]",
            r"corpus.only.labels=\['no'\] must be a list of some of bed, yes, each once, or null for all; 'no'",
        ),
        (
            {},
            "corpus.root=nowhere",
            "corpus.root=nowhere holds no testing_list.txt: give corpus.download=true, or unpack",
        ),
        ({"bed/x.wav": 0.1}, "", r"bed/x.wav: its name does not match corpus.name_pattern='.*_nohash_"),
        ({"testing_list.txt": "0_nohash_0.wav\n"}, "", "testing_list.txt, line 1: 0_nohash_0.wav lies in no folder"),
        ({"testing_list.txt": "../a/0_nohash_0.wav\n"}, "", "testing_list.txt, line 1: '../a/0_n.*' leads out of"),
    ],
)
def test_what_does_not_fit(tree: Path, files: dict[str, str | bytes | float], override: str, message: str) -> None:
    grow(tree, files)
    with pytest.raises(InputError, match=message):
        configured("speech_commands", f"corpus.root={tree}", *filter(None, [override])).clips()

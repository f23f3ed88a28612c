"""ESC-50 as GitHub packs it."""

import shutil
from pathlib import Path

import pytest
from loopback import Loopback
from trees import by_key, configured, downloading, grow, readable

from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

HEADER = "filename,fold,target,category,esc10,src_file,take\n"
ROWS = [
    "1-100032-A-0.wav,1,0,dog,True,100032,A\n",
    "2-100038-A-14.wav,2,14,chirping_birds,False,100038,A\n",
    "3-1-A-0.wav,3,0,dog,True,1,A\n",
    "4-2-A-0.wav,4,0,dog,True,2,A\n",
    "5-3-B-14.wav,5,14,chirping_birds,False,3,B\n",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files: dict[str, str | bytes | float] = {"meta/esc50.csv": HEADER + "".join(ROWS), "README.md": ""}
    files |= {f"audio/{row.partition(',')[0]}": 0.5 for row in ROWS}
    return grow(tmp_path, {f"ESC-50-master/{name}": content for name, content in files.items()})


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("esc50", f"corpus.root={tree}").clips())
    assert [clip.split for clip in clips.values()] == ["train", "train", "train", "valid", "test"]
    assert clips["2-100038-A-14"].labels == {"labels": ["chirping_birds"], "fold": "2", "recording": "100038"}
    assert [clip.licence for clip in clips.values()] == ["CC BY", "CC BY-NC", "CC BY", "CC BY", "CC BY-NC"]
    readable(list(clips.values()))


def test_only_esc10_and_other_folds(tree: Path) -> None:
    overrides = ('corpus.only.esc10=["True"]', "corpus.valid.values=[1]", "corpus.test=null")
    clips = by_key(configured("esc50", f"corpus.root={tree}/ESC-50-master", *overrides).clips())
    assert {key: clip.split for key, clip in clips.items()} == {
        "1-100032-A-0": "valid",
        "3-1-A-0": "train",
        "4-2-A-0": "train",
    }


def test_prepared_with_what_is_missing(tree: Path, tmp_path: Path) -> None:
    (tree / "ESC-50-master/audio/3-1-A-0.wav").unlink()
    manifest = prepare(configured("esc50", f"corpus.root={tree}"), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (4, {"missing": 1})
    assert manifest.labels["train"]["labels"] == {"chirping_birds": 1, "dog": 1}


def test_downloaded_when_absent(tree: Path) -> None:
    shutil.make_archive(str(tree / "master"), "zip", tree, "ESC-50-master")
    with Loopback(tree) as server:
        for _ in range(2):
            corpus = configured("esc50", f"corpus.root={tree}/here", *downloading(server.url("master.zip")))
            assert len(corpus.clips()) == 5
        assert server.count("master.zip") == 1


def test_an_unpacking_that_was_killed_is_done_again(tree: Path) -> None:
    here = grow(tree / "here", {"ESC-50-master/meta/esc50.csv": HEADER})
    shutil.make_archive(str(here / "master"), "zip", tree, "ESC-50-master")
    corpus = configured("esc50", f"corpus.root={here}", *downloading("http://127.0.0.1:9/master.zip"))
    assert len(corpus.clips()) == 5
    assert not (here / "master.zip").exists()


@pytest.mark.parametrize(
    ("table", "overrides", "message"),
    [
        (None, ["corpus.root=nowhere"], "corpus.root=nowhere holds no meta/esc50.csv: give corpus.download=true"),
        (None, ["corpus.valid.values=[6]"], r"corpus.valid.values: no clip has fold='6' \(values: 1, 2, 3, 4, 5\)"),
        (None, ["corpus.valid.values=[5]"], "corpus.valid and corpus.test both hold out 5-3-B-14"),
        (None, ["corpus.test.values=5"], r"corpus.test.values=5 must be a list, such as \[5\]"),
        (None, ["corpus.only.esc10=[yes]"], r"corpus.only.esc10=\['yes'\] must be a list of some of False, True"),
        ("filename,fold\n", [], "lacks the column 'category'"),
        (
            HEADER + ROWS[1].replace("2-1", "../2-1"),
            ["corpus.valid=null", "corpus.test=null"],
            "esc50.csv, line 2: '../2-1.* is not the name of a file",
        ),
    ],
)
def test_what_does_not_fit(tree: Path, table: str | None, overrides: list[str], message: str) -> None:
    if table is not None:
        grow(tree, {"ESC-50-master/meta/esc50.csv": table})
    with pytest.raises(InputError, match=message):
        configured("esc50", f"corpus.root={tree}", *overrides).clips()

"""UrbanSound8K as Zenodo publishes it."""

import hashlib
import shutil
from pathlib import Path

import pytest
from loopback import Loopback
from trees import by_key, configured, downloading, grow, readable

from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
ROWS = [
    "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n",
    "100263-2-0-117.wav,100263,58.5,62.5,2,9,2,children_playing\n",
    "100648-1-0-0.wav,100648,4.823402,5.471927,2,10,1,car_horn\n",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files: dict[str, str | bytes | float] = {"metadata/UrbanSound8K.csv": HEADER + "".join(ROWS)}
    files |= {f"audio/fold{row.split(',')[5]}/{row.split(',')[0]}": 0.5 for row in ROWS}
    return grow(tmp_path, {f"UrbanSound8K/{name}": content for name, content in files.items()})


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("urbansound8k", f"corpus.root={tree}").clips())
    assert {key: clip.split for key, clip in clips.items()} == {
        "100032-3-0-0": "train",
        "100263-2-0-117": "valid",
        "100648-1-0-0": "test",
    }
    assert clips["100263-2-0-117"].labels == {
        "labels": ["children_playing"],
        "fold": "9",
        "recording": "100263",
        "salience": "background",
    }
    assert clips["100263-2-0-117"].end is None  # files are cut already; start and end are times in their sources
    readable(list(clips.values()))


def test_prepared_with_what_is_missing(tree: Path, tmp_path: Path) -> None:
    next(tree.rglob("100648*.wav")).unlink()
    manifest = prepare(configured("urbansound8k", f"corpus.root={tree}/UrbanSound8K"), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (2, {"missing": 1})


def test_downloaded_when_absent(tree: Path) -> None:
    archive = Path(shutil.make_archive(str(tree / "UrbanSound8K"), "gztar", tree, "UrbanSound8K"))
    sum_ = hashlib.md5(archive.read_bytes()).hexdigest()
    with Loopback(tree) as server:
        overrides = downloading(server.url(archive.name), f"md5:{sum_}")
        assert len(configured("urbansound8k", f"corpus.root={tree}/here", *overrides).clips()) == 3


def test_what_does_not_fit(tree: Path) -> None:
    with pytest.raises(
        InputError, match="holds no metadata/UrbanSound8K.csv: .*unpack https://zenodo.org/records/1203745"
    ):
        configured("urbansound8k", f"corpus.root={tree}/nowhere").clips()
    with pytest.raises(InputError, match=r"corpus.test.values: no clip has fold='11' \(values: 5, 9, 10\)"):
        configured("urbansound8k", f"corpus.root={tree}", "corpus.test.values=[11]").clips()


@pytest.mark.parametrize("name", ["/etc/secret.wav", "../../../x.wav", ".."])
def test_names_that_lead_elsewhere(tree: Path, name: str) -> None:
    table = tree / "UrbanSound8K/metadata/UrbanSound8K.csv"
    fields = ROWS[0].split(",")
    corpus = configured("urbansound8k", f"corpus.root={tree}", "corpus.valid=null", "corpus.test=null")
    table.write_text(HEADER + ",".join([name, *fields[1:]]))
    with pytest.raises(InputError, match=rf"UrbanSound8K.csv, line 2: '{name}' is not the name of a file"):
        corpus.clips()
    table.write_text(HEADER + ",".join([*fields[:5], "/../../..", *fields[6:]]))
    with pytest.raises(InputError, match=r"line 2: '/../../..' is not the name of a file.*column 'fold'"):
        corpus.clips()

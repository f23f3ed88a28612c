"""FSD50K as Zenodo publishes it."""

import hashlib
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Loopback
from told import told
from trees import by_key, configured, grow, readable

from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

TRUTH, META = "FSD50K.ground_truth", "FSD50K.metadata"
DEV = """\
fname,labels,mids,split
64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train
63199,Music,/m/04rlf,val
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    info = {"title": "t", "description": "d", "tags": [], "uploader": "u"}
    licences = {
        "64760": info | {"license": "http://creativecommons.org/licenses/by-nc/3.0/"},
        "63199": info | {"license": "http://creativecommons.org/publicdomain/zero/1.0/"},
    }
    return grow(
        tmp_path,
        {
            f"{TRUTH}/dev.csv": DEV,
            f"{TRUTH}/eval.csv": "fname,labels,mids\n37199,Guitar,/m/0342h\n",
            f"{TRUTH}/vocabulary.csv": "0,Electric_guitar,/m/02sgy\n1,Guitar,/m/0342h\n2,Music,/m/04rlf\n",
            f"{META}/dev_clips_info_FSD50K.json": json.dumps(licences),
            "FSD50K.dev_audio/64760.wav": 0.5,
            "FSD50K.dev_audio/63199.wav": 0.5,
            "FSD50K.eval_audio/37199.wav": 0.5,
        },
    )


def fetched(files: list[Path], url: str) -> list[str]:
    """Overrides that fetch these files, parts of zips and whole ones, instead of those at Zenodo."""
    archives = []
    for folder in (TRUTH, META, "FSD50K.dev_audio", "FSD50K.eval_audio"):
        parts = [
            f"{{url: '{url.format(path.name)}', md5: '{hashlib.md5(path.read_bytes()).hexdigest()}'}}"
            for path in files
            if path.stem == folder
        ]
        archives.append(f"{{makes: {folder}, parts: [{', '.join(parts)}]}}")
        if len(parts) == 1:
            archives[-1] = f"{{makes: {folder}, {parts[0][1:]}"
    return ["corpus.download=true", f"corpus.archives=[{', '.join(archives)}]"]


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("fsd50k", f"corpus.root={tree}").clips())
    assert {key: clip.split for key, clip in clips.items()} == {"37199": "test", "63199": "valid", "64760": "train"}
    assert clips["64760"].labels == {
        "labels": ["Electric_guitar", "Guitar", "Music"],
        "mids": ["/m/02sgy", "/m/0342h", "/m/04rlf"],
    }
    assert [clip.licence for clip in clips.values()] == ["CC (see FSD50K.metadata)", "CC0", "CC BY-NC"]
    readable(list(clips.values()))


def test_prepared_with_what_is_missing(tree: Path, tmp_path: Path) -> None:
    (tree / "FSD50K.dev_audio/63199.wav").unlink()
    manifest = prepare(configured("fsd50k", f"corpus.root={tree}"), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (2, {"missing": 1})
    assert manifest.labels["train"]["labels"] == {"Electric_guitar": 1, "Guitar": 1, "Music": 1}


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP's zip to cut an archive")
def test_parts_are_downloaded_joined_and_unpacked(tree: Path) -> None:
    grow(tree, {"FSD50K.dev_audio/1.wav": 5.0, "FSD50K.eval_audio/2.wav": 3.0})
    for folder in (TRUTH, META, "FSD50K.dev_audio", "FSD50K.eval_audio"):
        split = ["-s", "64k"] if "audio" in folder else []
        subprocess.run(["zip", "-q0r", *split, f"{folder}.zip", folder], cwd=tree, check=True)
    files = sorted(tree.glob("FSD50K.*.z*"))
    assert len(files) > 6
    with Loopback(tree) as server:
        here = tree / "here"
        corpora = [configured("fsd50k", f"corpus.root={here}", *fetched(files, server.url("{}"))) for _ in range(4)]
        with ThreadPoolExecutor(3) as pool:  # at the same time, and once more
            for clips in pool.map(lambda corpus: corpus.clips(), corpora):
                assert len(clips) == 3
        assert sorted(path.name for path in here.iterdir()) == sorted(
            [TRUTH, META, "FSD50K.dev_audio", "FSD50K.eval_audio"]
        )
        assert all(server.count(path.name) == 1 for path in files)
        assert (here / "FSD50K.dev_audio/1.wav").read_bytes() == (tree / "FSD50K.dev_audio/1.wav").read_bytes()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({f"{TRUTH}/dev.csv": DEV.replace("val", "dev")}, "dev.csv, line 3: split='dev' is no split: use train"),
        (
            {f"{TRUTH}/dev.csv": DEV.replace("63199,Music", "63199,Noise")},
            "dev.csv, line 3: 'Noise' is not in .*vocabulary.csv",
        ),
        (
            {f"{TRUTH}/dev.csv": DEV.replace("63199,", "../63199,")},
            "dev.csv, line 3: '../63199' is not the name of a file",
        ),
        ({f"{TRUTH}/eval.csv": "fname,labels\n"}, "eval.csv lacks the column 'mids'"),
        ({f"{TRUTH}/vocabulary.csv": "Guitar\n"}, "dev.csv, line 2: 'Electric_guitar' is not in .*vocabulary.csv"),
        ({f"{META}/dev_clips_info_FSD50K.json": "{"}, "dev_clips_info_FSD50K.json is not JSON with columns for"),
    ],
)
def test_files_that_do_not_fit(
    tree: Path, files: dict[str, str | bytes | float], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    grow(tree, files)
    assert re.search(message, told(caplog, configured("fsd50k", f"corpus.root={tree}").clips))


def test_an_unpacking_of_parts_that_was_killed_is_done_again(tree: Path) -> None:
    left = ["FSD50K.dev_audio.z02", "FSD50K.dev_audio.z05", "FSD50K.dev_audio.zip", "FSD50K.eval_audio.z01"]
    shutil.make_archive(str(tree / "FSD50K.dev_audio.joined"), "zip", tree, "FSD50K.dev_audio")
    (tree / "FSD50K.dev_audio/64760.wav").unlink()
    grow(tree, dict.fromkeys(left, b"x"))
    assert len(configured("fsd50k", f"corpus.root={tree}", "corpus.download=true").clips()) == 3
    assert (tree / "FSD50K.dev_audio/64760.wav").exists()
    # Nobody joined those of eval: whoever laid one there wants it.
    assert [path.name for path in tree.glob("FSD50K.*.z*")] == ["FSD50K.eval_audio.z01"]


def test_an_absent_tree_says_how_to_join_the_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no FSD50K.ground_truth.*`zip -s 0 FSD50K.dev_audio.zip --out"):
        configured("fsd50k", f"corpus.root={tmp_path}").clips()

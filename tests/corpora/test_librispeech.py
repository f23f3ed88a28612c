"""LibriSpeech as openslr.org publishes it, with phone times from the Montreal Forced Aligner."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from loopback import Loopback
from trees import by_key, configured, grow, measured, readable, textgrid

from w2v_abx.corpora import librispeech
from w2v_abx.corpora.librispeech import LibriSpeech
from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, prepare

SPEAKERS = """\
; Some pipe(|) separated metadata about all LibriSpeech speakers
;ID  |SEX| SUBSET           |MINUTES| NAME
84   | F | dev-clean        |  8.02 | Christie Nowak
26   | M | train-clean-100  | 25.08 | Denny Sayers
61   | M | test-clean       |  8.08 | Paul-Gabriel Wiener
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    chapter = "LibriSpeech/{0}/{1}/{2}/{1}-{2}"
    files: dict[str, str | bytes | float] = {"LibriSpeech/SPEAKERS.TXT": SPEAKERS, "LibriSpeech/README.TXT": "read me"}
    for subset, speaker, book, text in (
        ("train-clean-100", "26", "495", "AND SO"),
        ("dev-clean", "84", "121123", "GO DO YOU HEAR"),
        ("test-clean", "61", "70968", "HE BEGAN"),
    ):
        name = chapter.format(subset, speaker, book)
        files[f"{name}.trans.txt"] = f"{speaker}-{book}-0000 {text}\n{speaker}-{book}-0001 BUT IN LESS\n"
        files[f"{name}-0000.flac"] = files[f"{name}-0001.flac"] = 0.5
    return grow(tmp_path, files)


def aligned(tree: Path, subset: str = "dev-clean") -> Path:
    words = [(0, 0.1, ""), (0.1, 0.3, "go"), (0.3, 0.5, "")]
    phones = [(0, 0.1, "sil"), (0.1, 0.2, "G"), (0.2, 0.3, "OW1"), (0.3, 0.5, "sp")]
    name = f"{subset}/84/121123/84-121123-0000.TextGrid"
    return grow(tree / "times", {name: textgrid(words=words, phones=phones), "unaligned.txt": ""})


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("librispeech", f"corpus.root={tree}").clips())
    assert {key: clip.split for key, clip in clips.items()} == {
        "26-495-0000": "train",
        "26-495-0001": "train",
        "61-70968-0000": "test",
        "61-70968-0001": "test",
        "84-121123-0000": "valid",
        "84-121123-0001": "valid",
    }
    assert clips["84-121123-0000"].labels == {
        "speaker": "84",
        "subset": "dev-clean",
        "language": "en",
        "sex": "female",
        "text": "GO DO YOU HEAR",
    }
    readable(list(clips.values()))


def test_the_folder_of_the_subsets_itself_and_what_is_there(tree: Path) -> None:
    clips = LibriSpeech(tree / "LibriSpeech", subsets=None).clips()
    assert {clip.labels["subset"] for clip in clips} == {"train-clean-100", "dev-clean", "test-clean"}


def test_phone_times_without_stress_unless_asked(tree: Path) -> None:
    times = aligned(tree)
    clips = by_key(LibriSpeech(tree, subsets=["dev-clean"], alignments=times).clips())
    assert clips["84-121123-0000"].labels["phones"] == [
        [0, 0.1, "sil"],
        [0.1, 0.2, "G"],
        [0.2, 0.3, "OW"],
        [0.3, 0.5, "sp"],
    ]
    assert clips["84-121123-0000"].labels["words"] == [[0.1, 0.3, "go"]]
    assert "phones" not in clips["84-121123-0001"].labels
    stressed = by_key(LibriSpeech(tree, subsets=["dev-clean"], alignments=times, stress=True).clips())
    assert stressed["84-121123-0000"].labels["phones"][2][2] == "OW1"


def test_recordings_that_the_disk_lacks_are_counted_by_prepare(tree: Path, tmp_path: Path) -> None:
    (tree / "LibriSpeech/dev-clean/84/121123/84-121123-0001.flac").unlink()
    manifest = prepare(LibriSpeech(tree, subsets=["dev-clean"]), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (1, {"missing": 1})
    assert manifest.labels["valid"]["sex"] == {"female": 1}
    assert Manifest.read(tmp_path / "shards") == manifest


def test_recordings_without_a_transcript_are_clips_without_text(tree: Path) -> None:
    grow(tree, {"LibriSpeech/dev-clean/84/121123/84-121123-0002.flac": 0.1})
    clips = by_key(LibriSpeech(tree, subsets=["dev-clean"]).clips())
    assert "text" not in clips["84-121123-0002"].labels
    (tree / "LibriSpeech/SPEAKERS.TXT").unlink()
    assert "sex" not in LibriSpeech(tree, subsets=["dev-clean"]).clips()[0].labels


def test_what_is_absent_is_downloaded_checked_and_unpacked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tree / "dev-clean.tar.gz", "w:gz") as tar:
        tar.add(tree / "LibriSpeech/dev-clean", "LibriSpeech/dev-clean")
        tar.add(tree / "LibriSpeech/SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
    sum_ = hashlib.sha256((tree / "dev-clean.tar.gz").read_bytes()).hexdigest()
    with Loopback(tree) as server:
        monkeypatch.setattr(librispeech, "URL", server.url("{}.tar.gz"))
        monkeypatch.setitem(librispeech.SHA256, "dev-clean", sum_)
        here = tree / "here"
        for _ in range(2):
            corpus = configured(
                "librispeech", f"corpus.root={here}", "corpus.subsets=[dev-clean]", "corpus.download=true"
            )
            assert [clip.labels["sex"] for clip in corpus.clips()] == ["female", "female"]
        assert server.count("dev-clean.tar.gz") == 1
        assert [path.name for path in here.iterdir()] == ["LibriSpeech"]
        monkeypatch.setitem(librispeech.SHA256, "dev-clean", "0" * 64)
        with pytest.raises(InputError, match="0000 was published"):
            LibriSpeech(tree / "there", subsets=["dev-clean"], download=True).clips()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subsets": ["dev"]}, "corpus.subsets=.* some of dev-clean, dev-other.*'dev' is none of them"),
        ({"subsets": "dev-clean"}, r"corpus.subsets='dev-clean' must be a list, such as \[dev-clean\]"),
        ({"subsets": []}, r"corpus.subsets=\[\] must be a list of some of dev-clean"),
        (
            {"subsets": ["dev-other"]},
            r"holds no dev-other: give corpus.download=true, or unpack https.*dev-other.tar.gz",
        ),
        ({"alignments": "nowhere"}, "corpus.alignments=nowhere holds no dev-clean: .*librispeech_alignments.zip"),
    ],
)
def test_settings_that_do_not_fit(tree: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        LibriSpeech(tree, **settings).clips()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("SPEAKERS.TXT", "84 | X | dev-clean\n", r"SPEAKERS.TXT, line 1: '84 \| X"),
        ("dev-clean/84/121123/84-121123.trans.txt", "84-121123-0000\n", "trans.txt, line 1: '84-121123-0000' is not"),
        ("dev-clean/84/121123/84-121123.trans.txt", b"84-121123-0000 \xff\n", "trans.txt cannot be read as UTF-8"),
        ("dev-clean/84/121123/noise.flac", 0.1, "'noise' is not named SPEAKER-CHAPTER-NNNN"),
    ],
)
def test_files_that_break_the_layout(tree: Path, name: str, text: str, message: str) -> None:
    grow(tree / "LibriSpeech", {name: text})
    with pytest.raises(InputError, match=message):
        LibriSpeech(tree, subsets=["dev-clean"]).clips()


def test_alignments_of_other_clips(tree: Path) -> None:
    grow(tree / "times", {"dev-clean/1/1/1-1-0000.TextGrid": ""})
    with pytest.raises(InputError, match="holds no TextGrid of these clips"):
        LibriSpeech(tree, subsets=["dev-clean"], alignments=tree / "times").clips()


def test_the_abx_preset_finds_published_items_in_the_tree(tree: Path) -> None:
    items = "#file onset offset #phone prev-phone next-phone speaker\n84-121123-0000 0.1 0.3 OW G DH 84\n"
    grow(tree, {"librilight/dev-clean.item": items})
    speech = measured(
        "librispeech_dev_clean", f"paths.data={tree}", f"abx.root={tree}/LibriSpeech/dev-clean", "model=tiny"
    )
    assert speech.files["84-121123-0000"].name == "84-121123-0000.flac"
    grow(tree, {"zs/dev-clean/dev-clean.item": items, "zs/dev-clean/84-121123-0000.wav": 0.5})
    assert measured("zerospeech2021", f"abx.root={tree}/zs/dev-clean").files["84-121123-0000"].suffix == ".wav"


def test_an_utterance_that_leads_elsewhere(tree: Path) -> None:
    path = next(tree.rglob("84-121123.trans.txt"))
    path.write_text("84-121123-/../../../secret TEXT\n")
    with pytest.raises(InputError, match=r"84-121123.trans.txt, line 1: .* is not an utterance of it"):
        LibriSpeech(tree).clips()

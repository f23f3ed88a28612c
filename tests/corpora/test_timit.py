"""TIMIT in the layout of its disc."""

from pathlib import Path

import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from trees import by_key, configured, grow, measured, readable

from w2v_abx.abx.speech import from_phones
from w2v_abx.alignment.annotations import Annotated
from w2v_abx.alignment.timed import Timed
from w2v_abx.corpora.timit import CORE_TEST, DEVELOPMENT, SYMBOLS, Timit, fold
from w2v_abx.errors import InputError
from w2v_abx.items.files import ItemFile, ItemSettings, require_stops
from w2v_abx.shards import prepare

PHN = "0 1600 h#\n1600 2400 sh\n2400 3200 ix\n3200 4000 q\n4000 4800 ae\n4800 5600 tcl\n5600 6400 t\n6400 8000 h#\n"
WRD = "1600 3200 she\n4000 6400 at\n"
TXT = "0 8000 She ate, Mary's.\n"


def utterance(place: str, audio: str = ".WAV", upper: bool = True) -> dict[str, str | bytes | float]:
    files: dict[str, str | bytes | float] = {f"{place}.PHN": PHN, f"{place}.WRD": WRD, f"{place}.TXT": TXT}
    files = files if upper else {name.lower(): content for name, content in files.items()}
    return {**files, f"{place}{audio}": 0.5}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files: dict[str, str | bytes | float] = {"DOC/TESTSET.DOC": "", "TRAIN/DR1/FCJF0/NOTES.DOC": ""}
    for place in (
        "TRAIN/DR1/FCJF0/SA1",
        "TRAIN/DR1/FCJF0/SI1027",
        "TRAIN/DR8/MBCG0/SX57",
        "TEST/DR1/FELC0/SX36",  # core test set
        "TEST/DR1/FAKS0/SX43",  # development set
        "TEST/DR3/FPKT0/SA2",
        "TEST/DR2/FCMR0/SX25",  # neither
    ):
        files |= utterance(place)
    return grow(tmp_path / "TIMIT", files).parent


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("timit", f"corpus.root={tree}").clips())
    assert {key: clip.split for key, clip in clips.items()} == {
        "FAKS0_SX43": "valid",
        "FCJF0_SI1027": "train",
        "FELC0_SX36": "test",
        "MBCG0_SX57": "train",
    }
    assert clips["MBCG0_SX57"].labels == {
        "speaker": "MBCG0",
        "sex": "male",
        "accent": "Army Brat",
        "sentence": "SX57",
        "language": "en",
        "text": "She ate, Mary's.",
        "phones": [
            [0, 0.1, "sil"],
            [0.1, 0.15, "sh"],
            [0.15, 0.2, "ix"],
            [0.25, 0.3, "ae"],
            [0.3, 0.35, "cl"],
            [0.35, 0.4, "t"],
            [0.4, 0.5, "sil"],
        ],
        "words": [[0.1, 0.2, "she"], [0.25, 0.4, "at"]],
    }
    assert clips["FCJF0_SI1027"].labels["sex"] == "female"
    assert sf.info(clips["FCJF0_SI1027"].path).format == "NIST"
    readable(list(clips.values()))


def test_the_complete_test_set_and_the_sentences_of_all(tree: Path) -> None:
    splits = {clip.key: clip.split for clip in Timit(tree, test="complete", sa=True).clips()}
    assert splits == {
        "FAKS0_SX43": "test",
        "FCJF0_SA1": "train",
        "FCJF0_SI1027": "train",
        "FCMR0_SX25": "test",
        "FELC0_SX36": "test",
        "FPKT0_SA2": "test",
        "MBCG0_SX57": "train",
    }


def test_small_letters_and_copies_in_another_format(tmp_path: Path) -> None:
    files = utterance("data/train/dr1/fcjf0/si1027", ".wav", upper=False)
    files |= utterance("data/TRAIN/DR1/FCJF0/SX37", ".WAV") | {"data/TRAIN/DR1/FCJF0/SX37.WAV.wav": 0.5}
    clips = by_key(Timit(grow(tmp_path, files)).clips())
    assert clips["FCJF0_SI1027"].path.name == "si1027.wav"
    assert clips["FCJF0_SX37"].path.name == "SX37.WAV.wav"
    assert "phones" in clips["FCJF0_SI1027"].labels
    readable(list(clips.values()))


def test_audio_that_the_disk_lacks_is_counted_by_prepare(tree: Path, tmp_path: Path) -> None:
    (tree / "TIMIT/TRAIN/DR1/FCJF0/SI1027.WAV").unlink()
    manifest = prepare(Timit(tree), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (3, {"missing": 1})
    assert manifest.labels["train"]["phones"]["sil"] == 1


def test_folding_as_lee_and_hon_count() -> None:
    assert len(set(SYMBOLS)) == 61
    assert {size: len({fold(phone, size) for phone in SYMBOLS} - {None}) for size in (61, 48, 39)} == {
        61: 61,
        48: 48,
        39: 39,
    }
    # The groups of table 3 of the paper.
    groups = ["sil cl vcl epi", "el l", "en n", "sh zh", "ao aa", "ih ix", "ah ax"]
    for group in groups:
        assert len({fold(phone, 39) for phone in SYMBOLS if fold(phone, 48) in group.split()}) == 1
    assert [fold("q", size) for size in (61, 48, 39)] == ["q", None, None]


@given(st.sampled_from(sorted(set(SYMBOLS) - {"q"})), st.sampled_from([48, 39]))
def test_folding_twice_is_folding_once(phone: str, size: int) -> None:
    folded = fold(phone, size)
    assert folded is not None
    assert fold(folded, size) == folded
    assert fold(fold(phone, 48) or "", 39) == fold(phone, 39)


def test_the_sets_of_speakers() -> None:
    assert (len(set(CORE_TEST)), len(set(DEVELOPMENT))) == (24, 50)
    assert not set(CORE_TEST) & set(DEVELOPMENT)
    assert sum(speaker.startswith("f") for speaker in CORE_TEST) == 8  # one woman of each region


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 40}, "corpus.fold=40 must be one of 61, 48, 39"),
        ({"test": "all"}, "corpus.test='all' must be one of core, complete"),
        ({"root": "nowhere"}, "corpus.root=nowhere is not a folder: the Linguistic Data Consortium"),
    ],
)
def test_settings_that_do_not_fit(tree: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Timit(**{"root": tree, **settings}).clips()  # type: ignore[arg-type]


def test_a_folder_without_the_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no TRAIN\|TEST/DRn/SPEAKER/\*.WAV of these splits: the Linguistic"):
        Timit(grow(tmp_path, {"a.wav": 0.1, "x/b.phn": PHN})).clips()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"NOISE.WAV": 0.1}, "NOISE.WAV: 'noise' is no sentence of TIMIT"),
        ({"si1027.phn": PHN}, "are the same sentence: move one away"),
    ],
)
def test_files_that_break_the_layout(tree: Path, files: dict[str, str | bytes | float], message: str) -> None:
    grow(tree / "TIMIT/TRAIN/DR1/FCJF0", files)
    with pytest.raises(InputError, match=message):
        Timit(tree).clips()


@pytest.mark.parametrize(
    ("phones", "message"),
    [
        ("0 100\n", "SI1027.PHN, line 1: '0 100' is not two sample numbers"),
        ("200 100 aa\n", "SI1027.PHN, line 1: '200 100 aa' is not two"),
        ("-1 100 aa\n", "SI1027.PHN, line 1: '-1 100 aa' is not two"),
        ("0 100 xyz\n", "SI1027.PHN: 'xyz' is none of TIMIT's 61 phones"),
        (b"\xff\xfe\xff", "SI1027.PHN cannot be read as UTF-8"),
    ],
)
def test_an_utterance_whose_times_cannot_be_read_is_without(tree: Path, phones: str | bytes, message: str) -> None:
    grow(tree / "TIMIT/TRAIN/DR1/FCJF0", {"SI1027.PHN": phones})
    corpus = Timed(Timit(tree))
    assert sum("phones" in clip.labels for clip in corpus.clips()) == len(corpus.clips()) - 1
    assert corpus.untimed["FCJF0_SI1027"].reason == "bad_labels"
    assert message in corpus.untimed["FCJF0_SI1027"].message


def test_the_abx_preset_makes_items_of_the_test_speakers(tree: Path) -> None:
    speech = measured("timit", f"abx.speech.corpus.root={tree}")
    assert set(speech.items.frame["#file"]) == {"FELC0_SX36"}
    assert set(speech.items.frame["#phone"]) == {"cl"}  # sh, ix and t stand beside silence or q
    assert speech.files["FELC0_SX36"].name == "SX36.WAV"


STOP = "0 1600 h#\n1600 2400 ae\n2400 3200 tcl\n3200 4000 t\n4000 4800 ix\n4800 8000 h#\n"


def test_stops_are_items_beside_their_closures(tree: Path) -> None:
    for path in tree.rglob("*.PHN"):
        path.write_text(STOP)
    items = ItemFile.of(configured("timit", f"corpus.root={tree}").clips()).items()
    assert set(items.frame.select("prev-phone", "#phone", "next-phone").rows()) == {
        ("ae", "cl", "t"),
        ("cl", "t", "ix"),
    }
    blurred = Timit(tree, fold=39)
    with pytest.raises(InputError, match="writes the closures of stops as 'sil'.*set the corpus's fold to 48 or 61"):
        from_phones(blurred)
    assert {row[3] for row in from_phones(blurred, ItemSettings(exclude=[])).items.frame.rows()} == {
        "ae",
        "sil",
        "t",
        "ih",
    }
    require_stops(Annotated(blurred, tree), ItemSettings())


def test_speakers_of_the_training_part_are_held_out(tree: Path) -> None:
    held_out = {"valid_speakers": ["FCJF0"], "test_speakers": ["mbcg0"]}
    clips = Timit(tree, **held_out).clips()  # type: ignore[arg-type]
    assert {clip.labels["speaker"]: clip.split for clip in clips} == {
        "FCJF0": "valid",
        "MBCG0": "test",
        "FAKS0": "valid",
        "FELC0": "test",
    }
    with pytest.raises(InputError, match=r"corpus\.valid_speakers: FVMH0 is no speaker in "):
        Timit(tree, valid_speakers=["FVMH0"]).clips()
    with pytest.raises(InputError, match="name a speaker twice"):
        Timit(tree, valid_speakers=["FCJF0"], test_speakers=["fcjf0"])

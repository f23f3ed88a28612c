"""Common Voice: the layouts of old and new releases."""

from pathlib import Path

import pytest
from trees import by_key, configured, grow, readable

from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

# Release 17: sentence_id and sentence_domain are new, accents was accent, gender has longer names.
NEW = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\t"
    "locale\tsegment\n"
)
OLD = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n"


def new(client: str, number: int, sentence: str = "Hei.", age: str = "", gender: str = "", accents: str = "") -> str:
    return f"{client}\tcommon_voice_fi_{number}.mp3\tab12\t{sentence}\t\t2\t0\t{age}\t{gender}\t{accents}\t\tfi\t\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files: dict[str, str | bytes | float] = {
        "train.tsv": NEW + new("aa", 1, 'Hän sanoi: "Ei, ei.', "twenties", "male_masculine", "Savo"),
        "dev.tsv": NEW + new("bb", 2, gender="female_feminine"),
        "test.tsv": NEW + new("cc", 3, gender="do_not_wish_to_say"),
        "validated.tsv": NEW + new("aa", 1) + new("aa", 4) + new("bb", 2) + new("bb", 5) + new("dd", 6),
        "other.tsv": NEW,
        **{f"clips/common_voice_fi_{number}.mp3": 0.5 for number in range(1, 7)},
    }
    return grow(tmp_path, {f"cv-corpus-17.0-2024-03-15/fi/{name}": content for name, content in files.items()})


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    corpus = configured("common_voice", f"corpus.root={tree}")
    clips = by_key(corpus.clips())
    assert corpus.name == "common_voice_fi"
    assert {key: clip.split for key, clip in clips.items()} == {
        "common_voice_fi_1": "train",
        "common_voice_fi_2": "valid",
        "common_voice_fi_3": "test",
    }
    assert clips["common_voice_fi_1"].labels == {
        "speaker": "aa",
        "text": 'Hän sanoi: "Ei, ei.',
        "age": "twenties",
        "sex": "male",
        "accent": "Savo",
        "language": "fi",
    }
    assert clips["common_voice_fi_2"].labels["sex"] == "female"
    assert "sex" not in clips["common_voice_fi_3"].labels
    readable(list(clips.values()))


@pytest.mark.parametrize("below", ["cv-corpus-17.0-2024-03-15", "cv-corpus-17.0-2024-03-15/fi"])
def test_any_folder_down_to_the_language(tree: Path, below: str) -> None:
    assert len(configured("common_voice", f"corpus.root={tree}/{below}").clips()) == 3


def test_more_to_train_on_by_speakers_of_neither_dev_nor_test(tree: Path) -> None:
    clips = by_key(configured("common_voice", f"corpus.root={tree}", "corpus.more=validated.tsv").clips())
    assert [key[-1] for key, clip in clips.items() if clip.split == "train"] == ["1", "4", "6"]
    held = {clip.labels["speaker"] for clip in clips.values() if clip.split != "train"}
    assert not held & {clip.labels["speaker"] for clip in clips.values() if clip.split == "train"}


def test_the_columns_of_old_releases(tmp_path: Path) -> None:
    row = "aa\tabc123\tHello\t2\t0\tsixties\tfemale\tus\n"
    grow(tmp_path, {"en/train.tsv": OLD + row, "en/dev.tsv": OLD, "en/test.tsv": OLD, "en/clips/abc123.mp3": 0.5})
    (clip,) = configured("common_voice", f"corpus.root={tmp_path}", "corpus.language=en").clips()
    assert clip.labels == {
        "speaker": "aa",
        "text": "Hello",
        "age": "sixties",
        "sex": "female",
        "accent": "us",
        "language": "en",
    }
    readable([clip])


def test_prepared_with_what_is_missing(tree: Path, tmp_path: Path) -> None:
    next(tree.rglob("common_voice_fi_2.mp3")).unlink()
    manifest = prepare(configured("common_voice", f"corpus.root={tree}"), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (2, {"missing": 1})


@pytest.mark.parametrize(
    ("files", "language", "message"),
    [
        ({}, "sv", "holds no train.tsv: Mozilla gives it out .*/sv/train.tsv.* set corpus.language"),
        ({"cv-corpus-18.0/fi/train.tsv": NEW}, "fi", r"holds several .*\(cv-corpus-17.0.*, cv-corpus-18.0"),
        ({"fi/train.tsv": "path\tsentence\na.mp3\tx\n"}, "fi", "lacks the column 'client_id'"),
        ({"fi/train.tsv": NEW + "aa\tb.mp3\n"}, "fi", "line 2: 2 fields where the header names 13"),
        (
            {"fi/train.tsv": NEW + new("", 1), "fi/dev.tsv": NEW, "fi/test.tsv": NEW},
            "fi",
            "line 2: there is no speaker, by which corpus.apart",
        ),
        (
            {"fi/train.tsv": OLD + "aa\t../x.mp3\ts\t1\t0\t\t\t\n"},
            "fi",
            r"line 2: '\.\./x\.mp3' is not the name of a file",
        ),
        ({"fi/train.tsv": NEW + new("aa", 1)}, "fi", "dev.tsv does not exist"),
        (
            {"fi/train.tsv": NEW + new("aa", 1), "fi/dev.tsv": NEW + new("aa", 1), "fi/test.tsv": NEW},
            "fi",
            "dev.tsv, line 2 names the same file as .*train.tsv, line 2, common_voice_fi_1.mp3",
        ),
    ],
)
def test_what_does_not_fit(tree: Path, files: dict[str, str | bytes | float], language: str, message: str) -> None:
    grow(tree, files)
    with pytest.raises(InputError, match=message) as caught:
        configured("common_voice", f"corpus.root={tree}", f"corpus.language={language}").clips()
    assert "\n" not in str(caught.value)

"""A folder of audio becomes a corpus by its settings alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import configured

from w2v_abx import audio
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root


def labels(corpus: Folder) -> dict[str, Any]:
    return {clip.key: dict(clip.labels) for clip in corpus.clips()}


def test_labels_from_a_table(tmp_path: Path) -> None:
    table(tmp_path, "file,label,speaker_id\na.wav,rain|wind,kim\nin/b.flac, siren ,\nc.wav,,lee\n")
    corpus = Folder("own", tmp_path, table="labels.csv", columns={"speaker": "speaker_id"}, source="me", licence="CC0")
    assert labels(corpus) == {
        "a": {"labels": ["rain", "wind"], "speaker": "kim"},
        "c": {"labels": [], "speaker": "lee"},
        "in/b": {"labels": ["siren"]},
    }
    clip = corpus.clips()[0]
    assert (clip.path, clip.split, clip.source, clip.licence) == (tmp_path / "a.wav", "train", "me", "CC0")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "label\tfile\nrain;wind\ta.wav\n"),
        ("t.csv", "\ufefffile;label\na.wav;rain|wind\n"),
        ("t.csv", 'file,label\r\na.wav,"rain | wind"\r\n\r\n'),
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, name: str, text: str) -> None:
    table(tmp_path, text, name)
    assert labels(Folder("own", tmp_path, table=name)) == {"a": {"labels": ["rain", "wind"]}}


def test_labels_from_folder_names(tmp_path: Path) -> None:
    touch(tmp_path, "001 - Dog bark/x.wav", "002 - Rain/x.ogg", "002 - Rain/x.wav", "002 - Rain/notes.txt")
    touch(tmp_path, ".hidden/y.wav", "002 - Rain/._x.wav", "labels.csv")
    assert labels(Folder("own", tmp_path, label_pattern=r"^\d+ - (.+)$")) == {
        "001 - Dog bark/x": {"labels": ["Dog bark"]},
        "002 - Rain/x.ogg": {"labels": ["Rain"]},
        "002 - Rain/x.wav": {"labels": ["Rain"]},
    }
    assert labels(Folder("own", tmp_path))["001 - Dog bark/x"] == {"labels": ["001 - Dog bark"]}


def test_labels_from_file_names(tmp_path: Path) -> None:
    touch(tmp_path, "3_kim_0.wav", "4_lee_12.WAV")
    assert labels(Folder("own", tmp_path, name_pattern=r"^(?P<digit>\d)_(?P<speaker>[^_]+)_")) == {
        "3_kim_0": {"digit": "3", "speaker": "kim"},
        "4_lee_12": {"digit": "4", "speaker": "lee"},
    }


def test_held_out_by_label(tmp_path: Path) -> None:
    touch(tmp_path, "1-a.wav", "2-a.wav", "4-a.wav", "4-b.wav")
    corpus = Folder("own", tmp_path, name_pattern=r"^(?P<fold>\d)-", valid={"label": "fold", "values": [4]})
    assert [clip.key for clip in corpus.clips() if clip.split == "valid"] == ["4-a", "4-b"]


def test_new_clips_never_move_the_held_out_ones(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.wav" for i in range(200)))
    corpus = Folder("own", tmp_path, valid={"fraction": 0.2, "seed": 1})
    before = {clip.key: clip.split for clip in corpus.clips()}
    assert 20 < sum(split == "valid" for split in before.values()) < 60
    touch(tmp_path, *(f"{i}.wav" for i in range(200, 300)))
    after = {clip.key: clip.split for clip in corpus.clips()}
    assert {key: after[key] for key in before} == before
    other = Folder("own", tmp_path, valid={"fraction": 0.2, "seed": 2})
    assert {clip.key: clip.split for clip in other.clips()} != after


@pytest.mark.parametrize("seed", range(5))
def test_a_handful_of_clips_has_both_splits(tmp_path: Path, seed: int) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    for fraction in (0.01, 0.99):
        corpus = Folder("own", tmp_path, valid={"fraction": fraction, "seed": seed})
        assert {clip.split for clip in corpus.clips()} == {"train", "valid"}


def test_speakers_are_kept_together(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{speaker}_{take}.wav" for speaker in "abcdefgh" for take in range(5)))
    pattern = r"^(?P<speaker>\w)_"
    corpus = Folder("own", tmp_path, name_pattern=pattern, valid={"fraction": 0.3, "label": "speaker"})
    splits = {(clip.labels["speaker"], clip.split) for clip in corpus.clips()}
    assert len(splits) == 8
    assert {split for _, split in splits} == {"train", "valid"}


def test_splits_from_the_table(tmp_path: Path) -> None:
    table(tmp_path, "file,label,part\na.wav,x,train\nb.wav,y,valid\nc.wav,y,test\n")
    corpus = Folder("own", tmp_path, table="labels.csv", split_column="part")
    assert [clip.split for clip in corpus.clips()] == ["train", "valid", "test"]


def test_a_folder_named_like_audio_is_a_clip_that_will_be_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "x.wav/inside.txt")
    assert [clip.key for clip in Folder("own", tmp_path).clips()] == ["a", "x"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "rain/a.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "rain" / "loop").symlink_to(tmp_path / "root")
    assert [clip.key for clip in Folder("own", tmp_path / "root").clips()] == ["linked/rain/a"]


@pytest.mark.parametrize(
    ("files", "text", "settings", "message"),
    [
        (["a.txt"], None, {}, r"holds no audio: 1 files are not audio \(1 \.txt\)"),
        ([], None, {"table": "no.csv"}, r"corpus\.table=.*no\.csv does not exist"),
        ([], "path,label\na.wav,x\n", {}, "lacks the column 'file'; its columns are: path, label"),
        ([], "file,class\na.wav,x\n", {}, "lacks the column 'label'; its columns are: file, class"),
        ([], "file,label\na.wav,x\n", {"columns": {"speaker": "who"}}, "lacks the column 'who'"),
        ([], "", {}, "line 1: nothing stands in the file"),
        ([], "file,label\n", {}, "has a header but no rows"),
        ([], "file,label\na.wav,x,y\n", {}, "line 2: 3 fields where the header names 2"),
        ([], "file,label\na.wav,x\n,y\n,z\n", {}, r"line 3: the column 'file' is empty \(2 of 3 rows cannot be read"),
        ([], "file,label\na.wav,x\na.wav,y\n", {}, "line 3 names the same file as .*line 2, a.wav"),
        ([], "file,label\na.wav,dev\n", {"split_column": "label"}, "line 2: label='dev' is no split: use train, valid"),
        (["a.wav"], None, {"split_column": "s"}, r"are columns of corpus\.table"),
        (["a.wav"], None, {"label_pattern": "("}, r"corpus\.label_pattern='\(' is not a regular expression"),
        (["a.wav"], None, {"label_pattern": "abc"}, "needs a group"),
        (["a.wav"], None, {"name_pattern": "(a)"}, "needs named groups"),
        (
            ["a.wav", "b.wav"],
            None,
            {"name_pattern": "(?P<x>a)"},
            r"b\.wav: its name does not match corpus\.name_pattern",
        ),
        (
            ["z/a.wav"],
            None,
            {"label_pattern": r"^\d+ (.+)"},
            r"z: the folder's name does not match corpus\.label_pattern",
        ),
        (["z/a.wav", "b.wav"], None, {}, r"b\.wav lies in no folder that names its category"),
        (
            ["a.wav"],
            None,
            {"valid": {"share": 0.2}},
            r"corpus\.valid has the keys share: give label and values, or fraction",
        ),
        (
            ["a.wav"],
            None,
            {"valid": {"fraction": 20}},
            r"corpus\.valid\.fraction=20 must be a number above 0 and below 1",
        ),
        (["a.wav"], None, {"valid": {"fraction": 0.2}}, "holds out every clip"),
        (["a.wav"], None, {"valid": {"label": "fold", "values": "4"}}, r"must be a list, such as \[4\]"),
        (
            ["a.wav"],
            None,
            {"valid": {"label": "fold", "values": ["4"]}},
            r"a\.wav has no such label \(single labels: none",
        ),
        (
            ["1-a.wav", "2-a.wav"],
            None,
            {"name_pattern": r"(?P<fold>\d)", "valid": {"label": "fold", "values": ["4"]}},
            r"no clip has fold='4' \(values: 1, 2\)",
        ),
    ],
)
def test_settings_that_do_not_fit_say_what_would(
    tmp_path: Path, files: list[str], text: str | None, settings: dict[str, Any], message: str
) -> None:
    touch(tmp_path, *files)
    if text is not None:
        table(tmp_path, text)
        settings = {"table": "labels.csv", **settings}
    with pytest.raises(InputError, match=message) as caught:
        Folder("own", tmp_path, **settings).clips()
    assert "\n" not in str(caught.value)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere is not a folder: give the folder of own's audio, with corpus\.root=…"
    ):
        Folder("own", tmp_path / "nowhere")


def test_a_table_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe.wav,x\n")
    with pytest.raises(InputError, match=r"corpus\.table=.* cannot be read as UTF-8 or UTF-16 text"):
        Folder("own", tmp_path, table="labels.csv").clips()


def test_the_shipped_esc10_settings_read_the_real_folder(shared_data: Path) -> None:
    corpus = configured("esc10", f"corpus.root={shared_data / 'esc10'}")
    clips = corpus.clips()
    assert len(clips) == 320
    assert len({clip.labels["labels"][0] for clip in clips}) == 10
    assert {clip.labels["fold"] for clip in clips} == {"1", "2", "3", "4"}
    assert {clip.labels["fold"] for clip in clips if clip.split == "valid"} == {"4"}
    assert sum(clip.split == "valid" for clip in clips) == 80


def test_what_is_held_out_may_be_said_over_the_default_share(tmp_path: Path) -> None:
    for name in ("1-a", "2-b", "3-c"):
        audio.save(tmp_path / f"{name}.wav", np.sin(np.arange(8_000, dtype=np.float32)))
    (tmp_path / "labels.csv").write_text("file,label,part\n1-a.wav,x,train\n2-b.wav,y,train\n3-c.wav,x,valid\n")
    share = {"fraction": 0.2, "seed": 0}
    fold = Folder("own", tmp_path, name_pattern=r"^(?P<fold>\d)", valid={**share, "label": "fold", "values": ["2"]})
    assert [clip.split for clip in fold.clips()] == ["train", "valid", "train"]
    column = Folder("own", tmp_path, table="labels.csv", split_column="part", valid=share)
    assert [clip.split for clip in column.clips()] == ["train", "train", "valid"]


def test_long_recordings_are_cut_and_a_folder_may_be_left_out(tmp_path: Path) -> None:
    audio.save(tmp_path / "rain/long.wav", np.sin(np.arange(16_000 * 21, dtype=np.float32)))
    touch(tmp_path, "rain/broken.wav", "speech/a.wav", "dogs/b.wav")
    clips = Folder("own", tmp_path, cut={"rain": 2, "speech": None}).clips()
    assert [clip.key for clip in clips if not clip.key.startswith("rain/long")] == ["dogs/b", "rain/broken"]
    cut = [clip for clip in clips if clip.key.startswith("rain/long")]
    assert [(clip.start, clip.end) for clip in cut] == [(2.0 * place, 2.0 * place + 2) for place in range(10)]
    assert [clip.split for clip in cut] == ["train"] * 8 + ["valid", "test"]
    assert all(clip.labels == {"labels": ["rain"]} for clip in cut)


def test_values_of_columns_are_translated(tmp_path: Path) -> None:
    table(tmp_path, "who,part,sex,licence,class,dialect\na,dev,f,by,x;y,\nb,tr,m,,y,north\nc,tr,?,nc,z,\n")
    corpus = Folder(
        "own",
        tmp_path,
        table="labels.csv",
        file_column={"column": "{table}/{who}", "values": {"([^.]+)": r"\1.wav"}},
        label_column={"column": "class", "separator": ";", "values": {"z": None, "x": "rain"}},
        columns={
            "sex": {"column": "sex", "values": {"f": "female", "m": "male", ".*": None}},
            "accent": ["region", "dialect"],
        },
        split_column={"column": "part", "values": {"dev": "valid", "tr": "train"}},
        licence={"column": "licence", "values": {"": "unknown", "by": "CC BY"}},
        key="name",
    )
    assert labels(corpus) == {
        "a": {"labels": ["rain", "y"], "sex": "female"},
        "b": {"labels": ["y"], "sex": "male", "accent": "north"},
        "c": {"labels": []},
    }
    clips = corpus.clips()
    assert [(clip.split, clip.licence) for clip in clips] == [("valid", "CC BY"), ("train", "unknown"), ("train", "nc")]
    assert clips[0].path == tmp_path / "labels/a.wav"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": "file"}, "corpus.key='file' must be one of path, name"),
        ({"download": True}, "corpus.download=.* must be false; own has no corpus.archives"),
        ({"archives": [{"adress": "x"}]}, "corpus.archives=.* must be url or parts, with"),
        ({"cut": {"rain": 0}}, "corpus.cut.rain=0 must be a number of seconds above 0, or null to leave"),
        ({"split_lists": {"dev.txt": "dev"}}, r"corpus.split_lists.dev.txt='dev' must be one of train, valid, test"),
        ({"columns": {"sex": {"values": {}}}}, "corpus.columns.sex=.* must be a column's name, a list"),
        ({"label_column": {"column": "label", "values": {"(": "x"}}}, r"corpus.label_column.values='\(' is not a reg"),
        ({"key": "name"}, "several files .* are named 'a': set corpus.key=path"),
        ({"split_lists": {"l.txt": "test"}}, "split_lists and corpus.table both list the files"),
    ],
)
def test_other_settings_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    table(tmp_path, "file,label,sex\na.wav,x,f\nin/a.wav,y,m\n")
    settings = {"table": "labels.csv", **settings}
    with pytest.raises(InputError, match=message):
        Folder("own", tmp_path, **settings).clips()

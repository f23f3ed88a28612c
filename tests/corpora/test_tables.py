"""Tables and lists as programs and publishers write them: marks, encodings, forms, and rows that cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from trees import grow

from w2v_abx.alignment.spelling import _read_lexicon
from w2v_abx.corpora.audioset.ontology import Ontology
from w2v_abx.corpora.audioset.segments import read_segments
from w2v_abx.corpora.folder import Folder
from w2v_abx.corpora.librispeech import LibriSpeech
from w2v_abx.corpora.tables import parse_lines
from w2v_abx.corpora.timit import Timit
from w2v_abx.errors import InputError
from w2v_abx.thermal.sensors.recorded import Recorded

TABLE = "file,label,speaker\na.wav,Hündin,zoé\n"
SPOKEN = "84-121123-0000"


def by_table(folder: Path) -> Any:
    more: dict[str, Any] = {"vocabulary": "known.txt", "details": "details.json", "licence": {"column": ["licence"]}}
    (clip,) = Folder("own", folder, table="said.csv", columns={"speaker": "speaker"}, **more).clips()
    return clip.key, dict(clip.labels), clip.licence


def by_lists(folder: Path) -> Any:
    return [(clip.key, clip.split) for clip in Folder("own", folder, split_lists={"test.txt": "test"}).clips()]


def by_transcript(folder: Path) -> Any:
    return [
        (clip.key, clip.labels["text"], clip.labels["sex"])
        for clip in LibriSpeech(folder, subsets=["dev-clean"]).clips()
    ]


READERS: dict[str, tuple[dict[str, str], Callable[[Path], Any], Any]] = {
    "a table, a vocabulary and details": (
        {"said.csv": TABLE, "known.txt": "Kater, Hündin\n", "details.json": '{"a": {"licence": "CC0 Zoé"}}'},
        by_table,
        ("a", {"labels": ["Hündin"], "speaker": "zoé"}, "CC0 Zoé"),
    ),
    "a list of a split": ({"test.txt": "in/zoé.wav\n"}, by_lists, [("in/zoé", "test")]),
    "transcripts": (
        {
            f"dev-clean/84/121123/{SPOKEN[:9]}.trans.txt": f"{SPOKEN} ÇA VA\n",
            "SPEAKERS.TXT": "; comments\n84 | F | dev-clean | 8.02 | Zoé\n",
        },
        by_transcript,
        [(SPOKEN, "ÇA VA", "female")],
    ),
    "times": (
        {"TRAIN/DR1/FCJF0/SI1027.PHN": "0 1600 sh\n"},
        lambda folder: Timit(folder).clips()[0].labels["phones"],
        [[0.0, 0.1, "sh"]],
    ),
    "a dictionary": (
        {"words.dict": "été\te t ã\nça s a\n"},
        lambda folder: _read_lexicon(folder / "words.dict"),
        {"été": ["e", "t", "ã"], "ça": ["s", "a"]},
    ),
    "an ontology": (
        {"ontology.json": '[{"id": "/m/1", "name": "Bär", "child_ids": []}]'},
        lambda folder: Ontology.read(folder / "ontology.json").names,
        {"/m/1": "Bär"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("what", READERS)
def test_every_text_is_read_with_any_mark_encoding_and_form(
    tmp_path: Path, what: str, form: str, encoding: str
) -> None:
    files, read, expected = READERS[what]
    grow(tmp_path, {name: normalize(form, text).encode(encoding) for name, text in files.items()})
    assert read(tmp_path) == expected


def test_lists_that_other_programs_read_take_a_mark(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text('# c\nA_b-C_d-E_f, 30.000, 40.000, "/m/09x0r"\n', encoding="utf-8-sig")
    assert read_segments(tmp_path / "s.csv")["video"].to_list() == ["A_b-C_d-E_f"]
    (tmp_path / "s.csv").write_text('A_b-C_d-E_f, 30.000, 40.000, "/m/09x0r"\n', encoding="utf-8-sig")
    assert read_segments(tmp_path / "s.csv")["video"].to_list() == ["A_b-C_d-E_f"]
    (tmp_path / "t.csv").write_text("time,temperature\n0,40\n9,50\n", encoding="utf-8-sig")
    assert Recorded(tmp_path / "t.csv").read(3).temperature == 40


def number(line: str) -> int:
    if not line.isdecimal():
        raise InputError(f"{line!r} is no number")
    return int(line)


def test_lines_that_cannot_be_read_are_left_out_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{'x' if n in (3, 700, 701, 702) else n}\n\n" for n in range(1000)))
    assert len(parse_lines(path, number)) == 996
    assert "4 of 1000 rows cannot be read and are left out: " in caplog.text
    assert f"{path}, line 7: 'x' is no number; {path}, line 1401: " in caplog.text
    assert "; …" in caplog.text
    path.write_text("x\n1\ny\n")
    with pytest.raises(InputError, match=r"numbers\.txt, line 1: 'x' is no number \(2 of 3 rows cannot be read\)"):
        parse_lines(path, number)
    path.write_text("x\n1\n")
    assert parse_lines(path, number) == [1]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_few_bad_rows_spoil_no_corpus(tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    mark = {"csv": ",", "tsv": "\t"}[ending]
    rows = [f"{n}.wav{mark}cat" for n in range(200)]
    rows[5], rows[6], rows[7], rows[8] = "5.wav", f"{mark}dog", f'6.wav{mark}"big" dog', f'7.wav{mark}"an open mark'
    (tmp_path / f"said.{ending}").write_text("\n".join([f"file{mark}label", *rows]) + "\n")
    clips = {clip.key: clip.labels["labels"] for clip in Folder("own", tmp_path, table=f"said.{ending}").clips()}
    assert len(clips) == 198
    assert (clips["6"], clips["7"]) == (['"big" dog'], ['"an open mark'])
    assert "line 7: 1 fields where the header names 2 columns" in caplog.text
    assert "line 8: the column 'file' is empty" in caplog.text

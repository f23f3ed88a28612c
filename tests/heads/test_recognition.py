"""Error rates and their conventions, held against examples by hand and jiwer."""

from typing import Any

import jiwer
import pytest

from w2v_abx.corpora.timit import SYMBOLS
from w2v_abx.heads.recognition import rate
from w2v_abx.heads.scoring import Scoring, Transcribed
from w2v_abx.heads.vocabulary import Vocabulary
from w2v_abx.statistics.ratios import ratio_interval


def scoring(characters: bool = False, beam: int | None = None, **settings: Any) -> Scoring:
    given = {"alphabet": None, "fold": None, "apart": ()} | settings
    return Scoring.of(lambda setting: setting, characters, beam, given["alphabet"], given["fold"], given["apart"])


def spoken(reference: str, greedy: str, speaker: str = "FAKS0", key: str = "a", **beam: str) -> Transcribed:
    hypotheses = {"greedy": greedy.split(), **{way: text.split() for way, text in beam.items()}}
    return Transcribed(key, "timit", speaker, reference.split(), hypotheses)


# "She had your" of TIMIT's 61, as it may be recognised. In 39, q being dropped:
#   sil sh ih hh eh sil jh ih sil d ah sil t  –  sil
#   sil s  ih –  eh sil jh iy –   d ah sil sil t sil     2 replaced, 2 left out, 1 put in, of 14
REFERENCE = "h# sh ix hv eh dcl jh ih dcl d q ah kcl t h#"
HYPOTHESIS = "h# s ix eh dcl jh iy d ah pau kcl t h#"


def test_timit_is_folded_to_39_and_scored_as_by_hand() -> None:
    vocabulary = Vocabulary(tuple(SYMBOLS))
    result = rate(
        [spoken(REFERENCE, HYPOTHESIS)], scoring(alphabet="timit", fold="timit39", apart=["sil"]), vocabulary, {}
    )
    metrics = result.metrics
    assert metrics["per"] == pytest.approx(5 / 14)
    edits = [metrics[name] for name in ("hits", "substitutions", "deletions", "insertions", "symbols")]
    assert edits == [10, 2, 2, 1, 14]
    ways, by_speaker, by_class = result.tables
    assert [(row[0], row[1], *row[3:]) for row in ways.rows] == [
        ("as it is", "greedy", 2, 2, 1, 14),
        ("without sil", "greedy", 2, 1, 0, 9),
        ("repeated symbols merged", "greedy", 2, 2, 0, 14),
        ("repeated symbols merged, without sil", "greedy", 2, 1, 0, 9),
    ]
    assert [row[2] for row in ways.rows] == pytest.approx([5 / 14, 3 / 9, 4 / 14, 3 / 9])
    assert by_speaker.rows == [["FAKS0", 1, pytest.approx(5 / 14), 2, 2, 1, 14]]
    fricative, silence = (next(row for row in by_class.rows if row[0] == kind) for kind in ("fricative", "silence"))
    assert fricative == ["fricative", 2, 0.0, 0.5, 0.0, 0.5]  # sh taken for s, hh left out
    assert silence == ["silence", 5, 0.8, 0.0, 0.0, 0.2]
    assert result.intervals == {}  # of one speaker
    assert any("folded by timit39" in note for note in result.notes)
    assert any("sil counts" in note for note in result.notes)


def test_rows_and_matrix_tell_the_same_edits_in_phonetic_order() -> None:
    vocabulary = Vocabulary(tuple(SYMBOLS))
    result = rate(
        [spoken(REFERENCE, HYPOTHESIS)], scoring(alphabet="timit", fold="timit39"), vocabulary, {"sh": 3, "zh": 4}
    )
    rows = {row["category"]: row for row in result.rows}
    assert rows["sh"] == {"category": "sh", "kind": "fricative", "recall": 0.0, "count": 1, "trained": 7,
                          "substitutions": 1, "deletions": 0, "insertions": 0, "mistaken": "s"}  # fmt: skip
    assert (rows["sil"]["recall"], rows["sil"]["insertions"], rows["s"]["recall"]) == (0.8, 1, None)
    place = {label: n for n, label in enumerate(result.labels)}
    assert result.confusion[place["sh"]][place["s"]] == 1
    assert result.confusion[place["hh"]][place["–"]] == 1
    assert result.confusion[place["–"]][place["sil"]] == 1
    assert sum(map(sum, result.confusion)) == 15
    assert list(dict.fromkeys(result.groups)) == ["vowel", "fricative", "affricate", "stop", "silence", "–"]


def test_several_speakers_have_an_interval_and_beams_count_before_greedy() -> None:
    made = [
        spoken("a b c d", "a b c", "one", "1", beam="a b c d"),
        spoken("a b", "b", "one", "2", beam="a c"),
        spoken("a b c", "a b", "two", "3", beam="a b b c"),
    ]
    result = rate(made, scoring(beam=4), Vocabulary(("a", "b", "c", "d")), {})
    assert result.metrics["per"] == pytest.approx(2 / 9)
    assert result.intervals["per"] == ratio_interval([1, 1], [6, 3])
    assert result.over == "2 speakers"
    recalls = {(row["speaker"], row["category"]): (row["hits"], row["count"]) for row in result.by_speaker}
    assert recalls == {("one", "a"): (2, 2), ("one", "b"): (1, 2), ("one", "c"): (1, 1), ("one", "d"): (1, 1),
                       ("two", "a"): (1, 1), ("two", "b"): (1, 1), ("two", "c"): (1, 1)}  # fmt: skip
    assert [row[:3] for row in result.tables[0].rows] == [
        ["as it is", "greedy", pytest.approx(3 / 9)],
        ["as it is", "beam", pytest.approx(2 / 9)],
    ]
    assert result.transcripts[0]["key"] == "2"
    assert (
        result.transcripts[0]
        | {"reference": ["a", "b"], "hypothesis": ["a", "c"], "errors": 1, "symbols": 2, "which": "worst"}
        == (result.transcripts[0])
    )


def test_speakers_of_two_corpora_who_are_called_alike_are_two() -> None:
    vocabulary, settings = Vocabulary(("a", "b")), scoring()
    one, other = spoken("a b", "a b", "1", "x"), spoken("a b", "b", "1", "y")._replace(corpus="other")
    result = rate([one, other], settings, vocabulary, {})
    assert result.over == "2 speakers"
    assert result.intervals["per"] == ratio_interval([0, 1], [2, 2])
    assert [row[0] for row in result.tables[1].rows] == ["other/1", "timit/1"]


def test_characters_and_words_equal_jiwer() -> None:
    references, hypotheses = ["she had your dark suit", "ask me"], ["he had a dark suit in", ""]
    made = [
        Transcribed(str(n), "text", f"s{n}", list(left), {"greedy": list(right)})
        for n, (left, right) in enumerate(zip(references, hypotheses, strict=True))
    ]
    result = rate(made, scoring(characters=True), Vocabulary(tuple(" abcdefghijklmnopqrstuvwxyz")), {})
    assert result.metrics["cer"] == pytest.approx(jiwer.cer(references, hypotheses))
    assert result.metrics["wer"] == pytest.approx(jiwer.wer(references, hypotheses))
    assert result.metrics["empty"] == 0.5
    assert {"cer", "wer"} == set(result.intervals)
    assert "|" in [row["category"] for row in result.rows]
    assert result.transcripts[0]["reference"] == list("ask me")


def test_symbols_outside_the_vocabulary_are_a_floor_unless_they_fold_into_it() -> None:
    folded = scoring(fold={"zh": "sh", "q": None})
    result = rate([spoken("sh zh zh q eng", "sh sh sh")], folded, Vocabulary(("sh",), ("eng", "q", "zh")), {})
    assert result.metrics["out_of_inventory"] == 1 / 4
    assert result.metrics["per"] == 1 / 4
    assert any(note.startswith("1 of 4 reference symbols (25.0%)") for note in result.notes)


def test_the_feature_error_rate_weighs_edits() -> None:
    result = rate([spoken("p aɪ t", "b aɪ")], scoring(alphabet="ipa"), Vocabulary(("p", "b", "aɪ", "t")), {})
    assert result.metrics["per"] == pytest.approx(2 / 3)
    assert result.metrics["pfer"] == pytest.approx((1 / 24 + 1) / 4)  # of four segments; p and b differ in voice

from pathlib import Path

import pytest

from w2v_abx.corpora.espeak.ipa import ipa_of
from w2v_abx.corpora.espeak.languages import Languages
from w2v_abx.errors import InputError
from w2v_abx.heads.phonology import broad_class, segments

pytest.importorskip("espeakng_loader")


def test_languages_share_an_alphabet_and_the_unseen_one_is_test(tmp_path: Path) -> None:
    corpus = Languages(
        tmp_path, languages=["es", "de"], test_languages=["fi"], speakers=2, test_speakers=1, utterances=2
    )
    clips = corpus.clips()
    assert [clip.key for clip in clips] == sorted({clip.key for clip in clips})
    splits = {(clip.labels["language"], clip.split) for clip in clips}
    assert splits == {("es", "train"), ("es", "valid"), ("de", "train"), ("de", "valid"), ("fi", "test")}
    heard = {clip.labels["speaker"] for clip in clips if clip.split != "test"}
    assert not heard & {clip.labels["speaker"] for clip in clips if clip.split == "test"}
    for clip in clips:
        assert [row[:2] for row in clip.labels["ipa"]] == [row[:2] for row in clip.labels["phones"]]
        assert all(segments(symbol) for _, _, symbol in clip.labels["ipa"])


def test_a_mnemonic_means_what_it_does_in_its_language() -> None:
    assert ipa_of("key", "en-us")["r"] == "ɹ"
    assert ipa_of("key", "es")["r"] == "ɾ"
    assert {broad_class(ipa, "ipa") for ipa in ipa_of("key", "en-us").values()} == {
        "vowel", "approximant", "nasal", "fricative", "affricate", "stop"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"languages": ["cmn"]}, r"corpus\.languages='cmn' must be one of bs, ca, .*IPA"),
        ({"test_languages": ["xx"]}, r"corpus\.test_languages='xx' must be one of"),
        ({"languages": []}, r"corpus\.languages=\[\] must be a list of at least one language"),
        ({"languages": ["es"], "test_languages": ["es"]}, "both have es"),
    ],
)
def test_languages_that_do_not_fit(tmp_path: Path, settings: dict[str, list[str]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Languages(tmp_path, **settings)  # type: ignore[arg-type]

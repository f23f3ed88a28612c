"""The checkpoint that the package ships."""

from pathlib import Path

from small import quiet_trainer

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import from_corpus
from w2v_abx.config import PACKAGE
from w2v_abx.corpora.espeak import Espeak
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc

TINY = PACKAGE / "pretrained" / "tiny"


def test_it_is_small_and_has_a_card() -> None:
    encoder = Encoder.load(TINY)
    assert sum(parameter.numel() for parameter in encoder.parameters()) <= 3_000_000
    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 10_000_000
    card = (TINY / "README.md").read_text()
    assert "w2v-abx train experiment=pretrain_tiny" in card
    assert "ABX error across speakers" in card


def test_it_tells_phones_apart_across_voices_that_it_never_heard(tmp_path: Path) -> None:
    """A small sample of what the card reports: fewer voices and phones."""
    speech = from_corpus(Espeak(tmp_path, voices="evaluation", speakers=6, consonants=8, vowels=5))
    setting = AbxSetting(speaker="across", context="any", max_size_group=5)
    errors = []
    for extractor in (Encoder.load(TINY), Mfcc(), Encoder.random(TINY)):
        result = evaluate("model", extractor, speech, setting, quiet_trainer(tmp_path))
        errors.append(min(scores.error() for scores in result.scores.values()))
    tiny, mfcc, random = errors
    assert tiny < mfcc < random

"""Speech to measure on, from a corpus with phone times."""

from pathlib import Path

import pytest
from sounds import Fixed

from w2v_abx.abx.speech import from_phones
from w2v_abx.alignment.timed import Timed
from w2v_abx.clips import Clip
from w2v_abx.errors import InputError
from w2v_abx.items.files import ItemSettings

PHONES = [[0.0, 0.1, "t"], [0.1, 0.2, "a"], [0.2, 0.3, "k"]]


def test_the_phones_of_a_corpus() -> None:
    said = Clip("in/a", Path("x/a.wav"), labels={"phones": PHONES, "speaker": "kim"})
    speech = from_phones(Fixed([said, Clip("dumb", Path("b.wav"), 1, 2)]))
    assert speech.items.frame.rows() == [("in/a", "0.1", "0.2", "a", "t", "k", "kim")]
    assert speech.files == {"in/a": Path("x/a.wav")}
    triphones = from_phones(Fixed([said]), ItemSettings(unit="triphone")).items
    assert triphones.frame.rows()[0][1:3] == ("0.0", "0.3")


def test_times_from_elsewhere() -> None:
    aligned = Clip("a", Path("a.wav"), labels={"phones": PHONES, "speaker": "kim"})
    assert len(from_phones(Fixed([Clip("a", Path("a.wav"))]), align=lambda corpus: Timed(Fixed([aligned]))).items) == 1
    with pytest.raises(InputError, match="none of the 1 clips has the label phones"):
        from_phones(Fixed([Clip("a", Path("a.wav"))]))


@pytest.mark.parametrize(("start", "end"), [(0.5, None), (0.0, 2.0)])
def test_stretches_are_refused(start: float, end: float | None) -> None:
    clip = Clip("a", Path("a.wav"), start, end, labels={"phones": PHONES, "speaker": "kim"})
    with pytest.raises(InputError, match="a is a span of a.wav; only whole files can be measured on"):
        from_phones(Fixed([clip]))

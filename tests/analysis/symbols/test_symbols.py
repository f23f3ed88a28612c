"""Concentration of symbols in clusters, and what recognisers were rated."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy

from w2v_abx.analysis.clustering.contingency import concentration
from w2v_abx.analysis.symbols.symbols import MEASURES, Recalls, measure, recogniser
from w2v_abx.errors import InputError


def rated(trained: int = 5, speakers: str = "ab") -> dict[str, Any]:
    by_speaker = [{"speaker": name, "category": "p", "hits": 1, "count": 2} for name in speakers]
    return {"valid": {"phones": {"rows": [{"category": "p", "trained": trained}], "by_speaker": by_speaker}}}


def model(name: str, kinds: dict[str, str] | None = None, results: Any = None) -> Any:
    readouts = {head: SimpleNamespace(kind=kind) for head, kind in (kinds or {"phones": "ctc"}).items()}
    return SimpleNamespace(name=name, readouts=readouts, rated=rated() if results is None else results)


def test_measures_by_hand() -> None:
    #                   three clusters: mostly in the first; all in the second, where p has more; nowhere
    counts = np.array([[6.0, 5.0, 1.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert measure("share", counts)[:2].tolist() == [0.5, 1.0]
    assert measure("purity", counts)[:2].tolist() == [1.0, 0.0]
    assert measure("negative_entropy", counts)[:2] == pytest.approx([-entropy([6, 5, 1]), 0])
    for name in MEASURES:
        assert np.isnan(measure(name, counts)[2])


def test_measures_of_several_tables_are_those_of_each_and_share_is_that_of_clusters() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (3, 2, 5, 4)).astype(float)
    for name in MEASURES:
        found = measure(name, tables)
        assert found.shape == (3, 2, 5)
        np.testing.assert_allclose(found[1, 1], measure(name, tables[1, 1]))
    np.testing.assert_allclose(measure("share", tables)[0, 0], concentration(tables[0, 0].T.astype(np.int64)))


def test_recalls_are_by_run_speaker_and_symbol_and_test_comes_before_valid() -> None:
    other = rated(7, "bc")
    other["valid"]["phones"]["rows"].append({"category": "t", "trained": 2})
    other["test"] = other.pop("valid")
    other["valid"] = rated(99)["valid"]
    found = Recalls.of([model("before", {"sex": "utterance"}), model("A"), model("B", results=other)], None)
    assert (found.runs, found.symbols, found.speakers) == (["A", "B"], ["p", "t"], ["a", "b", "c"])
    assert found.trained.tolist() == [[5, 0], [7, 2]]
    assert found.hits[..., 0].tolist() == [[1, 1, 0], [0, 1, 1]]
    assert found.asked[..., 0].tolist() == [[2, 2, 0], [0, 2, 2]]
    assert found.take(["t"]).trained.tolist() == [[0], [2]]


def test_heads_are_named_where_there_are_several() -> None:
    several = model("A", {"phones": "ctc", "text": "ctc", "sex": "utterance"})
    assert recogniser(several, "text") == "text"
    with pytest.raises(InputError, match="A has several CTC heads; name one of phones, text"):
        recogniser(several, None)


@pytest.mark.parametrize(
    ("models", "head", "message"),
    [
        ([model("before", {"sex": "utterance"})], None, "none of before has a head of CTC"),
        ([model("A")], "text", "none of A has the CTC head 'text'"),
        ([model("A", results={})], None, "A has no head.json that rates phones"),
        ([model("A", results={"valid": {"phones": {"rows": [{"category": "p"}]}}})], None, "of an older version"),
    ],
)
def test_what_was_not_rated_is_named(models: list[Any], head: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recalls.of(models, head)

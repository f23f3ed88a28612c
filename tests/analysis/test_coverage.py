"""Coverage of made-up runs: clusters that hold some symbols together and scatter others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from clouds import store_of

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.coverage import Coverage
from w2v_abx.errors import InputError
from w2v_abx.heads.readout import Readout
from w2v_abx.items.items import Items

SYMBOLS, FILES, LENGTH = "ptkbdgsm", 6, 5  # frames of a symbol
ORDER = np.stack([np.random.default_rng(file).permutation(np.repeat(np.arange(8), 3)) for file in range(FILES)])
NUMBERS = np.repeat(ORDER, LENGTH, axis=1)
SCATTER = np.linspace(0, 0.9, 8)  # the share of a symbol's frames that lie anywhere
FAST = Coverage(k=8, draws=100, seeds=2)


def speech(**columns: Any) -> Speech:
    rows = [
        {"#file": f"f{file}", "onset": f"{place / 10:.1f}", "offset": f"{(place + 1) / 10:.1f}",
         "#phone": SYMBOLS[symbol], "speaker": f"s{file % 3}", **columns}
        for file, own in enumerate(ORDER)
        for place, symbol in enumerate(own)
    ]  # fmt: skip
    return Speech(Items(pl.DataFrame(rows)), {})


def features(seed: int = 0) -> np.ndarray:
    """Eight clouds; of each symbol some frames lie in clouds of others."""
    generator = np.random.default_rng(seed)
    strays = generator.random(NUMBERS.shape) < SCATTER[NUMBERS]
    clouds = np.where(strays, generator.integers(0, 8, NUMBERS.shape), NUMBERS)
    found: np.ndarray = np.eye(8)[clouds] * 10 + 0.1 * generator.standard_normal((*NUMBERS.shape, 8))
    return found


def rated(recalls: np.ndarray, trained: np.ndarray) -> dict[str, Any]:
    rows = [{"category": symbol, "trained": int(n)} for symbol, n in zip(SYMBOLS, trained, strict=True)]
    heard = [
        {"speaker": f"v{v}", "category": symbol, "hits": round(100 * recall), "count": 100}
        for v in range(4)
        for symbol, recall in zip(SYMBOLS, recalls, strict=True)
    ]
    return {"valid": {"phones": {"rows": rows, "by_speaker": heard}}}


def readout() -> Readout:
    """A head that says the symbol of a cloud."""
    weight = torch.cat([torch.zeros(1, 8), torch.eye(8)])
    return Readout("phones", ["", *SYMBOLS], "ctc", weight, torch.zeros(9), [1], torch.ones(1))


def model(folder: Path, name: str, layers: dict[int, np.ndarray], **settings: Any) -> Model:
    return Model(name, store_of(folder / name, layers), SimpleNamespace, **settings)  # type: ignore[arg-type, return-value]


def run(folder: Path, name: str, by_count: float, by_place: float, seed: int) -> Model:
    trained = np.random.default_rng(seed).permutation(2 ** np.arange(3, 11))
    recalls = 0.5 + by_count * (np.log2(trained) - 6.5) - by_place * (SCATTER - 0.45)
    heads = {"phones": readout()}
    return model(folder, name, {1: features(seed)}, readouts=heads, rated=rated(recalls, trained))


def models(folder: Path, by_count: float = 0.05, by_place: float = 0.3) -> dict[str, Model]:
    noise = np.random.default_rng(9).standard_normal((*NUMBERS.shape, 8))
    made = [
        model(folder, "before", {0: noise, 1: features()}),
        *(run(folder, f"run {seed}", by_count, by_place, seed) for seed in (1, 2)),
        model(folder, "mfcc", {0: noise}, baseline=True),
    ]
    return {one.name: one for one in made}


def value(result: AnalysisResult, statistic: str, name: str = "before", layer: int = 1) -> float:
    found = result.tables["coverage"].filter(model=name, layer=layer, measure="share", statistic=statistic)
    return float(found["value"].item())


def test_both_factors_are_found_where_both_matter(tmp_path: Path) -> None:
    result = FAST(models(tmp_path), speech(), seed=0)
    assert value(result, "r2") > 0.95
    assert value(result, "unique_count") > 0.2
    assert value(result, "unique_concentration") > 0.2
    assert value(result, "r2", layer=0) < value(result, "r2") - 0.1  # noise holds no symbol together
    tables = result.tables
    keys = tables["coverage"].select("model", "layer").unique(maintain_order=True).rows()
    assert keys == [("before", 0), ("before", 1), ("mfcc", 0)]
    assert tables["runs"]["run"].to_list() == ["run 1", "run 2"]
    seen = tables["symbols"].filter(run="run 1").sort("concentration", descending=True)
    assert seen["symbol"].to_list()[0] == "p"  # of which no frame strays
    assert seen["frames"].to_list() == [90] * 8
    assert seen["held_out"].to_list() == [400] * 8
    assert result.facts["layer"] == 1
    assert result.facts["symbols"] == 8
    assert result.facts["within_symbols"]["per_doubling"] == pytest.approx(0.05, abs=0.01)


def test_one_factor_is_found_where_it_alone_matters(tmp_path: Path) -> None:
    found = FAST(models(tmp_path, by_place=0), speech(), seed=0)
    assert found.facts["equivalence"]["verdict"] == "count"
    assert value(found, "r2_count") > 0.95


def test_the_same_seed_gives_the_same_and_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = models(tmp_path)
    first = FAST(made, speech(), seed=3)
    monkeypatch.setattr("w2v_abx.analysis.symbols.resampling.BLOCK", 1000)
    second = FAST(made, speech(), seed=3)
    assert first.facts == second.facts
    for name, table in first.tables.items():
        assert table.equals(second.tables[name])


def test_frames_at_which_recognisers_say_a_symbol_may_stand_for_it(tmp_path: Path) -> None:
    made = models(tmp_path)
    result = Coverage(k=8, draws=100, seeds=1, column=None)(made, speech(), seed=0)
    seen = result.tables["symbols"]
    said = np.bincount(features(1).argmax(-1).ravel(), minlength=8)
    frames = {row["symbol"]: row["frames"] for row in seen.filter(run="run 1").to_dicts()}
    assert frames == dict(zip(SYMBOLS, said.tolist(), strict=True))
    assert "the frames at which a recogniser says them" in result.notes[0]


def test_bad_input_is_named(tmp_path: Path) -> None:
    made = models(tmp_path)
    for column, message in (("#phone", "none of the symbols of the recogniser, b, d, .* is among x"),
                            ("speaker", "none of the symbols .* is among s0, s1, s2")):  # fmt: skip
        strange = speech(**{"#phone": "x"})
        with pytest.raises(InputError, match=message):
            Coverage(k=8, draws=100, column=column)(made, strange, seed=0)
    with pytest.raises(InputError, match=r"^analysis\.coverage\.k=100000 is more than the \d+ different frames"):
        Coverage(k=100_000, draws=100, frames=None)(made, speech(), seed=0)
    with pytest.raises(InputError, match="none of before, mfcc has a head of CTC"):
        FAST({name: made[name] for name in ("before", "mfcc")}, speech(), seed=0)
    same = {**made, "run 1": run(tmp_path / "same", "run 1", 0, 0, 1)}
    with pytest.raises(InputError, match="recall, or concentration .* layer 1, is the same for all 8 symbols"):
        FAST({name: same[name] for name in ("before", "run 1")}, speech(), seed=0)


def test_what_is_missing_is_said_before_anything_is_computed() -> None:
    with pytest.raises(InputError, match="column=tone: items have no such column; they have #phone, speaker"):
        Coverage(column="tone").check(speech().items, ["before", "after"])
    with pytest.raises(InputError, match="needs the model that all runs began with, 'before', and there are before 1"):
        Coverage().check(speech().items, ["before 1", "before 2", "A"])
    Coverage(column=None).check(speech().items, ["before", "after"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "ward"}, "analysis.coverage.method='ward' must be one of kmeans, spherical"),
        ({"k": 1}, "analysis.coverage.k=1 must be a whole number from 2"),
        ({"seeds": 0}, "analysis.coverage.seeds=0"),
        ({"least": 0}, "analysis.coverage.least=0"),
        ({"draws": 99}, "analysis.coverage.draws=99"),
        ({"frames": 35}, "analysis.coverage.frames=35 must be a whole number from 36"),
        ({"margin": 0}, "analysis.coverage.margin=0 must be a number above 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Coverage(**settings)

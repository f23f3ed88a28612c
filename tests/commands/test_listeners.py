"""`w2v-abx abx abx=triplets`, on features and on audio."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from w2v_abx import audio

HEADER = "file_TGT,onset_TGT,offset_TGT,file_OTH,onset_OTH,offset_OTH,file_X,onset_X,offset_X,triplet_id"


@pytest.fixture
def run(run: Callable[..., str]) -> Callable[..., dict]:
    """Run the command in an empty folder; the JSON in the last line of its standard output."""

    def scored(*arguments: str) -> dict:
        line: dict = json.loads(run("abx", "abx=triplets", *arguments).splitlines()[-1])
        return line

    return scored


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    """Twenty triplets over six files of two seconds, with audio and features of 50 Hz; three subjects heard each."""
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    for k in range(6):
        np.save(tmp_path / "features" / f"f{k}.npy", rng.normal(size=(99, 4)).astype(np.float32))
        audio.save(tmp_path / "audio" / f"f{k}.wav", (0.1 * rng.standard_normal(32_000)).astype(np.float32))
    rows = [f"{HEADER},subject_id,bin_user_ans"]
    for number in range(20):
        places = [f"f{k},{k / 10:.1f},{k / 10 + 0.3 + 0.02 * k:.2f}" for k in rng.choice(6, 3, replace=False)]
        rows += [f"{','.join(places)},t{number},{subject},{rng.choice([-1, 1])}" for subject in "abc"]
    (tmp_path / "triplets.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "triplets.csv"


def test_features(run: Callable[..., dict], triplets: Path, tmp_path: Path) -> None:
    given = (f"features={tmp_path / 'features'}", "abx.frequency=50", f"abx.root={tmp_path / 'audio'}")
    printed = run(f"abx.triplets={triplets}", *given, "hydra.run.dir=out")
    (line,) = printed["scores"]
    frame = pl.read_csv(tmp_path / "out" / "abx" / "scores" / "triplets.csv")
    first = frame.unique("triplet_id")
    assert line["triplets"] == 20
    assert line["error"] == pytest.approx((first["delta"] < 0).mean())
    assert line["delta_mean"] == pytest.approx(first["delta"].mean())
    assert frame.height == 60
    assert set(printed["seconds"]) == {"load", "score", "human"}
    assert -1 <= line["spearman"] <= 1
    assert line["log_likelihood"] >= line["log_likelihood_without"]
    (row,) = json.loads((tmp_path / "out" / "abx" / "scores" / "summary.json").read_text())["scores"]
    assert (row["error"], row["human"]["subjects"]) == (line["error"], 3)


def test_a_model_and_audio(run: Callable[..., dict], triplets: Path, tmp_path: Path) -> None:
    options = ("model=tiny_random", "trainer.accelerator=cpu", "abx.layers=[0,1]", "hydra.run.dir=out")
    line = run(f"abx.triplets={triplets}", f"abx.root={tmp_path / 'audio'}", *options)
    assert [row["layer"] for row in line["scores"]] == [0, 1]
    assert pl.read_csv(tmp_path / "out" / "abx" / "scores" / "triplets.csv")["layer"].value_counts()[
        "count"
    ].to_list() == [60, 60]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["features=features"], "abx.triplets is missing"),
        (["abx.triplets=triplets.csv", "features=features", "abx.pooling=max"], "abx.pooling='max' must be one of"),
        (["abx.triplets=triplets.csv", "features=features", "abx.distance=far"], "abx.distance='far' must be one of"),
        (["abx.triplets=triplets.csv"], "abx.root is missing"),
        (["abx.triplets=triplets.csv", "features=features", "abx.stimuli={FR:triplets.csv}"], "needs a column"),
    ],
)
def test_what_is_wrong_is_one_line(
    run: Callable[..., dict],
    triplets: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capfd.readouterr().err.splitlines()[-1]

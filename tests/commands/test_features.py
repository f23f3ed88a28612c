"""Features that a run keeps, and scores of them later."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small import ARCHITECTURE

from w2v_abx import audio
from w2v_abx.features.store import FeatureStore
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc

Command = Callable[..., str]


@pytest.fixture
def arguments(spoken: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """Overrides of `w2v-abx abx` that score a tiny model."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    speech = (f"abx.items={spoken[0]}", f"abx.root={spoken[1]}")
    return ["model=local", "model.source=model", *speech, "trainer.accelerator=cpu"]


def scores(out: str) -> list[dict]:
    found: list[dict] = json.loads(out.splitlines()[-1])["scores"]
    return found


def test_features_are_kept_and_scored_again_without_the_model(
    run: Command, arguments: list[str], spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    plain = scores(run("abx", *arguments, "hydra.run.dir=plain"))
    kept = scores(run("abx", *arguments, "features.keep=true", "tag=mine", "hydra.run.dir=kept"))
    assert kept == plain
    assert not (tmp_path / "plain" / "features").exists()
    store = FeatureStore(tmp_path / "kept" / "features" / "mine")
    assert (store.layers, len(store.keys)) == ([0, 1], 12)
    later = ("abx", "features=kept/features/mine", f"abx.items={spoken[0]}")
    assert scores(run(*later, "hydra.run.dir=later")) == plain
    cells = [
        pl.read_parquet(tmp_path / name) for name in ("later/abx/scores/cells.parquet", "kept/abx/mine/cells.parquet")
    ]
    assert cells[0].equals(cells[1])
    assert scores(run(*later[:2], "hydra.run.dir=own")) == plain  # by the items that lie beside the features
    one = scores(run(*later, "abx.layers=[1]", "abx.distance=euclidean", "hydra.run.dir=one"))
    assert [row["layer"] for row in one] == [1, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["features.keep=1"], "features.keep=1 must be true or false"),
        (["features.dtype=bfloat16"], "features.dtype='bfloat16' must be one of float32, float16"),
        (["features.keep=true", "features=there"], "features.folder takes the place of the model"),
        (["features=store", "abx.layers=[7]"], "abx.layers=7 must be one of 0"),
        (["features=damaged"], "the feature store damaged is damaged"),
    ],
)
def test_what_is_wrong_is_one_line(
    wrong: list[str],
    message: str,
    run: Command,
    arguments: list[str],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    if "features=store" in wrong:
        run("abx", *arguments, "features.keep=true", "abx.layers=0", "tag=store", "hydra.run.dir=kept")
        (tmp_path / "kept" / "features" / "store").rename(tmp_path / "store")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "store.json").write_text("{}")
    with pytest.raises(SystemExit):
        run("abx", *arguments, *wrong)
    assert message.lower() in capfd.readouterr().err.lower()


def test_features_made_elsewhere_at_a_wrong_frequency_are_refused(
    run: Command, spoken: tuple[Path, Path], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mfcc = Mfcc()
    for path in spoken[1].rglob("*.wav"):
        clip = torch.from_numpy(audio.load(path))
        frames = mfcc(clip[None], torch.tensor([len(clip)])).layers[0][0].numpy()
        (tmp_path / "mfcc").mkdir(exist_ok=True)
        np.save(tmp_path / "mfcc" / f"{path.stem}.npy", frames)
    given = ("abx", "features=mfcc", f"abx.items={spoken[0]}")
    told = {row["condition"]: row["error"] for row in scores(run(*given, "abx.frequency=100", "hydra.run.dir=right"))}
    own = run("abx", "model=mfcc", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}", "hydra.run.dir=own")
    assert {row["condition"]: row["error"] for row in scores(own)} == pytest.approx(told)
    for wrong, says in (
        ([], "abx.frequency is missing"),
        (["abx.frequency=50"], "times as long as its items reach"),
        (["abx.frequency=50", f"abx.root={spoken[1]}"], "about 100 Hz would: give the frequency"),
        (["abx.frequency=90", f"abx.root={spoken[1]}"], "about 100 Hz would: give the frequency"),
        (["abx.frequency=200"], "the item ends"),
        (["abx.frequency=0"], "must be above zero"),
    ):
        with pytest.raises(SystemExit):
            run(*given, *wrong)
        assert says in capfd.readouterr().err.splitlines()[-1]

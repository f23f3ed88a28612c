"""The ranks of a job are told it, meet, and end together."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rank_tasks import job

from w2v_abx.errors import InputError
from w2v_abx.ranks import run_ranks, supervisor


@pytest.fixture(autouse=True)
def _ranks_find_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    monkeypatch.setattr(supervisor, "GRACE", 2.0)


def test_ranks_have_the_job_and_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a batch script of Slurm, or under a torchrun of one process: neither started these ranks.
    for name, value in {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    run_ranks(job(tmp_path, "meet"), 2)
    found = [OmegaConf.to_container(OmegaConf.load(tmp_path / f"{rank}.yaml")) for rank in range(2)]
    assert found[0] == {
        "place": [0, 2],
        "arguments": ["w2v-abx train", "a=b"],
        "told": {"rank": 0},
        "made": None,
        "sum": 11.0,
    }
    assert found[1] == found[0] | {"place": [1, 2], "made": True}


@pytest.mark.parametrize(
    ("task", "message", "told"),
    [
        ("refuse", "rain.wav cannot be read", ""),
        ("break_down", "rank 1 of 2 failed: KeyError: 'rain'", "Traceback"),
        ("die", "rank 1 of 2 was killed by SIGKILL: was memory short?; the others were ended", ""),
    ],
)
def test_a_rank_that_fails_ends_the_others_with_one_error(
    task: str, message: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as failure:
        run_ranks(job(tmp_path, task), 2)
    assert str(failure.value) == message
    assert capfd.readouterr().err.count("Traceback") == told.count("Traceback")

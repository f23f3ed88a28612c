"""The ranks of a job are told it, meet, and end together."""

from pathlib import Path

import lightning  # noqa: F401 it reads variables of Slurm, which a test sets, when it is first imported
import pytest
import torch.distributed as dist
from omegaconf import OmegaConf
from rank_tasks import job, listening

from w2v_abx.distributed import group as meeting
from w2v_abx.distributed import run_ranks, supervisor
from w2v_abx.distributed.meeting import MeetingFolder
from w2v_abx.errors import InputError

LOOPBACK = {"127.0.0.1", "::1"}


@pytest.fixture(autouse=True)
def _ranks_find_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1] / "support"))
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
        "listening": found[0]["listening"],
    }
    assert found[1] == found[0] | {"place": [1, 2], "made": True}
    assert found[0]["listening"]  # for each other
    assert set(found[0]["listening"]) <= LOOPBACK
    assert set(listening()) <= LOOPBACK


@pytest.mark.parametrize(
    ("task", "message", "told", "status"),
    [
        ("refuse", "rain.wav cannot be read", "", 2),
        ("break_down", "rank 1 of 2 failed: KeyError: 'rain'", "Traceback", 1),
        ("die", "rank 1 of 2 was killed by SIGKILL: was memory short?; the others were ended", "", 1),
        ("fill_the_disk", "model.bin cannot be written", "", 74),
    ],
)
def test_a_rank_that_fails_ends_the_others_with_one_error(
    task: str, message: str, told: str, status: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as failure:
        run_ranks(job(tmp_path, task), 2)
    assert (str(failure.value), failure.value.exit_status) == (message, status)
    assert capfd.readouterr().err.count("Traceback") == told.count("Traceback")


def test_the_first_rank_may_end_in_peace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss is not finite"):
        run_ranks(job(tmp_path, "fail_together"), 2)
    assert (tmp_path / "uploaded").exists()


@pytest.mark.parametrize("failed", [False, True])
def test_no_thread_of_gloo_is_left_to_the_end_of_the_interpreter(failed: bool, tmp_path: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    tmp_path.chmod(0o700)
    ranks = meeting.Ranks(1, 2, MeetingFolder(tmp_path))
    if failed:
        ranks.report("rain.wav cannot be read", None)
    ranks.leave()
    assert not dist.is_initialized()
    ranks.leave()  # where there is none


def test_tasks_that_lightning_would_take_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """`srun` inside `salloc`: each task would else begin a run of its own."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"STEP_NUM_TASKS": "4", "NTASKS": "4", "PROCID": "3", "JOB_NAME": "interactive"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(InputError, match="4 tasks of a job that is called 'interactive'.* --job-name"):
        meeting._place()
    monkeypatch.setenv("SLURM_PTY_PORT", "12345")
    assert meeting._place() is None

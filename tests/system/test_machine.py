from pathlib import Path

import pytest

from w2v_abx.system import machine
from w2v_abx.system.machine import processors


def group(root: Path, path: str, name: str, text: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    (root / path / name).write_text(text)


def test_processor_quotas_of_both_versions_and_of_the_groups_around_them(tmp_path: Path) -> None:
    listing = tmp_path / "cgroup"
    listing.write_text("4:memory:/slurm/job\n3:cpu,cpuacct:/slurm/job\n0::/user/session\n")
    group(tmp_path, "cpu/slurm/job", "cpu.cfs_quota_us", "350000\n")
    group(tmp_path, "cpu/slurm/job", "cpu.cfs_period_us", "100000\n")
    group(tmp_path, "cpu/slurm", "cpu.cfs_quota_us", "-1\n")
    group(tmp_path, "cpu/slurm", "cpu.cfs_period_us", "100000\n")
    group(tmp_path, "user/session", "cpu.max", "20000 100000\n")
    group(tmp_path, "user", "cpu.max", "max 100000\n")
    assert sorted(machine._processor_quotas(listing, tmp_path)) == [1, 4]


def test_a_container_that_sees_its_own_group_as_the_outermost(tmp_path: Path) -> None:
    listing = tmp_path / "cgroup"
    listing.write_text("0::/\n")
    group(tmp_path, ".", "cpu.max", "150000 100000\n")
    assert machine._processor_quotas(listing, tmp_path) == [2]


def test_processors_are_those_of_the_affinity_within_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 5}, raising=False)
    monkeypatch.setattr(machine, "_processor_quotas", lambda listing: [])
    assert processors() == 4
    monkeypatch.setattr(machine, "_processor_quotas", lambda listing: [3, 8])
    assert processors() == 3

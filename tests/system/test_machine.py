from pathlib import Path

import psutil
import pytest

from w2v_abx.system import machine
from w2v_abx.system.machine import available_memory, processors


def group(root: Path, path: str, name: str, text: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    (root / path / name).write_text(text)


def test_control_groups_of_both_versions_and_those_around_them(tmp_path: Path) -> None:
    listing = tmp_path / "cgroup"
    listing.write_text("4:memory,hugetlb:/slurm/job\n3:cpuset:/slurm/job\n0::/user/session\n")
    group(tmp_path, "memory/slurm/job", "memory.limit_in_bytes", "300\n")
    group(tmp_path, "memory/slurm", "memory.limit_in_bytes", "200\n")
    group(tmp_path, "cpuset/slurm/job", "memory.max", "1\n")
    group(tmp_path, "user/session", "memory.max", "max\n")
    group(tmp_path, "user", "memory.max", "500\n")
    assert sorted(machine._memory_limits(listing, tmp_path)) == [200, 300, 500]
    assert machine._memory_limits(tmp_path / "none", tmp_path) == []


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


def test_memory_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total
    used = psutil.Process().memory_info().rss
    monkeypatch.setattr(machine, "_memory_limits", lambda listing: [2 * used, 10 * used])
    assert 0 < available_memory() < 1.5 * used
    monkeypatch.setattr(machine, "_memory_limits", lambda listing: [1])
    assert available_memory() == 0

from pathlib import Path

import psutil
import pytest

from w2v_abx.system import machine
from w2v_abx.system.machine import available_memory


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
    assert sorted(machine._group_limits(listing, tmp_path)) == [200, 300, 500]
    assert machine._group_limits(tmp_path / "none", tmp_path) == []


def test_memory_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total
    used = psutil.Process().memory_info().rss
    monkeypatch.setattr(machine, "_group_limits", lambda listing: [2 * used, 10 * used])
    assert 0 < available_memory() < 1.5 * used
    monkeypatch.setattr(machine, "_group_limits", lambda listing: [1])
    assert available_memory() == 0

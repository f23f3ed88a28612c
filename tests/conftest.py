"""Shared fixtures; everything runs offline."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Before torch is loaded, which reads it: threads that spin starve each other on a shared machine.
os.environ["OMP_WAIT_POLICY"] = "passive"

import hypothesis
import pytest
import torch.distributed as dist

hypothesis.settings.register_profile("shared machine", deadline=None, max_examples=50)  # no test is timed
hypothesis.settings.load_profile("shared machine")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

# A shell that starts this in the background has it ignore interrupts, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files whose tests start processes take minutes, and would be waited for if they came last.
LONG = ("commands/test_", "/test_kills.py", "/test_ranks.py", "distributed/test_", "test_packaging.py")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and reference values that lie beside the checkout; never committed."""
    if not SHARED.is_dir():
        pytest.skip("the shared data folder does not lie beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _few_clips_are_prepared_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of tests prepare a dozen clips; those about processes set this to 0."""
    monkeypatch.setattr("w2v_abx.shards.writing.MIN_CLIPS_FOR_PROCESSES", 64)


@pytest.fixture(autouse=True)
def _no_process_group_stays() -> Iterator[None]:
    """Lightning leaves the one of a strategy behind, which the next test would take for its own."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()

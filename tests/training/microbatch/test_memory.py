"""What running out of memory teaches."""

import pytest
import torch

from w2v_abx.training.microbatch.memory import MemoryLimit, out_of_memory


def step(limit: MemoryLimit, *, fails_above: int, whole: int) -> None:
    """One step of a batch of ``whole`` on a device that holds ``fails_above``."""
    while (size := min(limit.size or whole, whole)) > fails_above:
        limit.halve(size)
    limit.settle(limit.size, limit.failed)


def test_it_grows_back_after_quiet_steps_and_stays_where_it_holds() -> None:
    limit = MemoryLimit(grow_after=2)
    step(limit, fails_above=3, whole=16)
    sizes = []
    for _ in range(30):
        step(limit, fails_above=3, whole=16)
        sizes.append(limit.size)
    # Four is tried after every second quiet step, until it has failed three times.
    assert sizes == [2, 4, 2, 2, 4, 2, *[2] * 24]


def test_it_grows_to_the_whole_batch_once_there_is_room() -> None:
    limit = MemoryLimit(grow_after=1)
    step(limit, fails_above=1, whole=7)
    sizes = []
    for _ in range(4):
        step(limit, fails_above=7, whole=7)
        sizes.append(limit.size)
    assert sizes == [2, 4, 8, 16]


def test_it_never_grows_unasked() -> None:
    limit = MemoryLimit()
    step(limit, fails_above=1, whole=8)
    for _ in range(50):
        step(limit, fails_above=8, whole=8)
    assert limit.size == 1


def test_its_state_goes_on() -> None:
    limit, other = MemoryLimit(2), MemoryLimit(2)
    step(limit, fails_above=3, whole=16)
    step(limit, fails_above=3, whole=16)
    other.load_state_dict(limit.state_dict())
    for _ in range(8):
        for one in (limit, other):
            step(one, fails_above=3, whole=16)
        assert other.state_dict() == limit.state_dict()


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) == is_memory


def test_a_cpu_that_cannot_allocate_says_so_in_these_words() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert out_of_memory(error.value)

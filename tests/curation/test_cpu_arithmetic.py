"""Work is done side by side, by threads that share no sum. Its bits: the contracts."""

from collections.abc import Iterator

import pytest
import torch

from curation.cpu_arithmetic import side_by_side


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Leave torch as many threads as it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_parts_come_in_order_each_computed_by_one_thread() -> None:
    torch.set_num_threads(3)
    found = side_by_side(lambda part: (part, torch.get_num_threads()), range(10))
    assert found == [(part, 1) for part in range(10)]
    assert torch.get_num_threads() == 3


def test_an_error_is_that_of_the_first_part_that_has_one() -> None:
    torch.set_num_threads(2)

    def fail(part: int) -> None:
        if part in (2, 4):
            raise ValueError(part)

    with pytest.raises(ValueError, match="2"):
        side_by_side(fail, range(6))
    assert side_by_side(int, []) == []

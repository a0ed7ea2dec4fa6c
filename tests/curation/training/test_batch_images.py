"""Memory that is used again, and never while somebody still looks at it."""

import numpy as np
import torch

from curation.training.batch_images import BatchSlots, RecycledArrays, SlotImages

FLOATS = np.dtype(np.float32)


def test_memory_comes_back_once_a_tensor_and_its_views_are_gone() -> None:
    arrays = RecycledArrays()
    first = arrays.take((4, 3), FLOATS)
    place = first.data_ptr()
    view = first.T[1:]
    del first
    other = arrays.take((4, 3), FLOATS)
    assert other.data_ptr() != place
    del view
    again = arrays.take((3, 3), FLOATS)  # as much or less
    assert again.data_ptr() == place
    assert again.shape == (3, 3)


def test_what_is_held_is_not_written_over() -> None:
    arrays = RecycledArrays()
    held = [arrays.take((100,), FLOATS).fill_(number) for number in range(20)]
    assert [tensor.unique().tolist() for tensor in held] == [[n] for n in range(20)]


def test_memory_that_is_too_small_is_not_used() -> None:
    arrays = RecycledArrays()
    arrays.take((2,), FLOATS)
    large = arrays.take((1000,), np.dtype(np.float64)).fill_(1)
    assert large.dtype == torch.float64
    assert large.sum() == 1000


def test_a_slot_is_for_one_batch_at_a_time_and_gives_what_was_left_in_it() -> None:
    slots = BatchSlots(2, 100)
    first, second = slots.take(), slots.take()
    assert {first, second} == {0, 1}
    assert slots.take() is None
    assert second is not None
    slots.room(second)[:6] = np.arange(6)
    left = SlotImages(second, (2, 3), np.dtype(np.uint8))
    assert slots.images(left).tolist() == [[0, 1, 2], [3, 4, 5]]
    slots.give_back(second)
    assert slots.take() == second

"""Every sample once over ranks, as many batches on each, and the same order again."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.training.sample_order import SampleOrder


@st.composite
def orders(draw: st.DrawFn) -> list[SampleOrder]:
    """Give the orders of all ranks."""
    counts = tuple(draw(st.lists(st.integers(0, 40), min_size=1, max_size=8)))
    world_size = draw(st.integers(1, 4))
    if sum(counts) < world_size:
        counts = (*counts, world_size)
    settings = {
        "batch_size": draw(st.integers(1, 17)),
        "seed": draw(st.integers(0, 3)),
        "shuffle_shards": draw(st.booleans()),
        "shuffle": draw(st.sampled_from([None, 0, 1, 7, 1000])),
        "lanes": draw(st.integers(1, 3)),
        "world_size": world_size,
    }
    return [SampleOrder(counts, rank=rank, **settings) for rank in range(world_size)]


@given(orders(), st.integers(0, 3))
def test_every_sample_comes_once_and_every_rank_has_as_many_batches(
    ranks: list[SampleOrder], epoch: int
) -> None:
    per_rank = [list(order.batches(epoch)) for order in ranks]
    assert {len(batches) for batches in per_rank} == {ranks[0].num_batches}
    batches = [batch for batches in per_rank for batch in batches]
    seen = np.sort(np.concatenate(batches))
    assert seen.tolist() == list(range(ranks[0].num_samples))
    most = max(ranks[0].batch_size, 2)
    assert all(0 < len(batch) <= most for batch in batches)


@given(orders(), st.integers(0, 100))
def test_an_epoch_goes_on_at_any_batch(ranks: list[SampleOrder], first: int) -> None:
    for order in ranks:
        whole = list(order.batches(2))
        rest = list(order.batches(2, first))
        assert len(rest) == max(0, len(whole) - first)
        assert all(map(np.array_equal, rest, whole[first:]))


def test_all_samples_of_all_shards_are_mixed() -> None:
    order = SampleOrder((100,) * 10, 100, shuffle=0)
    batch = next(order.batches(0))
    assert len(set((batch // 100).tolist())) == 10
    assert np.corrcoef(np.concatenate(list(order.batches(0))), np.arange(1000))[0, 1] < 0.1


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def samples(seed: int, epoch: int) -> list[int]:
        order = SampleOrder((50, 50), 10, seed=seed, shuffle=30)
        return np.concatenate(list(order.batches(epoch))).tolist()

    assert samples(0, 0) == samples(0, 0)
    assert len({tuple(samples(s, e)) for s, e in itertools.product((0, 1), (0, 1))}) == 4


def test_without_shuffling_samples_come_in_the_order_of_the_tars() -> None:
    order = SampleOrder((3, 0, 4), 2, shuffle_shards=False)
    assert np.concatenate(list(order.batches(5))).tolist() == list(range(7))


def test_shuffled_shards_stay_whole_without_shuffled_samples() -> None:
    order = SampleOrder((10,) * 20, 10)
    batches = [batch.tolist() for batch in order.batches(0)]
    assert batches != sorted(batches)
    assert sorted(batches) == [list(range(at, at + 10)) for at in range(0, 200, 10)]


def test_what_is_mixed_with_each_other_goes_to_one_worker() -> None:
    order = SampleOrder((400,), 10, shuffle_shards=False, shuffle=100, lanes=2)
    batches = list(order.batches(0))
    for lane in (0, 1):
        groups = [set((batch // 100).tolist()) for batch in batches[lane::2]]
        assert groups == [{lane}] * 10 + [{lane + 2}] * 10


def test_resampling_never_ends_and_draws_with_replacement() -> None:
    def first_batches(first: int = 0) -> Iterator[np.ndarray]:
        order = SampleOrder((10, 0, 10, 10), 4, shuffle=0, resample=True)
        assert order.num_batches is None
        return itertools.islice(order.batches(0, first), 300 - first)

    samples = np.concatenate(list(first_batches()))
    times = np.bincount(samples, minlength=30)
    assert len(samples) == 1200
    assert times.min() > 0
    assert len(set(times.tolist())) > 1
    assert all(map(np.array_equal, first_batches(7), list(first_batches())[7:]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": (1, 1), "batch_size": 1, "world_size": 3}, "not enough for 3 ranks"),
        ({"counts": (5,), "batch_size": 0}, "batch_size"),
        ({"counts": (5,), "batch_size": 1, "rank": 1}, "rank 1 is not one"),
        ({"counts": (5,), "batch_size": 1, "shuffle": -1}, "shuffle_num"),
        ({"counts": (0,), "batch_size": 1, "resample": True}, "not enough"),
    ],
)
def test_impossible_orders_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SampleOrder(**settings)  # type: ignore[arg-type]

"""The estimate counts, among what is drawn, the kept samples that have a kept twin."""

import numpy as np
import pytest

from curation.dedup.centroids import CellSettings
from curation.dedup.probe import MissedEstimate, estimate_missed
from curation.dedup.resolve import join_edges, resolve
from curation.dedup.state import current_ordinals
from curation.storage import MemoryStorage
from tests.curation.dedup.brute_force import cosines
from tests.curation.dedup.test_incremental import some_shards
from tests.curation.dedup.world import ALL_CELLS, World, make_world

NOTHING = resolve(join_edges([]))


def a_world() -> tuple[World, np.ndarray, list[int]]:
    shards = some_shards(3)
    array = np.concatenate([shard.vectors for shard in shards.values()])
    world = make_world(MemoryStorage(), array, CellSettings(5, 3, **ALL_CELLS))
    world.bring(dict(reversed(shards.items())))
    names = sorted(world.fingerprints().items())
    return world, array, current_ordinals(world.state, names)


@pytest.mark.parametrize("threshold", [0.9, 0.99])
def test_probing_all_finds_what_brute_force_finds(threshold: float) -> None:
    world, array, shards = a_world()
    similar = cosines(array) >= np.float32(threshold)
    np.fill_diagonal(similar, val=False)
    found = estimate_missed(
        world.state, shards, NOTHING, min_similarity=threshold, device="cpu"
    )
    assert found == MissedEstimate(120, int(similar.any(axis=1).sum()), 120)
    assert found.num_missed > 0
    some = estimate_missed(
        world.state, shards, NOTHING, min_similarity=threshold, num_probes=30, device="cpu"
    )
    assert some.num_probed == 30
    assert some.interval[0] <= found.fraction <= some.interval[1]


def test_nothing_is_missed_where_every_pair_was_compared() -> None:
    world, _, shards = a_world()
    removals = world.decide(0.9)
    found = estimate_missed(world.state, shards, removals, min_similarity=0.9, device="cpu")
    num_kept = 120 - len(removals)
    assert found == MissedEstimate(num_kept, 0, num_kept)


def test_released_samples_may_be_alike() -> None:
    world, array, shards = a_world()
    ids = np.concatenate([np.arange(40) + (shard << 32) for shard in range(3)])
    found = estimate_missed(
        world.state,
        shards,
        NOTHING,
        min_similarity=0.9,
        released=ids.astype(np.uint64),
        device="cpu",
    )
    assert found == MissedEstimate(len(array), 0, len(array))


def test_the_interval_is_wilsons() -> None:
    low, high = MissedEstimate(10, 1, 90).interval
    assert (low, high) == (pytest.approx(0.0179, abs=1e-4), pytest.approx(0.4042, abs=1e-4))
    assert MissedEstimate(1000, 0, 10**6).interval == pytest.approx((0, 0.0038), abs=1e-4)
    assert MissedEstimate(0, 0, 9).interval == (0, 1)


def test_probing_all_leaves_no_doubt() -> None:
    assert MissedEstimate(10, 1, 10).interval == (0.1, 0.1)
    assert MissedEstimate(0, 0, 0).interval == (0, 0)


def test_recall_takes_half_of_the_missed_for_samples_that_should_have_gone() -> None:
    # 4 kept samples are 2 pairs, so 2 should have gone besides the 18 that went
    assert MissedEstimate(40, 4, 40).recall(18) == (0.9, (0.9, 0.9))
    recall, (low, high) = MissedEstimate(1000, 0, 10**6).recall(10**5)
    assert (recall, high) == (1, 1)
    assert low == pytest.approx(1e5 / (1e5 + 0.00383 * 1e6 / 2), abs=1e-4)
    assert MissedEstimate(0, 0, 0).recall(0) == (1, (1, 1))


def test_a_state_of_nothing_has_nothing_to_probe() -> None:
    world = make_world(MemoryStorage(), np.eye(4, dtype=np.float16), CellSettings(1))
    found = estimate_missed(world.state, [], NOTHING, min_similarity=0.9, device="cpu")
    assert found == MissedEstimate(0, 0, 0)

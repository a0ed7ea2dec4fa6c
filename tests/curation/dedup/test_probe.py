"""The estimate counts, among what is drawn, kept samples with a kept twin after them."""

import numpy as np
import pytest

from curation.dedup import probe
from curation.dedup.bins import read_home_vectors
from curation.dedup.centroids import CellSettings
from curation.dedup.probe import MissedEstimate, estimate_missed
from curation.dedup.resolve import join_edges, resolve
from curation.dedup.rows import ordinals, rows_in_shard
from curation.dedup.state import State, current_ordinals
from curation.storage import MemoryStorage
from tests.curation.dedup.brute_force import cosines
from tests.curation.dedup.world import ALL_CELLS, World, make_world, shard_of

NOTHING = resolve(join_edges([]))


def a_world() -> tuple[World, np.ndarray, list[int]]:
    """Make three shards of 40 vectors in three bins, a third of them near copies."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=(80, 16))
    copies = base[rng.integers(0, 80, 40)] + rng.normal(size=(40, 16)) * 0.05
    rows = np.concatenate([base, copies])[rng.permutation(120)]
    array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    world = make_world(MemoryStorage(), array, CellSettings(5, 3, **ALL_CELLS))
    shards = {
        name: shard_of(part, seed)
        for seed, (name, part) in enumerate(zip("abc", np.split(array, 3), strict=True))
    }
    world.bring(dict(reversed(shards.items())))
    assert world.state.centroids.num_bins == 3
    names = sorted(world.fingerprints().items())
    return world, array, current_ordinals(world.state, names)


def by_bin(world: World, shards: list[int]) -> np.ndarray:
    """Give rows in order of the bin of their home cell, then of their id."""
    found = []
    for bin_ in range(world.state.centroids.num_bins):
        ids, _ = read_home_vectors(world.state, bin_, set(shards))
        place = np.array([shards.index(shard) for shard in ordinals(ids)], int)
        found.append(np.sort(40 * place + rows_in_shard(ids)))
    return np.concatenate(found)


@pytest.mark.parametrize("threshold", [0.9, 0.98])
def test_probing_all_finds_what_brute_force_finds(threshold: float) -> None:
    world, array, shards = a_world()
    similar = cosines(array) >= np.float32(threshold)
    order = by_bin(world, shards)
    expected = np.triu(similar[np.ix_(order, order)], 1).any(axis=1).sum()
    found = estimate_missed(
        world.state, shards, NOTHING, min_similarity=threshold, device="cpu"
    )
    assert found == MissedEstimate(120, int(expected), 120)
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


def test_recall_takes_those_missed_for_samples_that_should_have_gone() -> None:
    # of 3 pairs of 40 kept samples one each, besides the 27 that went
    assert MissedEstimate(40, 3, 40).recall(27) == (0.9, (0.9, 0.9))
    recall, (low, high) = MissedEstimate(2000, 0, 10**6).recall(10**5)
    assert (recall, high) == (1, 1)
    assert low == pytest.approx(1e5 / (1e5 + 0.00192 * 1e6), abs=1e-4)
    assert MissedEstimate(0, 0, 0).recall(0) == (1, (1, 1))


def test_of_samples_that_are_all_alike_all_but_one_are_missed() -> None:
    array = np.repeat(np.eye(1, 8, dtype=np.float16), 7, axis=0)
    world = make_world(MemoryStorage(), array, CellSettings(1))
    world.bring({"a": shard_of(array[:4], 0), "b": shard_of(array[4:], 1)})
    alive = current_ordinals(world.state, sorted(world.fingerprints().items()))
    found = estimate_missed(world.state, alive, NOTHING, min_similarity=0.9, device="cpu")
    assert found == MissedEstimate(7, 6, 7)


def test_every_bin_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world, _, shards = a_world()
    read = []

    def counted(state: State, bin_: int, some: set[int]) -> tuple[np.ndarray, np.ndarray]:
        read.append(bin_)
        return read_home_vectors(state, bin_, some)

    monkeypatch.setattr(probe, "read_home_vectors", counted)
    estimate_missed(world.state, shards, NOTHING, min_similarity=0.9, device="cpu")
    assert read == list(range(world.state.centroids.num_bins)) == [0, 1, 2]


def test_a_state_of_nothing_has_nothing_to_probe() -> None:
    world = make_world(MemoryStorage(), np.eye(4, dtype=np.float16), CellSettings(1))
    found = estimate_missed(world.state, [], NOTHING, min_similarity=0.9, device="cpu")
    assert found == MissedEstimate(0, 0, 0)

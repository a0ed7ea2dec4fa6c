"""A bin compares what is new, once."""

import numpy as np

from curation.dedup.assignment import add_shards
from curation.dedup.bins import compare_bin, pending_bins
from curation.dedup.centroids import CellSettings
from curation.dedup.known_pairs import read_pairs
from curation.storage import MemoryStorage
from tests.curation.dedup.brute_force import cosines
from tests.curation.dedup.test_assignment import random_vectors
from tests.curation.dedup.world import ALL_CELLS, FLOOR, make_world, shard_of


def test_bins_are_pending_until_they_have_compared_what_came() -> None:
    cells = CellSettings(6, 3, max_cells_per_row=1)
    world = make_world(MemoryStorage(), random_vectors(300, 0), cells)
    for seed in (1, 2):
        world.shards[f"{seed}"] = shard_of(random_vectors(100, seed), seed)
        add_shards(world.state, world.fingerprints(), world.read, device="cpu")
        assert pending_bins(world.state) == [0, 1, 2]
        assert sum(compare_bin(world.state, bin_, device="cpu") for bin_ in range(3)) == 100
        assert pending_bins(world.state) == []
    assert compare_bin(world.state, 0, device="cpu") == 0
    assert len(read_pairs(world.state, 0)) == 2


def test_pairs_are_those_of_brute_force_each_found_with_what_came_later() -> None:
    world = make_world(
        MemoryStorage(),
        random_vectors(300, 0),
        CellSettings(1, **ALL_CELLS),
        leader_similarity=1.0,
        max_pairs=1000,
    )
    array = random_vectors(200, 1)
    world.bring({"0": shard_of(array[:120], 0)})
    world.bring({"1": shard_of(array[120:], 1)})
    expected = set(zip(*np.tril(cosines(array) >= FLOOR, -1).nonzero(), strict=True))
    found = set()
    for pairs in read_pairs(world.state, 0):
        assert len(pairs.followers) == 0
        for one, other in zip(pairs.edges.row, pairs.edges.better, strict=True):
            rows = [int(i & 0xFFFFFFFF) + 120 * int(i >> 32) for i in (one, other)]
            found.add((max(rows), min(rows)))
    assert found == expected

"""Vectors go to every bin that has one of their cells, and what can't be is refused."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curation.dedup.assignment import ShardVectors, add_shards, assign_shards, read_computed
from curation.dedup.centroids import CellSettings, assign_cells
from curation.dedup.rows import row_ids
from curation.dedup.state import begin_batch, read_parts
from curation.dedup.vectors import make_vectors
from curation.errors import InputError, StaleError, TableError
from curation.storage import MemoryStorage
from curation.tables import CELL_ROWS, read_table
from tests.curation.dedup.world import World, make_world, shard_of


def random_vectors(num_rows: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((num_rows, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def a_world() -> World:
    cells = CellSettings(8, 3, halo=0.2, max_cells_per_row=4)
    return make_world(MemoryStorage(), random_vectors(300, 0), cells)


def test_each_vector_is_in_the_bins_of_its_cells_with_those_cells() -> None:
    world = a_world()
    shard = shard_of(random_vectors(100, 1), 1)
    world.bring({"a": shard})
    vectors, _, _ = make_vectors(shard.vectors, device="cpu")
    centroids = world.state.centroids
    expected = assign_cells(vectors, np.arange(100), centroids)
    for bin_ in range(3):
        path = world.state.rows_path(bin_, "00000000")
        table = read_table(world.storage, path, CELL_ROWS)
        cells = np.stack([np.frombuffer(c.as_py(), "<i4") for c in table["cells"]])
        here = np.where(centroids.bins[expected] == bin_, expected, -1)
        rows = np.flatnonzero((here >= 0).any(axis=1))
        assert table["id"].to_pylist() == row_ids(0, rows).tolist()
        np.testing.assert_array_equal(cells, here[rows])


def test_parts_are_as_large_as_allowed_and_say_what_is_in_them() -> None:
    world = a_world()
    shards = {f"{i}": shard_of(random_vectors(30, i), i) for i in range(5)}
    shards["3"].vectors[0] = np.nan
    world.bring(shards, max_rows_held=50)
    parts = read_parts(world.state)
    assert [part.ordinals for part in parts] == [(0, 1), (2, 3), (4,)]
    assert parts[1].unusable == {"not_finite": 1, "zero": 0, "not_unit_length": 0}


def test_what_is_computed_of_samples_is_there_to_prefer_by() -> None:
    world = a_world()
    shard = shard_of(random_vectors(20, 1), 1)
    shard.vectors[3] = 0
    shard.vectors[5] = shard.vectors[4]
    world.bring({"other": shard_of(random_vectors(20, 2), 2), "shard": shard})
    table = read_computed(world.state, 1, 20)
    assert table.schema.names == ["centroid_similarity", "random"]
    assert table["random"].null_count == table["centroid_similarity"].null_count == 1
    assert table["random"][3].as_py() is None
    drawn = table["random"].to_pylist()
    assert drawn[4] == drawn[5]
    assert len(set(drawn)) == 19
    with pytest.raises(StaleError, match="shard 7 was not assigned"):
        read_computed(world.state, 7, 20)


def test_vectors_of_another_encoder_are_refused() -> None:
    world = a_world()
    shard = shard_of(random_vectors(20, 1), 1)

    def of_another(name: str, ordinal: int) -> ShardVectors:
        return ShardVectors(ordinal, "another", shard.vectors, shard.hints)

    with pytest.raises(TableError, match=r"a: its vectors are of encoder another"):
        add_shards(world.state, {"a": "1"}, of_another, device="cpu")


def test_other_shards_and_other_lengths_are_refused() -> None:
    world = a_world()
    shard = ShardVectors(0, "encoder", random_vectors(20, 1), np.zeros(20))
    with pytest.raises(InputError, match="no batch has a shard 0"):
        assign_shards(world.state, [shard], device="cpu")
    begin_batch(world.state, {"a": "1"})
    with pytest.raises(TableError, match="20 vectors, and ranks of shape"):
        assign_shards(world.state, [replace(shard, rank=np.zeros(3))], device="cpu")
    wide = replace(shard, vectors=np.eye(20, dtype=np.float16))
    with pytest.raises(InputError, match="another encoder"):
        assign_shards(world.state, [wide], device="cpu")


def test_a_table_of_nobody_has_no_computed_values() -> None:
    world = a_world()
    world.bring({"empty": shard_of(np.empty((0, 8), np.float16), 1)})
    table = read_computed(world.state, 0, 0)
    assert table.num_rows == 0
    assert table["random"].type == pa.uint64()

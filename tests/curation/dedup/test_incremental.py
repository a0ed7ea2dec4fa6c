"""Shards that come, go and are replaced leave the answer of starting over without them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from curation.dedup.assignment import add_shards
from curation.dedup.centroids import CellSettings
from curation.dedup.rows import row_ids
from curation.dedup.state import open_state
from curation.errors import InputError, StaleError, StorageError
from curation.storage import LocalStorage, MemoryStorage
from tests.curation.dedup.strategies import crowded_vectors
from tests.curation.dedup.world import ALL_CELLS, FLOOR, Shard, World, make_world, shard_of


class Shards(RuleBasedStateMachine):
    """Shards come in batches, go, come back, and are replaced; each time, it is decided."""

    @initialize(
        pool=crowded_vectors(90),
        num_cells=st.integers(1, 6),
        num_bins=st.integers(1, 3),
        leader_similarity=st.sampled_from([FLOOR, 0.95, 1.0]),
        max_pairs=st.sampled_from([1, 3, 50]),
    )
    def begin(
        self,
        pool: np.ndarray,
        num_cells: int,
        num_bins: int,
        leader_similarity: float,
        max_pairs: int,
    ) -> None:
        self.pool = pool
        self.seed = 0
        self.gone: dict[str, Shard] = {}
        self.world = make_world(
            MemoryStorage(),
            pool,
            CellSettings(num_cells, num_bins, **ALL_CELLS),
            leader_similarity=leader_similarity,
            max_pairs=max_pairs,
        )

    def new_shard(self) -> Shard:
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        rows = rng.integers(len(self.pool), size=rng.integers(0, 25))
        return shard_of(self.pool[rows], self.seed)

    @rule(count=st.integers(1, 3), max_rows_held=st.integers(1, 60))
    def some_come(self, count: int, max_rows_held: int) -> None:
        names = [f"new/{self.seed + i}" for i in range(count)]
        self.world.bring({name: self.new_shard() for name in names}, max_rows_held)

    @precondition(lambda self: self.world.shards)
    @rule(data=st.data())
    def one_goes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.shards)))
        self.gone[name] = self.world.shards.pop(name)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def one_comes_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.gone)))
        self.world.bring({name: self.gone.pop(name)})

    @precondition(lambda self: self.world.shards)
    @rule(data=st.data())
    def one_is_replaced(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.shards)))
        self.world.bring({name: self.new_shard()})

    @rule(min_similarity=st.sampled_from([FLOOR, 0.9, 0.95]))
    def the_decision_is_that_of_starting_over(self, min_similarity: float) -> None:
        removals = self.world.decide(min_similarity)
        assert self.world.removed(removals) == self.world.by_brute_force(min_similarity)
        assert not set(removals.removed.tolist()) & set(removals.survivor.tolist())
        assert (removals.similarity >= np.float32(min_similarity)).all()

    @rule(min_similarity=st.sampled_from([FLOOR, 0.95]), seed=st.integers(0, 99))
    def released_samples_stay(self, min_similarity: float, seed: int) -> None:
        places = self.world.places()
        chosen = np.random.default_rng(seed).random(len(places)) < 0.2
        released = [place for place, take in zip(places, chosen, strict=True) if take]
        names = sorted(self.world.shards)
        ids = [row_ids(names.index(n), np.array([row]))[0] for n, row in released]
        removals = self.world.decide(min_similarity, released=np.array(ids, np.uint64))
        expected = self.world.by_brute_force(min_similarity, released)
        assert self.world.removed(removals) == expected


TestShards = Shards.TestCase
TestShards.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)


def some_shards(count: int, seed: int = 0) -> dict[str, Shard]:
    """Make shards with many near copies, within and across."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((20, 8))
    made = {}
    for i in range(count):
        rows = centers[rng.integers(20, size=40)] + 0.1 * rng.standard_normal((40, 8))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        made[f"{i:02d}"] = shard_of(rows.astype(np.float16), 100 * seed + i)
    return made


def a_world(shards: dict[str, Shard], storage: MemoryStorage | LocalStorage) -> World:
    sample = np.concatenate([shard.vectors for shard in shards.values()])
    return make_world(storage, sample, CellSettings(5, 3, **ALL_CELLS))


@settings(max_examples=4)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_neither_order_nor_batches_of_arrival_count(order: list[int], size: int) -> None:
    shards = some_shards(6)
    world = a_world(shards, MemoryStorage())
    names = [f"{i:02d}" for i in order]
    for start in range(0, 6, size):
        world.bring({name: shards[name] for name in names[start : start + size]})
    together = a_world(shards, MemoryStorage())
    together.bring(shards)
    one, other = world.decide(0.9), together.decide(0.9)
    for field in ("removed", "survivor", "similarity", "kind"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert len(one)


class DiesAtWrite(MemoryStorage):
    """A storage whose machine is gone before a certain write."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        object.__setattr__(self, "lives", lives)

    def write(self, path: str, data: bytes | memoryview) -> None:
        object.__setattr__(self, "lives", self.lives - 1)  # type: ignore[attr-defined]
        if self.lives == 0:  # type: ignore[attr-defined]
            raise StorageError(f"died before {path}")
        super().write(path, data)


@pytest.mark.parametrize("lives", range(2, 40, 5))
def test_a_step_interrupted_at_any_write_is_done_again(lives: int) -> None:
    shards = some_shards(4)
    world = a_world(shards, DiesAtWrite(lives))
    first, last = {"00": shards["00"], "01": shards["01"]}, shards
    died = 0
    for batch in (first, last):
        while True:
            try:
                world.bring(batch, max_rows_held=50)
                break
            except StorageError:
                died += 1
    assert died <= 1
    assert world.removed(world.decide(0.9)) == world.by_brute_force(0.9)


def test_a_shard_that_went_before_it_was_assigned_holds_up_nothing() -> None:
    shards = some_shards(3)
    world = a_world(shards, DiesAtWrite(3))  # after the batch was begun
    with pytest.raises(StorageError):
        world.bring(shards)
    del world.shards["01"]
    assert world.bring({}) == 2
    assert world.removed(world.decide(0.9)) == world.by_brute_force(0.9)


def test_shards_that_are_known_cost_nothing() -> None:
    shards = some_shards(3)
    storage = MemoryStorage()
    world = a_world(shards, storage)
    assert world.bring(shards) == 3
    written = dict(storage.files)
    assert world.bring(shards) == 0
    world.decide(0.9)
    world.decide(0.95)
    assert storage.files == written


def test_a_state_on_disk_is_opened_again(tmp_path: object) -> None:
    shards = some_shards(3)
    world = a_world(shards, LocalStorage(tmp_path))  # type: ignore[arg-type]
    world.bring(shards)
    again = World(world.storage, open_state(world.storage, "s"), shards)
    assert again.removed(again.decide(0.9)) == world.by_brute_force(0.9)


def test_vectors_that_can_not_be_compared_are_kept() -> None:
    shards = some_shards(2)
    shards["00"].vectors[:5] = np.nan
    shards["01"].vectors[:5] = 0
    world = a_world(shards, MemoryStorage())
    world.bring(shards)
    removed = world.removed(world.decide(0.9))
    assert removed
    assert not any(row < 5 for _, row in removed)


def test_shards_without_samples_and_no_shards_are_no_trouble() -> None:
    shards = some_shards(1)
    world = a_world(shards, MemoryStorage())
    assert len(world.decide(0.9)) == 0
    world.bring({"empty": shard_of(np.empty((0, 8), np.float16), 1)})
    assert len(world.decide(0.9)) == 0


def test_a_decision_needs_every_shard_compared_and_a_similarity_with_pairs() -> None:
    shards = some_shards(2)
    world = a_world(shards, MemoryStorage())
    world.shards |= shards
    with pytest.raises(StaleError, match="2 shards have no vectors in the state"):
        world.decide(0.9)
    add_shards(world.state, world.fingerprints(), world.read, device="cpu")
    with pytest.raises(StaleError, match=r"bin 0 has not compared 1 parts yet"):
        world.decide(0.9)
    world.bring({})
    with pytest.raises(InputError, match=r"min_similarity is 0\.79; .* from 0\.8 to 1"):
        world.decide(FLOOR - 0.01)

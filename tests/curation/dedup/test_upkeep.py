"""A state that is brought up to date in one go."""

from collections.abc import Mapping

import numpy as np
import pytest

from curation.dedup.bins import compare_bin, pending_bins
from curation.dedup.duplicates import similarity_floor
from curation.dedup.upkeep import EmbeddedShards, bring_shards, forget_state
from curation.storage import MemoryStorage


def embedded(shards: Mapping[str, np.ndarray]) -> EmbeddedShards:
    return EmbeddedShards(
        encoder="one",
        fingerprints={name: f"print of {name}" for name in shards},
        num_rows=sum(map(len, shards.values())),
        read=lambda name: shards[name],
    )


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, 16))
    made: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return made.astype(np.float16)


SHARDS = {"a": unit(30, 0), "b": unit(20, 1)}


def test_what_was_brought_is_not_brought_again() -> None:
    storage = MemoryStorage()
    brought = bring_shards(storage, "state", embedded(SHARDS), 0.95)
    assert brought is not None and brought.num_new == 2
    assert [name for name, _ in brought.shards] == ["a", "b"]
    assert sum(compare_bin(brought.state, bin_) for bin_ in [0]) == 50
    before = storage.list_files()
    again = bring_shards(storage, "state", embedded(SHARDS), 0.95)
    assert again is not None and again.num_new == 0
    assert pending_bins(again.state) == []
    assert storage.list_files() == before


def test_without_any_vector_there_is_nothing_to_compare() -> None:
    nothing = {"a": np.zeros((5, 16), np.float16), "b": np.empty((0, 16), np.float16)}
    assert bring_shards(MemoryStorage(), "state", embedded(nothing), 0.95) is None
    assert bring_shards(MemoryStorage(), "state", embedded({}), 0.95) is None


class Interrupted(MemoryStorage):
    """Lets so many files be deleted."""

    left = 0

    def delete(self, path: str) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().delete(path)


def test_a_state_that_is_half_forgotten_is_one_that_lacks_shards() -> None:
    whole = MemoryStorage()
    brought = bring_shards(whole, "state", embedded(SHARDS), 0.95)
    assert brought is not None
    compare_bin(brought.state, 0)
    for left in range(len(whole.list_files())):
        storage = Interrupted()
        for file in whole.list_files():
            storage.write(file.path, whole.read(file.path))
        storage.left = left
        with pytest.raises(KeyboardInterrupt):
            forget_state(storage, "state")
        again = bring_shards(storage, "state", embedded(SHARDS), 0.95)
        assert again is not None
        for bin_ in pending_bins(again.state):
            compare_bin(again.state, bin_)
        assert [f.path for f in storage.list_files()] == [
            f.path for f in whole.list_files()
        ]


def test_what_is_forgotten_is_begun_anew() -> None:
    storage = MemoryStorage()
    bring_shards(storage, "state", embedded(SHARDS), 0.95)
    forget_state(storage, "state")
    assert storage.list_files() == []
    forget_state(storage, "state")
    brought = bring_shards(storage, "state", embedded(SHARDS), 0.95)
    assert brought is not None and brought.num_new == 2


@pytest.mark.parametrize(("threshold", "floor"), [(0.95, 0.9), (0.9, 0.9), (0.8, 0.8)])
def test_pairs_are_kept_down_to_the_floor(threshold: float, floor: float) -> None:
    assert similarity_floor(threshold) == floor

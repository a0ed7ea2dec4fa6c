"""A state that is brought up to date in one go."""

from collections.abc import Mapping

import numpy as np
import pytest

from curation.dedup.upkeep import EmbeddedShards, compare_shards, similarity_floor
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


def test_what_was_compared_is_not_compared_again() -> None:
    storage = MemoryStorage()
    shards = {"a": unit(30, 0), "b": unit(20, 1)}
    assert compare_shards(storage, "state", embedded(shards), 0.95) is not None
    before = storage.list_files()
    compared = compare_shards(storage, "state", embedded(shards), 0.95)
    assert compared is not None
    assert len(compared.ordinals) == 2
    assert storage.list_files() == before


def test_without_any_vector_there_is_nothing_to_compare() -> None:
    nothing = {"a": np.zeros((5, 16), np.float16), "b": np.empty((0, 16), np.float16)}
    assert compare_shards(MemoryStorage(), "state", embedded(nothing), 0.95) is None
    assert compare_shards(MemoryStorage(), "state", embedded({}), 0.95) is None


@pytest.mark.parametrize(("threshold", "floor"), [(0.95, 0.9), (0.9, 0.9), (0.8, 0.8)])
def test_pairs_are_kept_down_to_the_floor(threshold: float, floor: float) -> None:
    assert similarity_floor(threshold) == floor

"""Over all kinds together, the answer is one greedy leader's."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curation.dedup
from curation.dedup.centroids import CellSettings
from curation.dedup.duplicates import ComparedShards, Rule, find_duplicates
from curation.dedup.resolve import EXACT, PERCEPTUAL, SEMANTIC, Removals
from curation.dedup.rows import row_ids
from curation.dedup.state import current_ordinals
from curation.errors import InputError
from curation.storage import MemoryStorage
from tests.curation.dedup.brute_force import cosines, greedy_leader
from tests.curation.dedup.world import ALL_CELLS, Shard, World, make_world

SHARD_ROWS = 12


class Pictures:
    """Samples of shards: each shows one of a few pictures, as one of its versions."""

    def __init__(self, seed: int, num_shards: int) -> None:
        rng = np.random.default_rng(seed)
        self.num_shards = num_shards
        count = num_shards * SHARD_ROWS
        self.version = rng.integers(30, size=count)
        hashes = rng.integers(256, size=(8, 32)).astype(np.uint8)[rng.integers(8, size=30)]
        flips = np.packbits(rng.random((30, 256)) < 0.04, axis=1)
        self.hashes = (hashes ^ flips)[self.version]
        vectors = rng.standard_normal((8, 6))[rng.integers(8, size=30)]
        vectors += 0.15 * rng.standard_normal((30, 6))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = vectors.astype(np.float16)[self.version]
        self.scores = rng.integers(4, size=count).astype(float)

    def ids(self) -> np.ndarray:
        shards = range(self.num_shards)
        return np.concatenate([row_ids(shard, SHARD_ROWS) for shard in shards])

    def rows(self, shard: int) -> slice:
        return slice(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)

    def read(self, shard: int, columns: Sequence[str]) -> pa.Table:
        ours = self.rows(shard)
        table = pa.table(
            {
                "sha256": [f"{version:064x}" for version in self.version[ours]],
                "error": pa.nulls(SHARD_ROWS, pa.string()),
                "perceptual_hash": pa.array(
                    [row.tobytes() for row in self.hashes[ours]], pa.binary(32)
                ),
                "score": self.scores[ours],
            }
        )
        return table.select(columns)

    def compared(self) -> ComparedShards:
        world = make_world(MemoryStorage(), self.vectors, CellSettings(3, 2, **ALL_CELLS))
        world.bring({f"{s}": self._shard(s) for s in range(self.num_shards)})
        return compared_in(world)

    def _shard(self, shard: int) -> Shard:
        ours = self.rows(shard)
        return Shard("1", self.vectors[ours], self.scores[ours], self.scores[ours])

    def similar(self, rule: Rule) -> np.ndarray:
        """Tell by brute force which are alike."""
        found = np.zeros((len(self.version),) * 2, bool)
        if rule.exact:
            found |= self.version == self.version[:, None]
        if rule.max_perceptual_distance is not None:
            bits = np.unpackbits(self.hashes, axis=1)
            distance = (bits != bits[:, None]).sum(axis=2)
            found |= distance <= rule.max_perceptual_distance
        if rule.min_similarity is not None:
            found |= cosines(self.vectors) >= np.float32(rule.min_similarity)
        return found


def compared_in(world: World) -> ComparedShards:
    ordinals = current_ordinals(world.state, sorted(world.fingerprints().items()))
    return ComparedShards(world.state, ordinals)


@settings(max_examples=15)
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 4),
    st.builds(
        Rule,
        prefer=st.just(("score desc",)),
        exact=st.booleans(),
        max_perceptual_distance=st.sampled_from([None, 0, 20, 31]),
        min_similarity=st.sampled_from([None, 0.85, 0.95]),
    ),
    st.floats(0, 0.3),
)
def test_all_kinds_together_give_one_greedy_leaders_answer(
    seed: int, num_shards: int, rule: Rule, released_share: float
) -> None:
    pictures = Pictures(seed, num_shards)
    ids = pictures.ids()
    stays = np.random.default_rng(seed).random(len(ids)) < released_share
    removals = find_duplicates(
        num_shards,
        pictures.read,
        rule,
        compared=pictures.compared() if rule.min_similarity else None,
        released=ids[stays],
        device="cpu",
    )
    similar = pictures.similar(rule) & ~(stays & stays[:, None])
    order = np.lexsort((np.arange(len(ids)), -pictures.scores, ~stays))
    kept = greedy_leader(similar, order)
    assert removals.removed.tolist() == ids[~kept].tolist()
    assert not set(removals.survivor.tolist()) & set(removals.removed.tolist())


def kinds(removals: Removals) -> set[int]:
    return set(removals.kind.tolist())


def test_each_removal_says_its_kind_and_how_similar_the_two_are() -> None:
    pictures = Pictures(0, 4)
    rule = Rule(("score desc",), True, 25, 0.9)
    removals = find_duplicates(
        4, pictures.read, rule, compared=pictures.compared(), device="cpu"
    )
    assert kinds(removals) == {EXACT, PERCEPTUAL, SEMANTIC}
    assert (removals.similarity[removals.kind == EXACT] == 1).all()
    assert (removals.similarity[removals.kind == PERCEPTUAL] >= 1 - 25 / 256).all()
    assert (removals.similarity[removals.kind == SEMANTIC] >= np.float32(0.9)).all()


@pytest.mark.parametrize("text", ["centroid_similarity asc", "random desc"])
def test_samples_can_be_preferred_by_what_the_state_computes(text: str) -> None:
    pictures = Pictures(1, 3)
    rule = Rule((text,), exact=False, min_similarity=0.9)
    compared = pictures.compared()
    removals = find_duplicates(3, pictures.read, rule, compared=compared, device="cpu")
    kept = np.setdiff1d(pictures.ids(), removals.removed)
    by_score = Rule(("score desc",), exact=False, min_similarity=0.9)
    other = find_duplicates(3, pictures.read, by_score, compared=compared, device="cpu")
    assert len(kept) < len(pictures.ids())
    assert removals.removed.tolist() != other.removed.tolist()


def test_a_rule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="max_perceptual_distance is 32; expected 0 to 31"):
        Rule((), max_perceptual_distance=32)
    with pytest.raises(InputError, match="min_similarity is 2; expected more than 0"):
        Rule((), min_similarity=2)
    with pytest.raises(InputError, match="there is no state with vectors"):
        find_duplicates(1, Pictures(0, 1).read, Rule((), min_similarity=0.9))


def test_every_public_name_is_there() -> None:
    assert dir(curation.dedup) == sorted(curation.dedup.__all__)
    for name in curation.dedup.__all__:
        assert getattr(curation.dedup, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = curation.dedup.nothing

"""Shards that come, go and are replaced leave the answer of starting over without them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from curation.dedup.assignment import ShardVectors, assign_shards
from curation.dedup.bins import compare_bin
from curation.dedup.centroids import CellSettings, fit_centroids
from curation.dedup.incremental import decide_shards
from curation.dedup.preference import Places, parse_preferences
from curation.dedup.resolve import Removals
from curation.dedup.rows import ordinals, rows_in_shard
from curation.dedup.state import (
    State,
    StateSettings,
    begin_batch,
    create_state,
    current_ordinals,
)
from curation.storage import MemoryStorage, Storage
from tests.curation.dedup.brute_force import cosines, greedy_leader
from tests.curation.dedup.strategies import crowded_vectors

FLOOR = 0.8


@dataclass(frozen=True)
class Shard:
    """What a shard holds now."""

    fingerprint: str
    vectors: np.ndarray
    scores: np.ndarray
    hints: np.ndarray
    """What is told of the order of preference while comparing; may be wrong."""


@dataclass
class World:
    """Shards, as a source has them, beside the state that is kept of them."""

    storage: Storage
    state: State
    shards: dict[str, Shard] = field(default_factory=dict)

    def bring(self, shards: dict[str, Shard], max_rows_held: int = 1000) -> None:
        """Bring what is new into the state, in one batch, and compare it."""
        self.shards |= shards
        batch = begin_batch(self.state, self.fingerprints())
        if batch is None:
            return
        parts = [
            ShardVectors(
                ordinal,
                self.state.settings.encoder,
                self.shards[name].vectors,
                self.shards[name].hints,
            )
            for ordinal, (name, _) in batch.shards.items()
        ]
        assign_shards(self.state, parts, max_rows_held=max_rows_held, device="cpu")
        for bin_ in range(self.state.centroids.num_bins):
            compare_bin(self.state, bin_, device="cpu")

    def fingerprints(self) -> dict[str, str]:
        return {name: shard.fingerprint for name, shard in self.shards.items()}

    def decide(self, min_similarity: float, **options: object) -> Removals:
        names = sorted(self.shards)
        alive = current_ordinals(
            self.state, [(name, self.shards[name].fingerprint) for name in names]
        )

        def read(ordinal: int, columns: Sequence[str]) -> pa.Table:
            return pa.table({"score": self.shards[names[ordinal]].scores}).select(columns)

        return decide_shards(
            self.state,
            alive,
            Places(read, parse_preferences(["score desc"])),
            min_similarity=min_similarity,
            device="cpu",
            **options,  # type: ignore[arg-type]
        )

    def removed(self, removals: Removals) -> set[tuple[str, int]]:
        names = sorted(self.shards)
        shards = ordinals(removals.removed).tolist()
        rows = rows_in_shard(removals.removed).tolist()
        return {(names[shard], row) for shard, row in zip(shards, rows, strict=True)}

    def places(self) -> list[tuple[str, int]]:
        """List all samples, in order of id."""
        return [
            (name, row)
            for name in sorted(self.shards)
            for row in range(len(self.shards[name].scores))
        ]

    def by_brute_force(
        self, min_similarity: float, released: Sequence[tuple[str, int]] = ()
    ) -> set[tuple[str, int]]:
        """Give what a greedy leader removes: released ones first, then the best score."""
        places = self.places()
        if not places:
            return set()
        vectors = np.stack([self.shards[name].vectors[row] for name, row in places])
        similar = cosines(vectors) >= np.float32(min_similarity)
        stays = np.array([place in set(released) for place in places])
        similar[np.ix_(stays, stays)] = False
        scores = [self.shards[name].scores[row] for name, row in places]
        order = sorted(range(len(places)), key=lambda i: (not stays[i], -scores[i], i))
        kept = greedy_leader(similar, np.array(order))
        return {place for place, is_kept in zip(places, kept, strict=True) if not is_kept}


def make_world(
    storage: Storage, sample: np.ndarray, cells: CellSettings, **changed: object
) -> World:
    given_settings = StateSettings("encoder", FLOOR, leader_similarity=0.97, max_pairs=4)
    centroids = fit_centroids(sample, cells, FLOOR, device="cpu")
    state = create_state(storage, "s", replace(given_settings, **changed), centroids)
    return World(storage, state)


def shard_of(vectors: np.ndarray, seed: int) -> Shard:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, len(vectors)).astype(float)
    hints = scores if rng.random() < 0.5 else rng.random(len(vectors))
    return Shard(f"made of {seed}", vectors, scores, hints)


ALL_CELLS = {"halo": 2.0, "max_cells_per_row": 6}
"""Every row is shown to every cell, so that brute force has the same answer."""


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
            CellSettings(num_cells, num_bins, **ALL_CELLS),  # type: ignore[arg-type]
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
        ids = np.array([(names.index(n) << 32) + row for n, row in released], np.uint64)
        removals = self.world.decide(min_similarity, released=ids)
        expected = self.world.by_brute_force(min_similarity, released)
        assert self.world.removed(removals) == expected


TestShards = Shards.TestCase
TestShards.settings = settings(max_examples=25, stateful_step_count=10, deadline=None)

"""Shards as a source has them, beside the state that is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from curation.dedup.assignment import ShardVectors, add_shards
from curation.dedup.bins import compare_bin, pending_bins
from curation.dedup.centroids import CellSettings, fit_centroids
from curation.dedup.incremental import decide_shards
from curation.dedup.preference import Places, parse_preferences
from curation.dedup.resolve import Removals
from curation.dedup.rows import ordinals, rows_in_shard
from curation.dedup.state import (
    State,
    StateSettings,
    create_state,
    current_ordinals,
)
from curation.storage import Storage
from tests.curation.dedup.brute_force import cosines, greedy_leader

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

    def bring(self, shards: dict[str, Shard], max_rows_held: int = 1000) -> int:
        """Bring what is new into the state, and compare it; give how many shards were."""
        self.shards |= shards
        count = add_shards(
            self.state,
            self.fingerprints(),
            self.read,
            max_rows_held=max_rows_held,
            device="cpu",
        )
        for bin_ in pending_bins(self.state):
            compare_bin(self.state, bin_, device="cpu")
        return count

    def read(self, name: str, ordinal: int) -> ShardVectors:
        shard = self.shards[name]
        encoder = self.state.settings.encoder
        return ShardVectors(ordinal, encoder, shard.vectors, shard.hints)

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


ALL_CELLS: dict[str, Any] = {"halo": 2.0, "max_cells_per_row": 6}
"""Every row is shown to every cell, so that brute force has the same answer."""

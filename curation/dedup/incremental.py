"""The last step of a batch: one decision on all shards that take part."""

from collections.abc import Iterable, Sequence

import numpy as np

from curation.dedup.bins import check_in_bins
from curation.dedup.decision import decide
from curation.dedup.known_pairs import KnownPairs, read_pairs
from curation.dedup.resolve import Edges, PlaceOf, Removals, join_edges
from curation.dedup.rows import distinct, ordinals, places_in, renumbered
from curation.dedup.state import Part, State, read_parts
from curation.errors import InputError, StaleError

_NOBODY = np.empty(0, np.uint64)


def decide_shards(
    state: State,
    shards: Sequence[int],
    place_of: PlaceOf,
    *,
    min_similarity: float,
    edges: Edges | None = None,
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    released: np.ndarray = _NOBODY,
    device: str | None = None,
) -> Removals:
    """Decide which samples of some shards are removed.

    The answer is the greedy leader's on these shards, up to what cells lose: when they
    came, what else came or went, and what was decided before leave no trace.

    Ids, here and in the result, have a shard's place in ``shards`` for its ordinal.

    Args:
        state: Has the pairs.
        shards: The state's ordinals of those that take part: see ``current_ordinals``.
        place_of: The order of preference.
        min_similarity: Cosine from which two samples are copies; at least the state's
            ``similarity_floor``.
        edges: Further pairs that count as copies, such as perceptual ones.
        exact: Ids with the same bytes as another, and those others, as
            ``find_exact_duplicates`` gives them for the same preferences.
        released: Ids of samples that stay, because they were published.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        InputError: ``min_similarity`` is below the floor or above 1.
        StaleError: Some of the shards' vectors were not compared yet.
    """
    floor = state.settings.similarity_floor
    if not floor <= min_similarity <= 1:
        raise InputError(
            f"min_similarity is {min_similarity}; {state.folder} has the pairs from "
            f"{floor} to 1. For a lower one, begin another state"
        )
    found, followers = known_edges(state, shards)
    semantic = found.where(found.similarity >= np.float32(min_similarity))
    return decide(
        join_edges([semantic] if edges is None else [semantic, edges]),
        followers,
        check_in_bins(state, places_in(shards), released, min_similarity, device=device),
        place_of,
        exact=exact,
        released=released,
    )


def known_edges(state: State, shards: Sequence[int]) -> tuple[Edges, np.ndarray]:
    """Read the similar pairs of some shards' samples.

    Args:
        state: Has compared the shards.
        shards: The state's ordinals.

    Returns:
        Edges, not directed, each once, down to the floor; and the ids of followers, not all
        of whose edges are there. Ids have a shard's place in ``shards`` for its ordinal.

    Raises:
        StaleError: Some of the shards' vectors were not compared yet.
    """
    parts = [part for part in read_parts(state) if set(part.ordinals) & set(shards)]
    known = [
        pairs
        for bin_ in range(state.centroids.num_bins)
        for pairs in _read_compared(state, bin_, parts)
    ]
    edges = join_edges(pairs.edges for pairs in known)
    edges = edges.where(_take_part(edges.row, shards) & _take_part(edges.better, shards))
    followers = np.concatenate([_NOBODY, *(pairs.followers for pairs in known)])
    followers = distinct(followers[_take_part(followers, shards)])
    places = places_in(shards)
    # Two bins may both have found a pair.
    low, high = np.minimum(edges.row, edges.better), np.maximum(edges.row, edges.better)
    order = np.lexsort((high, low))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    edges = edges.where(order[is_first])
    return (
        Edges(
            renumbered(edges.row, places),
            renumbered(edges.better, places),
            edges.similarity,
            edges.kind,
        ),
        renumbered(followers, places),
    )


def _read_compared(state: State, bin_: int, parts: Iterable[Part]) -> list[KnownPairs]:
    """Read a bin's pairs, if it has compared all that takes part."""
    known = read_pairs(state, bin_)
    compared = {name for pairs in known for name in pairs.parts}
    missing = [p.name for p in parts if bin_ in p.bins and p.name not in compared]
    if missing:
        raise StaleError(
            f"{state.folder}: bin {bin_} has not compared {len(missing)} parts yet, such "
            f"as {missing[0]}; compare every bin before deciding"
        )
    return known


def _take_part(ids: np.ndarray, shards: Sequence[int]) -> np.ndarray:
    found: np.ndarray = np.isin(ordinals(ids), np.array(shards, np.int64))
    return found

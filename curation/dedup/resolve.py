"""Which samples go, and which kept sample stands for each: one answer over all kinds.

Everything that is known of two samples being alike is an edge. It is directed, here and
nowhere else, from the one that is preferred less to the one that is preferred more, so
that what is found need not be found again when preferences change.

A sample is removed if and only if one that it has an edge to is kept. So every removed
sample has a kept twin, no two kept samples have an edge, and the result depends on the
edges and the order and on nothing else: it is the greedy leader's, the first maximal
independent set in the order of preference.

Samples with the same bytes share a fate: they go to the survivor of the first of them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.rows import distinct, is_among, ordinals, rows_in_shard
from curation.errors import DataError

KINDS = ("exact", "perceptual", "semantic")
"""Of a duplicate, the closest first. Elsewhere a kind is its place in this tuple."""

EXACT, PERCEPTUAL, SEMANTIC = range(3)


PlaceOf = Callable[[np.ndarray], np.ndarray]
"""Gives the places of samples, by ids, in the order of preference; the first is best."""


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Pairs of samples that are alike. All arrays have the same length."""

    row: np.ndarray
    """uint64; once directed, the one that is preferred less."""
    better: np.ndarray
    """uint64; once directed, the one that is preferred more."""
    similarity: np.ndarray
    """float32, in [-1, 1]; 1 is the same."""
    kind: np.ndarray
    """int8, an index into ``KINDS``."""

    def __len__(self) -> int:
        return len(self.row)

    def where(self, mask: np.ndarray) -> "Edges":
        """Give the edges that a mask or an index selects."""
        return Edges(
            self.row[mask], self.better[mask], self.similarity[mask], self.kind[mask]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Removals:
    """Removed samples, each with the kept one that stands for it, sorted by ``removed``."""

    removed: np.ndarray
    """uint64, without repetition."""
    survivor: np.ndarray
    """uint64, none of which is among ``removed``."""
    similarity: np.ndarray
    """float32, of the two."""
    kind: np.ndarray
    """int8, an index into ``KINDS``."""

    def __len__(self) -> int:
        return len(self.removed)


def make_edges(
    row: np.ndarray, better: np.ndarray, similarity: np.ndarray | float, kind: int
) -> Edges:
    """Put edges of one kind together."""
    return Edges(
        row.astype(np.uint64),
        better.astype(np.uint64),
        np.broadcast_to(np.asarray(similarity, np.float32), row.shape),
        np.full(len(row), kind, np.int8),
    )


def join_edges(parts: Iterable[Edges]) -> Edges:
    """Put edges of several kinds or sources together; an edge may come twice."""
    listed = [make_edges(np.empty(0), np.empty(0), 0.0, EXACT), *parts]
    return Edges(
        np.concatenate([part.row for part in listed]),
        np.concatenate([part.better for part in listed]),
        np.concatenate([part.similarity for part in listed]),
        np.concatenate([part.kind for part in listed]),
    )


def directed(edges: Edges, place_of: PlaceOf) -> Edges:
    """Turn edges so that ``better`` is the one that is preferred."""
    nodes, numbers = np.unique(
        np.concatenate([edges.row, edges.better]), return_inverse=True
    )
    places = place_of(nodes)[numbers]
    row, better = places[: len(edges)], places[len(edges) :]
    return Edges(
        np.where(row > better, edges.row, edges.better),
        np.where(row > better, edges.better, edges.row),
        edges.similarity,
        edges.kind,
    )


def resolve(
    edges: Edges,
    *,
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    released: np.ndarray | None = None,
) -> Removals:
    """Decide which samples are removed, and which kept sample stands for each.

    Args:
        edges: Perceptual and semantic pairs that count as alike, directed.
        exact: Ids that have the same bytes as another, and that other: the first of its
            group, as ``find_exact_duplicates`` gives them.
        released: Ids of samples that stay whatever they are alike to, because they
            were published. By default there are none.

    Raises:
        DataError: Edges go in a circle, so their directions are not those of one order.
    """
    copies, originals = exact or (np.empty(0, np.uint64), np.empty(0, np.uint64))
    if released is not None and len(released):
        edges = _towards_released(edges, released)
        copies, originals = _with_released_original(copies, originals, released)
    if len(copies):
        edges = edges.where(~is_among(edges.row, copies) & ~is_among(edges.better, copies))
    removals = _with_best_survivors(edges, _kept_ends(edges))
    return _with_copies(removals, copies, originals)


def keep_greedily(row: np.ndarray, better: np.ndarray, num_nodes: int) -> np.ndarray:
    """Keep each node unless one that it has an edge to is kept.

    Args:
        row: ``(E,)`` int64, from 0 to ``num_nodes - 1``: the ends that may go.
        better: ``(E,)`` int64: the ends for which they go.
        num_nodes: How many there are.

    Returns:
        ``(num_nodes,)`` bool: True is kept.

    Raises:
        DataError: Edges go in a circle.
    """
    by_better = np.argsort(better, kind="stable")
    targets = row[by_better]
    starts = np.searchsorted(better[by_better], np.arange(num_nodes + 1))
    waiting_for = np.bincount(row, minlength=num_nodes)
    kept = np.zeros(num_nodes, bool)
    open_ = np.ones(num_nodes, bool)
    # Only the edges of nodes just decided are looked at, because chains are long: the
    # frames of a film, say, ranked by name.
    decided = np.flatnonzero(waiting_for == 0)
    while len(decided):
        kept[decided] = True
        open_[decided] = False
        reached = _targets_of(decided, starts, targets)
        dropped = distinct(reached[open_[reached]])
        open_[dropped] = False
        freed, counts = np.unique(_targets_of(dropped, starts, targets), return_counts=True)
        waiting_for[freed] -= counts
        decided = freed[(waiting_for[freed] == 0) & open_[freed]]
    if open_.any():
        raise DataError(
            f"{int(open_.sum())} samples are each preferred less than another of them; "
            "edges of several kinds must be directed by the same preferences"
        )
    return kept


def duplicate_tables(
    removals: Removals,
    shards: Iterable[int],
    name: Callable[[int], str],
    read_keys: Callable[[int], pa.Array],
) -> Iterator[tuple[int, pa.Table]]:
    """Give each shard's removed samples as a ``DUPLICATES`` table of ``tables.py``.

    Args:
        removals: Of all shards.
        shards: Ordinals; each gets a table, an empty one if it loses nothing.
        name: Gives a shard's name.
        read_keys: Gives the keys of a shard's samples, in order. It is called for one
            shard at a time, and twice for each.

    Yields:
        The ordinal and the table, whose rows are in the order of the shard.
    """
    removed_shards = ordinals(removals.removed)
    survivor_keys = np.empty(len(removals), object)
    survivor_shards = ordinals(removals.survivor)
    for shard in np.unique(survivor_shards).tolist():
        ours = np.flatnonzero(survivor_shards == shard)
        rows = pa.array(rows_in_shard(removals.survivor[ours]))
        survivor_keys[ours] = read_keys(shard).take(rows).to_pylist()
    for shard in shards:
        ours = np.flatnonzero(removed_shards == shard)
        rows = pa.array(rows_in_shard(removals.removed[ours]))
        yield (
            shard,
            pa.table(
                {
                    "key": read_keys(shard).take(rows),
                    "survivor_shard": pa.array(
                        [name(survivor) for survivor in survivor_shards[ours].tolist()],
                        pa.string(),
                    ),
                    "survivor_key": pa.array(survivor_keys[ours].tolist(), pa.string()),
                    "kind": pa.array(
                        [KINDS[kind] for kind in removals.kind[ours]], pa.string()
                    ),
                    "similarity": pa.array(removals.similarity[ours], pa.float32()),
                }
            ),
        )


def _kept_ends(edges: Edges) -> np.ndarray:
    """Tell for each edge whether its better end is kept."""
    nodes, numbers = np.unique(
        np.concatenate([edges.row, edges.better]), return_inverse=True
    )
    row, better = numbers[: len(edges)], numbers[len(edges) :]
    return keep_greedily(row, better, len(nodes))[better]


def _with_best_survivors(edges: Edges, better_is_kept: np.ndarray) -> Removals:
    """Choose among the kept twins of each row the closest: by kind, then similarity."""
    edges = edges.where(better_is_kept)
    order = np.lexsort((edges.better, -edges.similarity, edges.kind, edges.row))
    edges = edges.where(order)
    first = np.ones(len(edges), bool)
    first[1:] = edges.row[1:] != edges.row[:-1]
    chosen = edges.where(first)
    return Removals(chosen.row, chosen.better, chosen.similarity, chosen.kind)


def _with_copies(removals: Removals, copies: np.ndarray, originals: np.ndarray) -> Removals:
    """Add exact copies: they go to their original, or to whom that went."""
    place = np.searchsorted(removals.removed, originals)
    place = np.minimum(place, max(len(removals) - 1, 0))
    gone = np.zeros(len(copies), bool)
    if len(removals):
        gone = removals.removed[place] == originals
    survivor = originals.copy()
    similarity = np.ones(len(copies), np.float32)
    kind = np.full(len(copies), EXACT, np.int8)
    survivor[gone] = removals.survivor[place[gone]]
    similarity[gone] = removals.similarity[place[gone]]
    kind[gone] = removals.kind[place[gone]]
    removed = np.concatenate([removals.removed, copies])
    order = np.argsort(removed)
    return Removals(
        removed[order],
        np.concatenate([removals.survivor, survivor])[order],
        np.concatenate([removals.similarity, similarity])[order],
        np.concatenate([removals.kind, kind])[order],
    )


def _towards_released(edges: Edges, released: np.ndarray) -> Edges:
    """Turn edges so that released samples go for nobody."""
    row_is, better_is = is_among(edges.row, released), is_among(edges.better, released)
    turned = row_is & ~better_is
    edges = Edges(
        np.where(turned, edges.better, edges.row),
        np.where(turned, edges.row, edges.better),
        edges.similarity,
        edges.kind,
    )
    return edges.where(~(row_is & better_is))


def _with_released_original(
    copies: np.ndarray, originals: np.ndarray, released: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make a released sample the original of its group; further released ones stay."""
    groups = np.unique(originals)
    members = np.concatenate([groups, copies])
    group = np.concatenate([groups, originals])
    is_copy = members != group
    released_first = np.lexsort((members, is_copy, ~is_among(members, released), group))
    members, group = members[released_first], group[released_first]
    starts = np.searchsorted(group, groups)
    new_originals = members[starts][np.searchsorted(groups, group)]
    goes = (members != new_originals) & ~is_among(members, released)
    return members[goes], new_originals[goes]


def _targets_of(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """List the targets of several nodes, one node's after another's."""
    first, count = starts[nodes], starts[nodes + 1] - starts[nodes]
    offsets = np.repeat(first - np.concatenate([[0], np.cumsum(count)[:-1]]), count)
    return targets[offsets + np.arange(len(offsets))]

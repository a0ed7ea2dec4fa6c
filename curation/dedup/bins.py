"""The second step of a batch: each bin finds the similar pairs among its vectors.

Bins are independent of each other, so that any number of processes may do this. A bin
should fit into memory three times; about 250,000 vectors with their halo.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from curation.dedup.comparison import CellRows, Pairs, Thresholds, compare_rows
from curation.dedup.decision import Check, Checked, check_rows
from curation.dedup.known_pairs import (
    KnownPairs,
    compared_parts,
    read_pairs,
    write_pairs,
)
from curation.dedup.preference import order_of
from curation.dedup.resolve import SEMANTIC, Edges, join_edges, make_edges
from curation.dedup.rows import distinct, is_among, ordinals, renumbered
from curation.dedup.state import Part, State, read_parts
from curation.dedup.vectors import Vectors, as_tensor, find_device
from curation.tables import CELL_ROWS, EMBEDDING, embedding_matrix, read_table

_NOBODY = np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class _BinRows:
    """Vectors of a bin, in the order in which they are compared."""

    ids: np.ndarray
    rows: CellRows

    def where(self, rows: np.ndarray) -> "_BinRows":
        return _BinRows(self.ids[rows], self.rows.where(rows))

    def edges(self, pairs: Pairs) -> Edges:
        places = self.rows.places
        similarity = self.rows.vectors.cosines(places[pairs.row], places[pairs.better])
        return make_edges(self.ids[pairs.row], self.ids[pairs.better], similarity, SEMANTIC)


def pending_bins(state: State) -> list[int]:
    """List the bins that have vectors to compare."""
    parts = read_parts(state)
    return [
        bin_
        for bin_ in range(state.centroids.num_bins)
        if {part.name for part in _in_bin(parts, bin_)} - compared_parts(state, bin_)
    ]


def compare_bin(state: State, bin_: int, *, device: str | None = None) -> int:
    """Compare a bin's vectors that are new with each other and with all others.

    Args:
        state: Has the vectors, and gets the pairs.
        bin_: Which, from 0 to ``centroids.num_bins - 1``. Only one process may compare a
            bin at a time.
        device: Where to compute; by default a GPU if there is one.

    Returns:
        How many vectors were new.
    """
    known = read_pairs(state, bin_)
    compared = {name for pairs in known for name in pairs.parts}
    parts = _in_bin(read_parts(state), bin_)
    old = [part for part in parts if part.name in compared]
    new = [part for part in parts if part.name not in compared]
    if not new:
        return 0
    loaded = _load(state, bin_, [*old, *new], device)
    new_shards = {ordinal for part in new for ordinal in part.ordinals}
    is_old = ~_are_of(loaded.ids, new_shards)
    num_new = int((~is_old).sum())
    followers = np.concatenate([_NOBODY, *(pairs.followers for pairs in known)])
    # Old followers are compared when it is decided, if they are kept then.
    matters = ~(is_old & is_among(loaded.ids, followers))
    order = np.argsort(~is_old, kind="stable")
    order = order[matters[order]]
    loaded, is_old = loaded.where(order), is_old[order]
    found = compare_rows(loaded.rows, state.settings.thresholds, is_old)
    is_home = loaded.rows.cells[:, 0] >= 0
    follows = ~is_old & (found.is_cut | (is_home & ~found.is_leader))
    names = tuple(part.name for part in new)
    pairs = KnownPairs(loaded.edges(found.pairs), loaded.ids[follows], names)
    write_pairs(state, state.next_pairs_path(bin_), pairs)
    return num_new


def check_in_bins(
    state: State,
    new_ordinals: np.ndarray,
    released: np.ndarray,
    min_similarity: float,
    *,
    device: str | None = None,
) -> Check:
    """Give what compares samples with all that are kept, by reading bins again.

    Only bins that hold one of the samples are read, one at a time.

    Args:
        state: Has the vectors.
        new_ordinals: The ordinal, in the ids that are given and asked for, of each
            ordinal of the state; -1 for shards that take no part.
        released: Ids of samples that stay.
        min_similarity: From which two samples are copies.
        device: Where to compute; by default a GPU if there is one.
    """
    alive = set(np.flatnonzero(new_ordinals >= 0).tolist())
    parts = [part for part in read_parts(state) if alive & set(part.ordinals)]
    thresholds = Thresholds(min_similarity, min_similarity, state.settings.max_pairs)

    def taking_part(ids: np.ndarray) -> np.ndarray:
        return np.flatnonzero(_are_of(ids, alive))

    @lru_cache(maxsize=1)  # where there is but one bin, all rounds read it once
    def load(bin_: int) -> _BinRows:
        loaded = _load(state, bin_, _in_bin(parts, bin_), device)
        loaded = loaded.where(taking_part(loaded.ids))
        return _BinRows(renumbered(loaded.ids, new_ordinals), loaded.rows)

    def check(unsure: np.ndarray, removed: np.ndarray) -> Checked:
        edges, unsettled = [], [_NOBODY]
        for bin_ in range(state.centroids.num_bins):
            ids = _read_ids(state, bin_, _in_bin(parts, bin_))
            ids = renumbered(ids[taking_part(ids)], new_ordinals)
            if not is_among(unsure, ids).any():
                continue
            loaded = load(bin_)
            loaded = loaded.where(np.flatnonzero(~is_among(loaded.ids, removed)))
            some = _places_of(unsure, loaded.ids)
            stays = is_among(loaded.ids, released)
            pairs, open_ = check_rows(loaded.rows, some, stays, thresholds)
            edges.append(loaded.edges(pairs))
            unsettled.append(loaded.ids[open_])
        return Checked(join_edges(edges), distinct(np.concatenate(unsettled)))

    return check


def read_home_vectors(
    state: State, bin_: int, shards: Set[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Read the vectors of some shards that have their home in a bin.

    Args:
        state: Has the vectors.
        bin_: Which bin.
        shards: The state's ordinals.

    Returns:
        ``(n,)`` uint64, ids of the state, and ``(n, dim)`` float16.
    """
    parts = _in_bin(read_parts(state), bin_)
    parts = [part for part in parts if shards & set(part.ordinals)]
    if not parts:
        return _NOBODY, np.empty((0, len(state.centroids.mean)), np.float16)
    loaded = _load(state, bin_, parts, "cpu")
    is_home = loaded.rows.cells[:, 0] >= 0
    loaded = loaded.where(np.flatnonzero(is_home & _are_of(loaded.ids, shards)))
    rows = loaded.rows.vectors.rows.numpy()[loaded.rows.places]
    return loaded.ids, rows


def _in_bin(parts: Iterable[Part], bin_: int) -> list[Part]:
    return [part for part in parts if bin_ in part.bins]


def _places_of(some: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Say where in ``ids`` those of ``some`` are that are there, in their order."""
    by_id = np.argsort(ids)
    place = np.searchsorted(ids[by_id], some)
    place = by_id[np.minimum(place, len(ids) - 1)]
    found: np.ndarray = place[ids[place] == some]
    return found


def _are_of(ids: np.ndarray, shards: Iterable[int]) -> np.ndarray:
    found: np.ndarray = np.isin(ordinals(ids), np.fromiter(shards, np.int64))
    return found


def _read_ids(state: State, bin_: int, parts: Sequence[Part]) -> np.ndarray:
    paths = [state.rows_path(bin_, part.name) for part in parts]
    tables = [read_table(state.storage, path, CELL_ROWS, ["id"]) for path in paths]
    return np.concatenate([_NOBODY, *(table["id"].to_numpy() for table in tables)])


def _load(state: State, bin_: int, parts: Sequence[Part], device: str | None) -> _BinRows:
    """Read the vectors of a bin, of one part at least, the highest ranks first."""
    paths = [state.rows_path(bin_, part.name) for part in parts]
    table = pa.concat_tables(read_table(state.storage, path, CELL_ROWS) for path in paths)
    array, _ = embedding_matrix(table[EMBEDDING])
    # Lengths were measured when the vectors came.
    vectors = Vectors(
        as_tensor(array), find_device(device), max(part.length_error for part in parts)
    )
    cells = table["cells"].combine_chunks()
    width = state.centroids.max_cells_per_row
    numbers = np.frombuffer(cells.buffers()[1], "<i4").reshape(-1, width)
    order = order_of(table["rank"].to_numpy())
    ids = table["id"].to_numpy()[order]
    return _BinRows(ids, CellRows(vectors, order, numbers[order]))

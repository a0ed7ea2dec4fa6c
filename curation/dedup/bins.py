"""The second step of a batch: each bin finds the similar pairs among its vectors.

Bins are independent of each other, so that any number of processes may do this. A bin
should fit into memory three times; about 250,000 vectors with their halo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.comparison import CellRows, Pairs, Thresholds, compare_rows
from curation.dedup.decision import Check, Checked, check_rows
from curation.dedup.preference import Preference, best_first
from curation.dedup.records import (
    KnownPairs,
    Record,
    read_last_record,
    read_pairs,
    write_pairs,
)
from curation.dedup.resolve import SEMANTIC, Edges, join_edges, make_edges
from curation.dedup.rows import ordinals
from curation.dedup.state import Part, State, missing_shards, read_batches, read_parts
from curation.dedup.vectors import make_vectors
from curation.errors import StaleError
from curation.tables import CELL_ROWS, EMBEDDING, embedding_matrix, read_table

_NOBODY = np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class _BinRows:
    """The vectors of a bin, in order of preference."""

    ids: np.ndarray
    batch: np.ndarray
    rows: CellRows

    def where(self, mask: np.ndarray) -> "_BinRows":
        chosen = np.flatnonzero(mask)
        return _BinRows(self.ids[chosen], self.batch[chosen], self.rows.where(chosen))

    def edges(self, pairs: Pairs) -> Edges:
        places = self.rows.places
        similarity = self.rows.vectors.cosines(places[pairs.row], places[pairs.better])
        return make_edges(self.ids[pairs.row], self.ids[pairs.better], similarity, SEMANTIC)


def compare_bin(state: State, bin_: int, *, device: str | None = None) -> None:
    """Find the similar pairs of a bin's vectors, for each batch that it hasn't yet.

    Args:
        state: Has the vectors, and gets the pairs.
        bin_: Which, from 0 to ``centroids.num_bins - 1``.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        StaleError: Shards of a batch are not assigned yet.
    """
    batches, parts = read_batches(state), read_parts(state)
    missing = missing_shards(batches, parts)
    if missing:
        raise StaleError(
            f"{state.folder}: {len(missing)} shards have no vectors in the state yet, such "
            f"as {next(iter(missing.values()))}; assign them before comparing"
        )
    pending = [
        batch.number
        for batch in batches
        if not state.storage.exists(state.pairs_path(bin_, batch.number))
    ]
    record = read_last_record(state) if pending else None
    for number in pending:
        known = [read_pairs(state, state.pairs_path(bin_, n)) for n in range(number)]
        pairs = _compare_batch(state, bin_, number, known, record, device)
        write_pairs(state, state.pairs_path(bin_, number), pairs)


def check_in_bins(
    state: State, alive: np.ndarray, min_similarity: float, *, device: str | None = None
) -> Check:
    """Give what compares samples with all that are kept, by reading bins again.

    Only bins that hold one of the samples are read, one at a time.

    Args:
        state: Has the vectors.
        alive: Ordinals of the shards that take part.
        min_similarity: From which two samples are copies.
        device: Where to compute; by default a GPU if there is one.
    """
    parts = [part for part in read_parts(state) if set(part.ordinals) & set(alive.tolist())]
    thresholds = Thresholds(min_similarity, min_similarity, state.settings.max_pairs)

    def check(unsure: np.ndarray, removed: np.ndarray) -> Checked:
        edges, unsettled = [], [_NOBODY]
        for bin_ in range(state.centroids.num_bins):
            if not np.isin(unsure, _read_ids(state, bin_, parts)).any():
                continue
            loaded = _load(state, bin_, parts, device)
            takes_part = np.isin(ordinals(loaded.ids), alive)
            loaded = loaded.where(takes_part & ~np.isin(loaded.ids, removed))
            some = np.isin(loaded.ids, unsure)
            kept = np.ones(len(some), bool)
            pairs, open_ = check_rows(loaded.rows, some, kept, thresholds)
            edges.append(loaded.edges(pairs))
            unsettled.append(loaded.ids[open_])
        return Checked(join_edges(edges), np.unique(np.concatenate(unsettled)))

    return check


def _compare_batch(
    state: State,
    bin_: int,
    number: int,
    known: Sequence[KnownPairs],
    record: Record | None,
    device: str | None,
) -> KnownPairs:
    """Compare the vectors of a batch with each other and with all before."""
    decision = record.number if record else -1
    parts = [part for part in read_parts(state) if part.batch <= number]
    if not any(bin_ in part.bins for part in parts if part.batch == number):
        return KnownPairs(join_edges([]), _NOBODY, decision)
    followers = np.concatenate([_NOBODY, *(pairs.followers for pairs in known)])
    if record:
        followers = np.setdiff1d(followers, record.decision.checked)
    loaded = _load(state, bin_, parts, device)
    is_old = loaded.batch < number
    matters = ~(is_old & np.isin(loaded.ids, followers))
    loaded, is_old = loaded.where(matters), is_old[matters]
    found = compare_rows(loaded.rows, state.settings.thresholds, is_old)
    is_home = loaded.rows.cells[:, 0] >= 0
    follows = ~is_old & (found.is_cut | (is_home & ~found.is_leader))
    return KnownPairs(loaded.edges(found.pairs), loaded.ids[follows], decision)


def _read_ids(state: State, bin_: int, parts: Sequence[Part]) -> np.ndarray:
    paths = [state.rows_path(bin_, part.name) for part in parts if bin_ in part.bins]
    tables = [read_table(state.storage, path, CELL_ROWS, ["id"]) for path in paths]
    return np.concatenate([_NOBODY, *(table["id"].to_numpy() for table in tables)])


def _load(state: State, bin_: int, parts: Sequence[Part], device: str | None) -> _BinRows:
    """Read the vectors of a bin, those of one part at least, and sort them."""
    import polars as pl

    paths = [state.rows_path(bin_, part.name) for part in parts if bin_ in part.bins]
    tables = [read_table(state.storage, path, CELL_ROWS) for path in paths]
    table = pa.concat_tables(tables, promote_options="permissive")
    array, _ = embedding_matrix(table[EMBEDDING])
    cells = table["cells"].combine_chunks()
    width = state.centroids.max_cells_per_row
    preferences = [Preference("batch", descending=False)] + [
        Preference(f"rank_{i}", preference.descending)
        for i, preference in enumerate(state.settings.preferences)
    ]
    columns = ["id", *(preference.column for preference in preferences)]
    frame = pl.DataFrame(table.select(columns)).with_row_index("place")
    ordered = best_first(frame, preferences, ["id"])
    places = ordered["place"].to_numpy().astype(np.int64)
    vectors, _, _ = make_vectors(array, device=device)
    cell_numbers = np.frombuffer(cells.buffers()[1], "<i4").reshape(-1, width)[places]
    return _BinRows(
        ordered["id"].to_numpy(),
        ordered["batch"].to_numpy(),
        CellRows(vectors, places, cell_numbers),
    )

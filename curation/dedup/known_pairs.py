"""What comparing the vectors of a bin has found, as it is written into a state."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.resolve import SEMANTIC, Edges, make_edges
from curation.dedup.state import State
from curation.tables import PAIRS, read_about, read_table, write_table


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """The similar pairs of some parts, with each other and with all parts before."""

    edges: Edges
    """Not directed."""
    followers: np.ndarray
    """Ids of vectors of which not all pairs with others are among the edges."""
    parts: tuple[str, ...]
    """Names of the parts."""


def write_pairs(state: State, path: str, pairs: KnownPairs) -> None:
    """Write what was found; where nothing was, that is written."""
    num_followers = len(pairs.followers)
    nobody = pa.nulls(num_followers, pa.uint64())
    nothing = pa.nulls(num_followers, pa.float32())
    table = pa.table(
        {
            "one": np.concatenate([pairs.edges.row, pairs.followers]),
            "other": pa.chunked_array([pa.array(pairs.edges.better), nobody]),
            "similarity": pa.chunked_array([pa.array(pairs.edges.similarity), nothing]),
        }
    )
    write_table(
        state.storage,
        path,
        PAIRS,
        table,
        fingerprint=state.fingerprint,
        parts=list(pairs.parts),
    )


def read_pairs(state: State, bin_: int) -> list[KnownPairs]:
    """Read all that a bin has found, in the order that it was found in."""
    return [_read(state, path) for path in state.pairs_paths(bin_)]


def compared_parts(state: State, bin_: int) -> set[str]:
    """Read the names of the parts that a bin has compared."""
    paths = state.pairs_paths(bin_)
    return {name for path in paths for name in read_about(state.storage, path)["parts"]}


def _read(state: State, path: str) -> KnownPairs:
    table = read_table(state.storage, path, PAIRS)
    is_edge = table["other"].is_valid()
    edges = table.filter(is_edge)
    return KnownPairs(
        make_edges(
            edges["one"].to_numpy(),
            edges["other"].to_numpy(),
            edges["similarity"].to_numpy(),
            SEMANTIC,
        ),
        table["one"].filter(table["other"].is_null()).to_numpy(),
        tuple(read_about(state.storage, path)["parts"]),
    )

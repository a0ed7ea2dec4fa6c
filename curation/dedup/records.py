"""What was found and decided before, as it is written into a state."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.decision import Decision
from curation.dedup.resolve import SEMANTIC, Edges, Removals, join_edges, make_edges
from curation.dedup.state import State
from curation.tables import CHECKED, PAIRS, REMOVALS, read_about, read_table, write_table


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """What comparing the vectors of a bin has found."""

    edges: Edges
    followers: np.ndarray
    """Ids of vectors of which not all pairs with others are among the edges."""
    decision: int = -1
    """The last decision before; new vectors were compared with what it had checked."""


@dataclass(frozen=True, eq=False)
class Record:
    """A decision that was taken before."""

    number: int
    min_similarity: float
    num_batches: int
    """How many there were."""
    absent: np.ndarray
    """Ordinals of shards that took no part."""
    decision: Decision


def write_pairs(state: State, path: str, pairs: KnownPairs) -> None:
    """Write what was found; where nothing was, that is written."""
    followers = len(pairs.followers)
    nothing = pa.nulls(followers, pa.uint64())
    table = pa.table(
        {
            "row": np.concatenate([pairs.edges.row, pairs.followers]),
            "better": pa.chunked_array([pa.array(pairs.edges.better), nothing]),
            "similarity": pa.chunked_array(
                [pa.array(pairs.edges.similarity), pa.nulls(followers, pa.float32())]
            ),
        }
    )
    write_table(
        state.storage,
        path,
        PAIRS,
        table,
        fingerprint=state.fingerprint,
        decision=pairs.decision,
    )


def read_pairs(state: State, path: str) -> KnownPairs:
    """Read what was found.

    Raises:
        NotFoundError: It was not looked for.
    """
    table = read_table(state.storage, path, PAIRS)
    is_edge = table["better"].is_valid()
    edges = table.filter(is_edge)
    return KnownPairs(
        make_edges(
            edges["row"].to_numpy(),
            edges["better"].to_numpy(),
            edges["similarity"].to_numpy(),
            SEMANTIC,
        ),
        table["row"].filter(pa.compute.invert(is_edge)).to_numpy(),
        read_about(state.storage, path)["decision"],
    )


def num_records(state: State) -> int:
    """Count the decisions that were taken."""
    files = state.storage.list_files(f"{state.folder}/decisions", "/removals.parquet")
    return len(files)


def write_record(state: State, record: Record) -> None:
    """Write a decision; its removals last, which vouch for the rest."""
    number, decision = f"{record.number:05d}", record.decision
    found = state.path("decisions", number, "found")
    write_pairs(state, found, KnownPairs(decision.found, np.empty(0, np.uint64)))
    write_table(
        state.storage,
        state.path("decisions", number, "checked"),
        CHECKED,
        pa.table({"id": decision.checked}),
        fingerprint=state.fingerprint,
    )
    removals = decision.removals
    write_table(
        state.storage,
        state.path("decisions", number, "removals"),
        REMOVALS,
        pa.table(
            {
                "removed": removals.removed,
                "survivor": removals.survivor,
                "kind": removals.kind,
                "similarity": removals.similarity,
            }
        ),
        fingerprint=state.fingerprint,
        min_similarity=record.min_similarity,
        num_batches=record.num_batches,
        absent=record.absent.tolist(),
    )


def read_last_record(state: State) -> Record | None:
    """Read the last decision; None if there is none. Its ``found`` edges are left out."""
    number = num_records(state) - 1
    if number < 0:
        return None
    path = state.path("decisions", f"{number:05d}", "removals")
    table, about = (
        read_table(state.storage, path, REMOVALS),
        read_about(state.storage, path),
    )
    checked = state.path("decisions", f"{number:05d}", "checked")
    columns = (
        table[name].to_numpy() for name in ("removed", "survivor", "similarity", "kind")
    )
    ids = read_table(state.storage, checked, CHECKED)["id"].to_numpy()
    decision = Decision(Removals(*columns), join_edges([]), ids)
    absent = np.array(about["absent"], np.int64)
    return Record(number, about["min_similarity"], about["num_batches"], absent, decision)


def read_found(state: State) -> Edges:
    """Read the edges that all decisions have found on their way."""
    numbers = range(num_records(state))
    paths = [state.path("decisions", f"{number:05d}", "found") for number in numbers]
    return join_edges(read_pairs(state, path).edges for path in paths)

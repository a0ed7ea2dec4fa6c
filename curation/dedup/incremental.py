"""The last step of a batch: one decision on all shards that take part."""

from collections.abc import Iterable, Sequence

import numpy as np

from curation.dedup.bins import check_in_bins
from curation.dedup.decision import Decision, decide
from curation.dedup.records import (
    KnownPairs,
    Record,
    num_records,
    read_found,
    read_last_record,
    read_pairs,
    write_record,
)
from curation.dedup.resolve import Edges, join_edges
from curation.dedup.rows import ordinals
from curation.dedup.state import State, read_batches
from curation.errors import InputError, StaleError

_NOBODY = np.empty(0, np.uint64)


def decide_shards(
    state: State,
    shards: Iterable[int],
    *,
    min_similarity: float,
    edges: Edges | None = None,
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    released: np.ndarray | None = None,
    device: str | None = None,
) -> Decision:
    """Decide which samples of some shards are removed, and record it in the state.

    The answer is that of starting over with these shards, in these batches: whatever was
    there before and is not named leaves no trace.

    Args:
        state: Has the pairs of all batches.
        shards: Ordinals of those that take part: see ``current_ordinals``.
        min_similarity: Cosine from which two samples are copies; at least the state's
            ``similarity_floor``.
        edges: Further pairs that count as copies, such as perceptual ones.
        exact: Ids with the same bytes as another, and those others, as
            ``find_exact_duplicates`` gives them.
        released: Ids of samples that stay, because they were published. Without it, a
            sample that is no longer preceded by its twin can take the place of one that
            was kept before.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        InputError: ``min_similarity`` is below the floor or above 1.
        StaleError: A bin has not compared a batch yet.
    """
    floor = state.settings.similarity_floor
    if not floor <= min_similarity <= 1:
        raise InputError(
            f"min_similarity is {min_similarity}; {state.folder} has the pairs from "
            f"{floor} to 1. For a lower one, begin another state"
        )
    alive = np.unique(np.fromiter(shards, np.int64))
    batches = read_batches(state)
    known = [_read_batch_pairs(state, batch.number) for batch in batches]
    listed = [pairs for batch in known for pairs in batch]
    found = join_edges([*(pairs.edges for pairs in listed), read_found(state)])
    found = found.where(found.similarity >= np.float32(min_similarity))
    every = join_edges([found, *([] if edges is None else [edges])])
    followers = np.concatenate([_NOBODY, *(pairs.followers for pairs in listed)])
    absent = np.setdiff1d([ordinal for batch in batches for ordinal in batch.shards], alive)
    record = read_last_record(state)
    if record and not _still_holds(record, min_similarity, absent, known):
        record = None
    decision = decide(
        every.where(_are_of(every.row, alive) & _are_of(every.better, alive)),
        np.unique(followers[_are_of(followers, alive)]),
        check_in_bins(state, alive, min_similarity, device=device),
        exact=exact,
        released=released,
        checked_before=_among(record.decision.checked, alive) if record else _NOBODY,
        removed_before=_among(record.decision.removals.removed, alive)
        if record
        else _NOBODY,
    )
    number = num_records(state)
    new = Record(number, min_similarity, len(batches), absent, decision)
    write_record(state, new)
    return decision


def _read_batch_pairs(state: State, batch: int) -> list[KnownPairs]:
    """Read the pairs that every bin has found for a batch."""
    pairs = []
    for bin_ in range(state.centroids.num_bins):
        path = state.pairs_path(bin_, batch)
        if not state.storage.exists(path):
            raise StaleError(
                f"{state.folder}: bin {bin_} has not compared batch {batch} yet; compare "
                "every bin before deciding"
            )
        pairs.append(read_pairs(state, path))
    return pairs


def _still_holds(
    record: Record,
    min_similarity: float,
    absent: np.ndarray,
    known: Sequence[Sequence[KnownPairs]],
) -> bool:
    """Tell whether what a decision has checked need not be checked again.

    That is so if every sample that takes part now was either there, or came later and was
    compared with what had been checked.
    """
    came_later = [pairs for batch in known[record.num_batches :] for pairs in batch]
    return (
        record.min_similarity == min_similarity
        and set(record.absent.tolist()) <= set(absent.tolist())
        and all(pairs.decision == record.number for pairs in came_later)
    )


def _are_of(ids: np.ndarray, shards: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.isin(ordinals(ids), shards)
    return found


def _among(ids: np.ndarray, shards: np.ndarray) -> np.ndarray:
    found: np.ndarray = ids[_are_of(ids, shards)]
    return found

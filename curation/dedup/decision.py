"""Deciding on compared samples, with further comparisons where the decision needs them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curation.dedup.comparison import (
    CellRows,
    Pairs,
    Thresholds,
    compare_rows,
    compare_some,
    join_pairs,
)
from curation.dedup.resolve import Edges, Removals, join_edges, resolve

_NOBODY = np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Checked:
    """What comparing samples with all that are kept has found."""

    edges: Edges
    unsettled: np.ndarray
    """Ids of those that may have further twins among the kept ones."""


Check = Callable[[np.ndarray, np.ndarray], Checked]
"""Compares samples, by ids, with all others but removed ones, by ids too."""


@dataclass(frozen=True, eq=False)
class Decision:
    """Which samples are removed, and what it rests on."""

    removals: Removals
    found: Edges
    """Edges that were found on the way."""
    checked: np.ndarray
    """Ids of kept samples that were compared with all that are kept."""


def decide(
    edges: Edges,
    followers: np.ndarray,
    check: Check,
    *,
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    released: np.ndarray | None = None,
    checked_before: np.ndarray = _NOBODY,
    removed_before: np.ndarray = _NOBODY,
) -> Decision:
    """Decide so that no two kept samples are similar.

    Where all samples that a follower is known to be similar to are removed, it is kept;
    yet it may be similar to a kept one that it was never compared with. So that is done
    now, and the decision is taken again, until it stands.

    Args:
        edges: All that is known. Pairs of samples that follow nobody are all among them.
        followers: Ids of all others.
        check: Makes further comparisons.
        exact: As :func:`~curation.dedup.resolve.resolve` takes it.
        released: As there.
        checked_before: Ids that an earlier decision at the same threshold has checked:
            their edges with all samples are known, save those of ``removed_before``.
        removed_before: Ids that the earlier decision has removed.
    """
    found = [edges]
    checked, removed, unsettled = checked_before, removed_before, _NOBODY
    while True:
        removals = resolve(join_edges(found), exact=exact, released=released)
        doubtful = np.setdiff1d(followers, checked)
        unsure = np.unique(np.concatenate([doubtful, removed, unsettled]))
        unsure = np.setdiff1d(unsure, removals.removed, assume_unique=True)
        if not len(unsure):
            kept = np.setdiff1d(checked, removals.removed)
            return Decision(removals, join_edges(found[1:]), kept)
        result = check(unsure, removals.removed)
        found.append(result.edges)
        unsettled = result.unsettled
        checked = np.union1d(checked, np.setdiff1d(unsure, unsettled))
        removed = removals.removed


def check_rows(
    rows: CellRows, some: np.ndarray, is_kept: np.ndarray, thresholds: Thresholds
) -> tuple[Pairs, np.ndarray]:
    """Compare some kept rows with all that are kept.

    Args:
        rows: All of them.
        some: ``(n,)`` bool, rows that are kept.
        is_kept: ``(n,)`` bool.
        thresholds: What counts as similar.

    Returns:
        Pairs; and ``(n,)`` bool, those of ``some`` that further kept rows may be like.
    """
    pairs, is_cut = compare_some(
        rows, some, is_kept & ~some, thresholds.min_similarity, thresholds.max_pairs
    )
    is_free = some.copy()
    is_free[pairs.row] = False
    free = np.flatnonzero(is_free)
    # Those that nobody removes may be a crowd, so they are compared as crowds are.
    among = compare_rows(rows.where(free), thresholds)
    unsettled = some.copy()
    if not is_cut:
        elsewhere = rows.cells[free, 0] < 0
        unsettled[free] = among.is_cut | ~(among.is_leader | elsewhere)
    return join_pairs([pairs, among.pairs.among(free)], len(rows)), unsettled

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
from curation.dedup.resolve import (
    Edges,
    PlaceOf,
    Removals,
    directed,
    join_edges,
    resolve,
)
from curation.dedup.rows import distinct

_NOBODY = np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Checked:
    """What comparing samples with all that are kept has found."""

    edges: Edges
    unsettled: np.ndarray
    """Ids of those that may have further twins among the kept ones."""


Check = Callable[[np.ndarray, np.ndarray], Checked]
"""Compares samples with all others but removed ones.

Takes the ids of the samples, the most preferred first, and the ids of the removed ones.
"""


def decide(
    edges: Edges,
    followers: np.ndarray,
    check: Check,
    place_of: PlaceOf,
    *,
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    released: np.ndarray = _NOBODY,
) -> Removals:
    """Decide so that no two kept samples are similar.

    Where all samples that a follower is known to be similar to are removed, it is kept;
    yet it may be similar to a kept one that it was never compared with. So that is done
    now, and the decision is taken again, until it stands.

    Args:
        edges: All that is known. Pairs of samples that follow nobody are all among them.
        followers: Ids of all others, each once.
        check: Makes further comparisons.
        place_of: The order of preference.
        exact: As :func:`~curation.dedup.resolve.resolve` takes it.
        released: As there. Two of them need not be compared.
    """
    found = [edges]
    checked = removed = unsettled = _NOBODY
    while True:
        known = directed(join_edges(found), place_of)
        removals = resolve(known, exact=exact, released=released)
        # What was removed when others were checked was not compared with them.
        doubtful = np.setdiff1d(followers, checked, assume_unique=True)
        unsure = distinct(np.concatenate([doubtful, removed, unsettled]))
        unsure = np.setdiff1d(unsure, removals.removed, assume_unique=True)
        if not len(unsure):
            return removals
        result = check(unsure[np.argsort(place_of(unsure))], removals.removed)
        found.append(result.edges)
        unsettled = result.unsettled
        settled = np.setdiff1d(unsure, unsettled, assume_unique=True)
        checked = distinct(np.concatenate([checked, settled]))
        removed = removals.removed


def check_rows(
    rows: CellRows, some: np.ndarray, stays: np.ndarray, thresholds: Thresholds
) -> tuple[Pairs, np.ndarray]:
    """Compare some rows with each other and all others.

    Args:
        rows: Those that are kept as far as is known.
        some: Row numbers, without repetition, the most preferred first.
        stays: ``(n,)`` bool, rows that are kept whatever they are like. They are compared
            with others, not with each other.
        thresholds: What counts as similar.

    Returns:
        Pairs; and ``(n,)`` bool, those of ``some`` that further rows may be like.
    """
    are_some = np.zeros(len(rows), bool)
    are_some[some] = True
    found, is_cut = [], False
    for ours, others in (
        (are_some & ~stays, ~are_some),
        (are_some & stays, ~are_some & ~stays),
    ):
        pairs, cut = compare_some(
            rows, ours, others, thresholds.min_similarity, thresholds.max_pairs
        )
        found.append(pairs)
        is_cut |= cut
    is_paired = np.zeros(len(rows), bool)
    for pairs in found:
        is_paired[pairs.row] = is_paired[pairs.better] = True
    # Those that no other is like may be a crowd, so they are compared as crowds are. One
    # that stays is as preferred as can be.
    free = some[stays[some] | ~is_paired[some]]
    free = free[np.argsort(~stays[free], kind="stable")]
    among = compare_rows(rows.where(free), thresholds, stays[free])
    found.append(among.pairs.among(free))
    unsettled = are_some
    if not is_cut:
        elsewhere = rows.cells[free, 0] < 0
        unsettled[free] = among.is_cut | ~(among.is_leader | elsewhere)
    return join_pairs(found, len(rows)), unsettled

"""Which compared rows are kept, with the further comparisons that this needs."""

import numpy as np

from curation.dedup.comparison import (
    CellRows,
    Compared,
    Pairs,
    Thresholds,
    compare_rows,
    compare_some,
    join_pairs,
)
from curation.dedup.resolve import keep_greedily


def decide(
    rows: CellRows, compared: Compared, thresholds: Thresholds
) -> tuple[np.ndarray, Pairs]:
    """Keep each row unless a better one that is kept is similar to it.

    A follower is kept where all rows that it is known to be similar to are not. It may
    still be similar to a kept row that it was never compared with, so it is now, and the
    decision is taken again, until it stands.

    Args:
        rows: All of them.
        compared: What is known, at ``thresholds.min_similarity``.
        thresholds: What counts as similar.

    Returns:
        ``(n,)`` bool, True is kept; and all known pairs. Each row that is not kept has a
        pair with a better row that is.
    """
    pairs = compared.pairs
    is_checked = compared.is_leader.copy()
    was_kept = np.ones(len(rows), bool)
    while True:
        is_kept = keep_greedily(pairs.row, pairs.better, len(rows))
        if is_checked[is_kept].all() and was_kept[is_kept].all():
            return is_kept, pairs
        doubtful = is_kept & ~compared.is_leader
        new, is_cut = compare_some(
            rows,
            doubtful,
            is_kept & ~doubtful,
            thresholds.min_similarity,
            thresholds.max_pairs,
        )
        doubtful[new.row] = False
        free = np.flatnonzero(doubtful)
        among = compare_rows(rows.where(free), thresholds)
        pairs = join_pairs([pairs, new, among.pairs.among(free)], len(rows))
        is_checked = compared.is_leader.copy()
        is_checked[free] |= among.is_leader & (not is_cut)
        was_kept = is_kept

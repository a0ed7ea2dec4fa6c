"""Whether scores lie as they did before: the population stability index of two samples.

Two samples of one distribution have an index above zero by chance, the more so the fewer
rows they have. So the bound is the customary one or, if that is more, what chance exceeds
once in ten thousand times.

Source: Siddiqi, Credit Risk Scorecards, 2006 (the index and the customary bounds: below
0.1 no change, above 0.25 a shift); Yurdakul and Naranjo, Statistical Properties of the
Population Stability Index, Journal of Risk Model Validation 14(4), 2020 (its distribution
by chance).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

NUM_BINS = 10
SHIFTED = 0.25
"""From which index on distributions are said to differ."""
BY_CHANCE = 1e-4
"""Of two equal distributions, how many are said to differ all the same, at most."""


def stability_index(before: np.ndarray, now: np.ndarray) -> float:
    """Compare two samples over the deciles of the first.

    Args:
        before: ``(n,)`` finite numbers, at least one.
        now: ``(m,)`` finite numbers, at least one.

    Returns:
        0 where every bin has the same share of both, larger the more they differ.
    """
    edges = _edges(before)
    shares = [_shares(values, edges) for values in (before, now)]
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))


def chance_bound(num_before: int, num_now: int) -> float:
    """Give the index that samples of one distribution exceed once in ten thousand times.

    Args:
        num_before: Rows of the first sample.
        num_now: Rows of the second.
    """
    from scipy.stats import chi2

    return float(
        chi2.isf(BY_CHANCE, NUM_BINS - 1) * (1 / max(num_before, 1) + 1 / max(num_now, 1))
    )


def drift_faults(
    before: pa.Table, now: pa.Table, columns: Sequence[str], shifted: float = SHIFTED
) -> Iterator[str]:
    """Say which scores lie elsewhere than before.

    Args:
        before: Scores of other shards.
        now: Scores to compare with them.
        columns: Which ones. One that has values before, and none now, is told; one
            without values before is passed over.
        shifted: The index from which distributions differ.
    """
    for name in columns:
        values = [_finite(table[name]) for table in (before, now)]
        if len(values[0]) and not len(values[1]) and now.num_rows:
            yield (
                f"{name} is missing for all {now.num_rows} samples; in other shards "
                f"{len(values[0])} of {before.num_rows} have it"
            )
        if not all(map(len, values)):
            continue
        index = stability_index(*values)
        bound = max(shifted, chance_bound(len(values[0]), len(values[1])))
        if index > bound:
            medians = [float(np.median(side)) for side in values]
            yield (
                f"{name} lies elsewhere than in other shards: stability index "
                f"{index:.2f}, bound {bound:.2f}; its median is {medians[1]:.3g}, theirs "
                f"{medians[0]:.3g}"
            )


def _edges(values: np.ndarray) -> np.ndarray:
    inner = np.quantile(values, np.arange(1, NUM_BINS) / NUM_BINS)
    edges: np.ndarray = np.unique(inner)  # equal ones, of values that repeat, are one
    return edges


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    bins = np.searchsorted(edges, values, side="left")
    # half a sample in every bin keeps the logarithm of an empty one finite
    counts = np.bincount(bins, minlength=len(edges) + 1) + 0.5
    shares: np.ndarray = counts / counts.sum()
    return shares


def _finite(column: pa.ChunkedArray) -> np.ndarray:
    values = column.drop_null().to_numpy()
    finite: np.ndarray = values[np.isfinite(values)]
    return finite

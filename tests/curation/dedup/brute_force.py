"""What deduplication is checked against: every pair compared, one row at a time."""

import numpy as np


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Give all cosines: ``(N, N)`` float32, from float64; NaN for rows of no direction."""
    rows = vectors.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows @ rows.T).astype(np.float32)


def greedy_leader(similar: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Keep each row unless one kept before it is similar to it.

    Args:
        similar: ``(N, N)`` bool.
        order: Row numbers, the most preferred first.

    Returns:
        ``(N,)`` bool, True is kept.
    """
    kept = np.zeros(len(order), bool)
    for row in order:
        kept[row] = not (similar[row] & kept).any()
    return kept


def best_first(rank: np.ndarray) -> np.ndarray:
    """Give row numbers, the highest rank first, ties by row."""
    return np.array(sorted(range(len(rank)), key=lambda row: (-rank[row], row)), int)

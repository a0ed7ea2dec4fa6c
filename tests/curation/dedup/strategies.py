"""Vectors with duplicates in them, for Hypothesis."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def crowded_vectors(draw: st.DrawFn, max_rows: int = 60) -> np.ndarray:
    """Draw ``(N, dim)`` float16 of unit length, of which many are alike, some equal.

    Rows are steps away from others, so that there are chains (a is like b, b like c, a
    not like c), stars and crowds, on either side of any threshold.
    """
    dim = draw(st.sampled_from([2, 3, 8]))
    num_rows = draw(st.integers(1, max_rows))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    step = draw(st.sampled_from([0.0, 0.05, 0.2, 0.4]))
    share_new = draw(st.sampled_from([0.0, 0.2, 0.6]))
    rows = [rng.standard_normal(dim)]
    for _ in range(num_rows - 1):
        if rng.random() < share_new:
            rows.append(rng.standard_normal(dim))
        else:
            start = rows[rng.integers(len(rows))]
            rows.append(start + step * np.linalg.norm(start) * rng.standard_normal(dim))
    found = np.stack(rows) + draw(st.sampled_from([0.0, 0.5, 3.0]))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)

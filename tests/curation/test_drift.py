"""The stability index is that of its definition; chance seldom exceeds its bound."""

import numpy as np
import pyarrow as pa
import pytest

from curation.drift import NUM_BINS, chance_bound, drift_faults, stability_index

RNG = np.random.default_rng(0)


def scores(values: np.ndarray) -> pa.Table:
    return pa.table({"key": [str(i) for i in range(len(values))], "aesthetic": values})


def test_the_index_is_that_of_the_definition() -> None:
    before, now = RNG.normal(size=50_000), RNG.normal(0.5, 1.2, size=40_000)
    edges = np.quantile(before, np.linspace(0, 1, NUM_BINS + 1))
    edges[[0, -1]] = -np.inf, np.inf
    p = np.histogram(before, edges)[0] / len(before)
    q = np.histogram(now, edges)[0] / len(now)
    expected = sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))
    assert stability_index(before, now) == pytest.approx(expected, rel=1e-3)


def test_a_sample_does_not_differ_from_itself() -> None:
    values = RNG.normal(size=1000)
    assert stability_index(values, values) == 0
    assert stability_index(np.zeros(10), np.zeros(10)) == 0


@pytest.mark.parametrize(("num_before", "num_now"), [(700, 100), (5000, 1000)])
def test_samples_of_one_distribution_seldom_pass_the_bound(
    num_before: int, num_now: int
) -> None:
    bound = chance_bound(num_before, num_now)
    indexes = [
        stability_index(RNG.gamma(2, size=num_before), RNG.gamma(2, size=num_now))
        for _ in range(2000)
    ]
    assert np.mean(np.array(indexes) > bound) <= 0.001
    # and the bound is no looser than it says: what it stands on is chance's distribution
    assert np.mean(indexes) == pytest.approx(
        (NUM_BINS - 1) * (1 / num_before + 1 / num_now), rel=0.2
    )


def test_a_moved_score_is_told_with_both_medians() -> None:
    before, now = scores(RNG.normal(5, 1, 1000)), scores(RNG.normal(6, 1, 1000))
    (told,) = drift_faults(before, now, ["aesthetic"])
    assert told.startswith("aesthetic lies elsewhere than in other shards")
    assert "its median is 6" in told
    assert "theirs 5" in told or "theirs 4.9" in told
    assert list(drift_faults(before, now, ["aesthetic"], shifted=50)) == []


def test_nulls_and_nans_are_not_compared_but_told_where_there_were_values() -> None:
    empty = scores(np.array([np.nan, np.nan]))
    assert list(drift_faults(empty, scores(np.ones(5)), ["aesthetic"])) == []
    assert list(drift_faults(scores(np.ones(5)), empty, ["aesthetic"])) == [
        "aesthetic is missing for all 2 samples; in other shards 5 of 5 have it"
    ]
    assert list(drift_faults(scores(np.ones(5)), empty.slice(2), ["aesthetic"])) == []

"""A funnel counts every sample once as kept or dropped, and for each of its reasons."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.funnel import Funnel, count_funnel
from curation.tables import SELECTION

REASONS = st.sampled_from(
    ["a > 1", "not is_duplicate", "quarantined: cut", "quarantined: x"]
)
SHARDS = st.lists(
    st.lists(st.lists(REASONS, unique=True, max_size=3), max_size=8), max_size=4
)


def selection(reasons: list[list[str]]) -> pa.Table:
    rows = [{"key": str(n), "kept": not r, "reasons": r} for n, r in enumerate(reasons)]
    return pa.Table.from_pylist(rows, pa.schema(SELECTION.columns))


@given(SHARDS)
def test_the_counts_are_those_of_a_plain_count(shards: list[list[list[str]]]) -> None:
    found = count_funnel(selection(shard) for shard in shards)
    samples = [reasons for shard in shards for reasons in shard]
    counts = Counter(
        "quarantined" if reason.startswith("quarantined") else reason
        for reasons in samples
        for reason in reasons
    )
    assert found == Funnel(len(samples), sum(not r for r in samples), dict(counts))
    assert found.dropped == sum(bool(r) for r in samples)
    assert list(found.reasons.values()) == sorted(counts.values(), reverse=True)


def test_of_no_shards_nothing_is_counted() -> None:
    assert count_funnel([]) == Funnel(samples=0, kept=0, reasons={})

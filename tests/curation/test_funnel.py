"""A funnel counts every sample once as kept or dropped, and for each of its reasons."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.filters import make_filter
from curation.filters.expression import VALUE_MISSING
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


def test_conditions_that_dropped_nothing_are_counted_last_in_the_order_of_the_filter() -> (
    None
):
    filter_ = make_filter("caption_words >= 1 and width > 9 and height > 9 and pixels > 1")
    missing = "width > 9" + VALUE_MISSING
    reasons = [[missing], [], ["height > 9"], ["height > 9", "width > 9"]]
    found = count_funnel([selection(reasons)], filter_)
    assert found.reasons == {
        "height > 9": 2,
        "width > 9": 1,
        missing: 1,
        "caption_words >= 1": 0,
        "pixels > 1": 0,
    }
    assert list(found.reasons)[-2:] == ["caption_words >= 1", "pixels > 1"]
    assert found.overlaps and found.dropped == 3
    alone = count_funnel([selection([["height > 9"], []])], make_filter("true"))
    assert alone.reasons == {"height > 9": 1} and not alone.overlaps


def test_of_no_shards_nothing_is_counted() -> None:
    assert count_funnel([]) == Funnel(samples=0, kept=0, reasons={})

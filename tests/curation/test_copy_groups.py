"""Groups of copies, against a dictionary of survivors."""

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.copy_groups import Copy, group_of, largest_groups
from curation.tables import DUPLICATES

RANKS = {"semantic": 0, "perceptual": 1, "exact": 2}

Removed = dict[tuple[str, str], tuple[tuple[str, str], str, float]]
"""Place of each removed sample to the survivor's, kind and similarity."""

places = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from("stuvwxyz"))


@st.composite
def removed_samples(draw: st.DrawFn) -> Removed:
    survivors = draw(st.lists(places, min_size=1, max_size=4, unique=True))
    others = draw(st.lists(places, max_size=20, unique=True))
    return {
        place: (
            draw(st.sampled_from(survivors)),
            draw(st.sampled_from(sorted(RANKS))),
            draw(st.sampled_from([0.5, 0.75, 1.0])),
        )
        for place in others
        if place not in survivors
    }


def tables_of(removed: Removed) -> dict[str, pa.Table]:
    rows: dict[str, list[dict[str, Any]]] = {"a": [], "b": [], "c": []}
    for (shard, key), ((to_shard, to_key), kind, similarity) in removed.items():
        survivor = {"survivor_shard": to_shard, "survivor_key": to_key}
        rows[shard].append({"key": key, "kind": kind, "similarity": similarity} | survivor)
    schema = pa.schema(DUPLICATES.columns)
    return {s: pa.Table.from_pylist(listed, schema=schema) for s, listed in rows.items()}


def groups_of(removed: Removed) -> dict[tuple[str, str], list[Copy]]:
    groups = defaultdict(list)
    for (shard, key), (survivor, kind, similarity) in removed.items():
        groups[survivor].append(Copy(shard, key, kind, similarity))
    for copies in groups.values():
        copies.sort(key=lambda c: (RANKS[c.kind], c.similarity, c.shard, c.key))
    return groups


@given(removed_samples(), st.integers(1, 5), st.integers(1, 5))
def test_the_largest_groups_come_first_then_the_least_alike(
    removed: Removed, most_groups: int, most_copies: int
) -> None:
    tables, expected = tables_of(removed), groups_of(removed)
    found, count = largest_groups(tables, most_groups=most_groups, most_copies=most_copies)
    assert count == len(expected)
    assert len(found) == min(count, most_groups)

    def order(place: tuple[str, str]) -> tuple[Any, ...]:
        least = expected[place][0]
        return -len(expected[place]), RANKS[least.kind], least.similarity, place

    shown = [(group.shard, group.key) for group in found]
    assert shown == sorted(expected, key=order)[:most_groups]
    for group in found:
        whole = expected[group.shard, group.key]
        assert group.num_copies == len(whole)
        assert list(group.copies) == whole[:most_copies]


@given(removed_samples())
def test_every_member_is_told_its_whole_group_and_others_none(removed: Removed) -> None:
    tables, expected = tables_of(removed), groups_of(removed)
    for survivor, copies in expected.items():
        for place in [survivor, *((copy.shard, copy.key) for copy in copies)]:
            group = group_of(tables, *place)
            assert group is not None
            assert (group.shard, group.key) == survivor
            assert list(group.copies) == copies
            assert group.num_copies == len(copies)
    assert group_of(tables, "a", "alone") is None


@pytest.mark.parametrize(
    ("kind", "similarity", "words"),
    [
        ("exact", 1.0, "identical"),
        ("perceptual", 1 - 31 / 256, "31 of 256 bits differ"),
        ("semantic", 0.96789, "cosine 0.9679"),
    ],
)
def test_closeness_is_told_in_the_terms_of_its_kind(
    kind: str, similarity: float, words: str
) -> None:
    assert Copy("s", "k", kind, similarity).closeness == words

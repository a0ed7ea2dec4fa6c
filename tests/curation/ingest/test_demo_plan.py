"""The plan gives every kind its places, for any size and seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.ingest.demo_pictures import Region
from curation.ingest.demo_plan import (
    EXACT_COPIES,
    KINDS,
    NEAR_COPIES,
    NOT_SHOWN,
    SHOWN_AGAIN,
    STRAYS,
    Slot,
    min_samples_per_shard,
    plan_samples,
)

REGIONS = [Region("p", i, 0, i + 1, 1) for i in range(1500)]

plans = st.builds(
    lambda shards, extra, seed: plan_samples(
        shards, min_samples_per_shard() + extra, REGIONS, seed
    ),
    st.integers(3, 8),
    st.integers(0, 40),
    st.integers(0, 1 << 32),
)


@given(plans)
def test_every_kind_has_its_number(shards: list[list[Slot]]) -> None:
    found = Counter(slot.kind for slots in shards for slot in slots)
    for name, kind in KINDS.items():
        copies = 2 if name == "exact_copy_threefold" else 1
        if name not in (*STRAYS, "photograph"):
            assert found[name] == len(shards) * kind.per_shard * copies
    for slots in shards:
        assert all(sum(s.kind == k for s in slots) >= 1 for k in ("blurred", "tiny"))
        assert any(slot.kind == "photograph" for slot in slots)


@given(plans)
def test_originals_are_photographs_with_smaller_keys(shards: list[list[Slot]]) -> None:
    for slot in (slot for slots in shards for slot in slots):
        assert (slot.original is not None) == (slot.kind in EXACT_COPIES + NEAR_COPIES)
        if slot.original:
            assert slot.original.kind == "photograph"
            assert slot.original.has_copies
            assert slot.original.key < slot.key
            assert slot.region == slot.original.region


@given(plans)
def test_keys_are_unique_in_their_shard(shards: list[list[Slot]]) -> None:
    for slots in shards:
        assert len({slot.key for slot in slots}) == len(slots)


@given(plans)
def test_whoever_is_no_copy_has_a_region_alone(shards: list[list[Slot]]) -> None:
    alone = Counter(
        slot.region
        for slots in shards
        for slot in slots
        if slot.region and not slot.original and slot.kind not in SHOWN_AGAIN
    )
    assert set(alone.values()) == {1}
    for slot in (slot for slots in shards for slot in slots):
        assert (slot.region is None) == (slot.kind in NOT_SHOWN)


@given(plans)
def test_occurrences_count_a_kind_from_zero(shards: list[list[Slot]]) -> None:
    seen: Counter[str] = Counter()
    for slot in (slot for slots in shards for slot in slots):
        assert slot.occurrence == seen[slot.kind]
        seen[slot.kind] += 1


def test_too_few_regions_are_an_error() -> None:
    with pytest.raises(InputError, match="the photographs have 10"):
        plan_samples(3, 77, REGIONS[:10], 0)

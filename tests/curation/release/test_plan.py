"""Plans: every sample once, tars of the promised size, places that last."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.recipe import ReleaseSettings
from curation.release.plan import PLACES, Placed, Plan, plan_release
from curation.release.sources import FilteredShard

SHARDS = st.dictionaries(
    st.sampled_from(["a", "b", "c/d", "e"]),
    st.lists(st.integers(0, 5000), max_size=12),
    max_size=4,
)
SETTINGS = st.builds(
    ReleaseSettings,
    samples_per_shard=st.integers(1, 7),
    bytes_per_shard=st.none() | st.integers(1, 9000),
    shuffle_seed=st.none() | st.integers(0, 3),
)


def filtered(sizes: dict[str, list[int]]) -> list[FilteredShard]:
    return [
        FilteredShard(
            shard,
            pa.array([f"{shard} {row}" for row in range(len(some))], pa.string()),
            np.array(some, np.int64),
            pa.nulls(len(some), pa.string()),
            rows=f"rows of {shard}",
            source_version="1",
        )
        for shard, some in sorted(sizes.items())
    ]


def placed(plan: Plan) -> Placed:
    rows = [
        {**row, "number": shard.number}
        for shard in plan.shards
        for row in shard.samples.to_pylist()
    ]
    places = [{name: row[name] for name in PLACES.names} for row in rows]
    table = pa.Table.from_pylist(places, PLACES)
    return Placed(table, plan.next_number, plan.next_position)


def keys(plan: Plan) -> dict[tuple[str, str], str]:
    return {
        (row["source_shard"], row["source_key"]): row["key"]
        for shard in plan.shards
        for row in shard.samples.to_pylist()
    }


@given(SHARDS, SETTINGS)
def test_every_sample_is_in_one_tar_under_a_key_of_its_own(
    sizes: dict[str, list[int]], settings: ReleaseSettings
) -> None:
    plan = plan_release(filtered(sizes), settings)
    found = [row for shard in plan.shards for row in shard.samples.to_pylist()]
    expected = Counter((s, r) for s, some in sizes.items() for r in range(len(some)))
    assert Counter((row["source_shard"], row["row"]) for row in found) == expected
    assert len({row["key"] for row in found}) == len(found)
    for shard in plan.shards:
        for row in shard.samples.to_pylist():
            assert row["key"] == f"{shard.number:05d}{row['position']:04d}"


@given(SHARDS, SETTINGS)
def test_tars_are_full_before_the_next_one_begins(
    sizes: dict[str, list[int]], settings: ReleaseSettings
) -> None:
    plan = plan_release(filtered(sizes), settings)
    assert [shard.number for shard in plan.shards] == list(range(len(plan.shards)))
    filled = []
    for shard in plan.shards:
        rows = shard.samples.to_pylist()
        filled.append([sizes[row["source_shard"]][row["row"]] for row in rows])
    most = settings.bytes_per_shard
    for number, some in enumerate(filled):
        assert len(some) <= settings.samples_per_shard
        if most is not None:
            assert sum(some) <= most or len(some) == 1
        if number + 1 < len(filled):
            following = filled[number + 1][0]
            by_count = len(some) == settings.samples_per_shard
            assert by_count or (most is not None and sum(some) + following > most)


@given(SHARDS, SHARDS, SETTINGS)
def test_samples_stay_where_an_earlier_release_has_them(
    before: dict[str, list[int]], after: dict[str, list[int]], settings: ReleaseSettings
) -> None:
    first = plan_release(filtered(before), settings)
    second = plan_release(filtered(after), settings, earlier=placed(first))
    old, new = keys(first), keys(second)
    assert sum(s.samples.num_rows for s in second.shards) == sum(map(len, after.values()))
    for sample, key in new.items():
        assert old.get(sample, key) == key
        # a key that was another sample's is never used again
        assert key not in old.values() or sample in old
    third = plan_release(filtered(after), settings, earlier=placed(second))
    assert [s.fingerprint for s in third.shards] == [s.fingerprint for s in second.shards]


@given(SHARDS, st.integers(0, 9))
def test_a_shuffle_is_the_seeds_alone(sizes: dict[str, list[int]], seed: int) -> None:
    settings = ReleaseSettings(samples_per_shard=5, shuffle_seed=seed)
    shards = filtered(sizes)
    assert keys(plan_release(shards, settings)) == keys(
        plan_release(shards[::-1], settings)
    )


def test_a_shuffle_mixes_shards() -> None:
    sizes = {"a": [1] * 50, "b": [1] * 50}
    settings = ReleaseSettings(samples_per_shard=50, shuffle_seed=1)
    plan = plan_release(filtered(sizes), settings)
    in_first = Counter(plan.shards[0].samples["source_shard"].to_pylist())
    assert 10 < in_first["a"] < 40


def test_excluded_samples_are_in_no_tar() -> None:
    plan = plan_release(
        filtered({"a": [1, 1, 1]}),
        ReleaseSettings(),
        excluded=[np.array([False, True, False])],
    )
    assert [row["row"] for row in plan.shards[0].samples.to_pylist()] == [0, 2]


def test_more_samples_than_four_digits_hold_have_longer_keys() -> None:
    settings = ReleaseSettings(samples_per_shard=100_000)
    plan = plan_release(filtered({"a": [1]}), settings)
    assert keys(plan) == {("a", "a 0"): "0000000000"}


def test_two_samples_of_one_key_can_not_both_be_preserved() -> None:
    shards = filtered({"a": [1], "b": [1]})
    same = [FilteredShard(**{**vars(s), "keys": pa.array(["k"])}) for s in shards]
    with pytest.raises(InputError, match="'k' is in a and in b"):
        plan_release(same, ReleaseSettings(keys="preserve"))

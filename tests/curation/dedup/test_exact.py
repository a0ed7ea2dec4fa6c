"""Exact duplicates are what a dictionary of hashes finds, in bounded memory."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.exact import find_exact_duplicates
from curation.dedup.preference import parse_preferences
from curation.errors import TableError

PREFER = parse_preferences(["pixels desc", "key asc"])

samples = st.fixed_dictionaries(
    {
        "sha256": st.none()
        | st.integers(0, 12).map(lambda i: hashlib.sha256(bytes([i])).hexdigest()),
        "error": st.sampled_from([None, None, None, "cut short"]),
        "pixels": st.integers(1, 3),
        "key": st.sampled_from("abc"),
    }
)
datasets = st.lists(st.lists(samples, max_size=12), max_size=5)

SCHEMA = pa.schema(
    [("sha256", pa.string()), ("error", pa.string()), ("pixels", pa.int64())]
    + [("key", pa.string())]
)


class Dataset:
    """Shards in memory, which count how often they are read."""

    def __init__(self, shards: list[list[dict[str, object]]]) -> None:
        self.tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in shards]
        self.num_reads = 0

    def read(self, shard: int, columns: Sequence[str]) -> pa.Table:
        self.num_reads += 1
        return self.tables[shard].select(columns)


def by_dictionary(shards: list[list[dict[str, object]]]) -> dict[int, int]:
    groups = defaultdict(list)
    for ordinal, rows in enumerate(shards):
        for row, sample in enumerate(rows):
            if sample["sha256"] is not None and sample["error"] is None:
                place = (-sample["pixels"], sample["key"], ordinal, row)  # type: ignore[operator]
                groups[sample["sha256"]].append((place, (ordinal << 32) + row))
    pairs = {}
    for members in groups.values():
        first, *others = sorted(members)
        pairs |= {other: first[1] for _, other in others}
    return pairs


@given(datasets, st.integers(1, 30))
def test_it_finds_what_a_dictionary_finds_whatever_it_may_hold(
    shards: list[list[dict[str, object]]], max_rows_held: int
) -> None:
    dataset = Dataset(shards)
    table = find_exact_duplicates(
        range(len(shards)), dataset.read, PREFER, max_rows_held=max_rows_held
    )
    assert table.schema.types == [pa.uint64(), pa.uint64()]
    removed = table["removed"].to_pylist()
    assert removed == sorted(removed)
    found = dict(zip(removed, table["survivor"].to_pylist(), strict=True))
    assert found == by_dictionary(shards)


def test_another_hash_can_be_compared() -> None:
    same = hashlib.sha256(b"pixels").hexdigest()
    rows = [
        {"sha256": hashlib.sha256(bytes([i])).hexdigest(), "pixel_sha256": same}
        for i in range(3)
    ]
    schema = SCHEMA.append(pa.field("pixel_sha256", pa.string()))
    table = pa.Table.from_pylist(rows, schema=schema)

    def read(_: int, columns: Sequence[str]) -> pa.Table:
        return table.select(columns)

    assert len(find_exact_duplicates([0], read, PREFER)) == 0
    found = find_exact_duplicates([0], read, PREFER, column="pixel_sha256")
    assert found.to_pydict() == {"removed": [1, 2], "survivor": [0, 0]}


def test_shards_are_read_once_for_hashes_where_all_fits() -> None:
    rows = [{"sha256": hashlib.sha256(bytes([i])).hexdigest()} for i in range(200)]
    dataset = Dataset([rows[:100], rows[100:]])
    assert len(find_exact_duplicates([0, 1], dataset.read, PREFER)) == 0
    assert dataset.num_reads == 2


def test_only_the_shards_that_are_named_take_part() -> None:
    row = {"sha256": hashlib.sha256(b"").hexdigest(), "pixels": 1, "key": "a"}
    dataset = Dataset([[row], [row], [row]])
    table = find_exact_duplicates([0, 2], dataset.read, PREFER)
    assert table.to_pylist() == [{"removed": 2 << 32, "survivor": 0}]


@pytest.mark.parametrize("sha256", ["abc", "g" * 64, "0" * 63, "0" * 65])
def test_what_is_no_sha256_is_named_with_its_shard(sha256: str) -> None:
    dataset = Dataset([[], [{"sha256": sha256}]])
    with pytest.raises(TableError, match=r"shard 1: a sha256"):
        find_exact_duplicates([0, 1], dataset.read, PREFER)

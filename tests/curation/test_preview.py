"""A preview counts what selections with other thresholds would keep, one by one."""

import re
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.filters import Filter, make_filter
from curation.preview import (
    HISTOGRAM_BINS,
    Threshold,
    compare_selections,
    find_thresholds,
    preview_threshold,
)
from curation.selection import find_cuts, judged_samples, select_samples
from curation.tables import DUPLICATES, EMBEDDINGS, SELECTION

NO_DUPLICATES = pa.schema(DUPLICATES.columns).empty_table()
NAMES = ("good", "bad")

Shards = Mapping[str, Sequence[Mapping[str, float | None]]]


def tables(rows: Sequence[Mapping[str, float | None]]) -> tuple[pa.Table, pa.Table]:
    """Make a shard's facts and scores."""
    keys = [f"k{n}" for n in range(len(rows))]
    columns = {
        name: pa.array([row.get(name) for row in rows], pa.float32()) for name in NAMES
    }
    facts = pa.Table.from_pylist(
        [{"key": key} for key in keys], pa.schema(EMBEDDINGS.columns)
    )
    return facts, pa.table({"key": pa.array(keys, pa.string())} | columns)


def judged(filter_: Filter, shards: Shards) -> dict[str, pl.DataFrame]:
    return {
        shard: judged_samples(*tables(rows), NO_DUPLICATES, filter_)
        for shard, rows in shards.items()
    }


def count_kept(expression: str, shards: Shards) -> int:
    """Count by really selecting."""
    filter_ = make_filter(expression)
    bound = filter_.bind(find_cuts(filter_, judged(filter_, shards).values()))
    selections = [
        select_samples(*tables(rows), NO_DUPLICATES, bound) for rows in shards.values()
    ]
    return sum(sum(table["kept"].to_pylist()) for table in selections)


SCORES = st.none() | st.integers(0, 8).map(lambda n: n / 8)
SHARDS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.lists(st.fixed_dictionaries({"good": SCORES, "bad": SCORES}), max_size=12),
)
THRESHOLDS = st.integers(-1, 9).map(lambda n: n / 8)


@given(
    SHARDS,
    st.lists(THRESHOLDS, min_size=1),
    st.sampled_from(["good >= {}", "good > {}", "good < {}", "good <= {}", "{} < good"]),
)
def test_the_grid_is_what_selections_with_those_thresholds_keep(
    shards: Shards, grid: list[float], pattern: str
) -> None:
    others = "bad < 0.5 and top_fraction(bad, 0.9)"
    filter_ = make_filter(f"{others} and {pattern.format(0.5)}")
    bound = filter_.bind(find_cuts(filter_, judged(filter_, shards).values()))
    (_, threshold) = find_thresholds(bound)
    found = preview_threshold(bound, judged(bound, shards), threshold, grid)
    assert found.grid["threshold"].to_pylist() == grid
    for value, alone, kept in zip(*found.grid.to_pydict().values(), strict=True):
        part = re.sub(r"-\S+", r"(\g<0>)", pattern.format(value))
        assert alone == count_kept(part, shards)
        assert kept == count_kept(f"{others} and {part}", shards)
    values = [row["good"] for rows in shards.values() for row in rows]
    assert found.num_samples == len(values)
    assert found.num_missing == values.count(None)


@given(SHARDS)
def test_the_histogram_is_of_all_values_that_there_are(shards: Shards) -> None:
    filter_ = make_filter("good > 0.5 and bad < 0.5")
    threshold, _ = find_thresholds(filter_)
    found = preview_threshold(filter_, judged(filter_, shards), threshold)
    known = [
        row["good"] for rows in shards.values() for row in rows if row["good"] is not None
    ]
    counts, edges = np.histogram(known, bins=HISTOGRAM_BINS)
    np.testing.assert_array_equal(found.histogram, counts)
    np.testing.assert_array_equal(found.edges, edges)
    assert found.histogram.sum() == found.num_samples - found.num_missing


def test_the_nearest_on_each_side_are_those_that_the_other_rules_keep() -> None:
    good = [0.1, 0.49, 0.5, 0.52, 0.9, 0.51, None, 0.48]
    bad = [0.0, 0.0, 0.0, 0.00, 0.0, 1.00, 0.0, None]
    rows = [{"good": g, "bad": b} for g, b in zip(good, bad, strict=True)]
    filter_ = make_filter("good >= 0.5 and bad < 0.5")
    threshold, _ = find_thresholds(filter_)
    shards = {"one": rows, "two": [{"good": 0.45, "bad": 0.1}]}
    found = preview_threshold(filter_, judged(filter_, shards), threshold, num_nearest=2)
    assert [(shard, key) for shard, key, _ in found.nearest_kept] == [
        ("one", "k2"),
        ("one", "k3"),
    ]
    assert [(shard, key) for shard, key, _ in found.nearest_dropped] == [
        ("one", "k1"),
        ("two", "k0"),
    ]
    assert found.nearest_dropped[1][2] == pytest.approx(0.45)


def test_the_default_grid_is_the_present_threshold_among_the_deciles() -> None:
    rows = [{"good": n / 100} for n in range(101)]
    filter_ = make_filter("good >= 0.33")
    (threshold,) = find_thresholds(filter_)
    grid = preview_threshold(filter_, judged(filter_, {"a": rows}), threshold).grid
    expected = [0.1, 0.2, 0.3, 0.33, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert grid["threshold"].to_pylist() == pytest.approx(expected)
    assert grid["kept"][3].as_py() == 68


def test_of_no_samples_and_of_no_values_there_is_a_preview() -> None:
    filter_ = make_filter("good >= 0.5")
    (threshold,) = find_thresholds(filter_)
    for shards in ({}, {"a": []}, {"a": [{"good": None}]}):
        found = preview_threshold(filter_, judged(filter_, shards), threshold)
        assert found.grid.to_pydict() == {
            "threshold": [0.5],
            "kept_alone": [0],
            "kept": [0],
        }
        assert found.histogram.sum() == 0
        assert found.nearest_kept == found.nearest_dropped == []


def test_what_a_preview_can_vary_is_one_number_against_a_written_one() -> None:
    filter_ = make_filter(
        "good > 1 and 2 >= bad and min(good, bad) < -3 and 0 < good < 1 and good > bad "
        "and not is_duplicate and format == 'png' and good > percentile(good, 50) "
        "and metadata.similarity >= 0.3 and laion_aesthetics(6) and caption < 'a' "
        "and good == 5 and caption < null"
    )
    assert find_thresholds(filter_) == [
        Threshold(0, "good", ">", 1.0),
        Threshold(1, "bad", "<=", 2.0),
        Threshold(2, "min(good, bad)", "<", -3.0),
        Threshold(8, "metadata.similarity", ">=", 0.3),
        Threshold(9, "aesthetic", ">=", 6.0),
    ]


def selection(kept: Mapping[str, bool], keys: Sequence[str] | None = None) -> pa.Table:
    rows = [
        {"key": key, "kept": kept[key], "reasons": [] if kept[key] else [f"rule of {key}"]}
        for key in (keys or list(kept))
    ]
    return pa.Table.from_pylist(rows, pa.schema(SELECTION.columns))


KEPT = st.dictionaries(
    st.text("abc", min_size=1, max_size=2), st.tuples(st.booleans(), st.booleans())
)


@given(KEPT, st.randoms())
def test_changes_are_the_samples_that_one_selection_keeps_and_the_other_drops(
    samples: dict[str, tuple[bool, bool]], chosen: Random
) -> None:
    before = {key: sides[0] for key, sides in samples.items()}
    after = {key: sides[1] for key, sides in samples.items()}
    shuffled = chosen.sample(sorted(samples), len(samples))
    found = compare_selections(selection(before), selection(after, shuffled)).to_pylist()
    assert found == [
        {
            "key": key,
            "change": "removed" if before[key] else "added",
            "reasons": [f"rule of {key}"],
        }
        for key in samples
        if before[key] != after[key]
    ]


def test_samples_whose_key_repeats_are_compared_one_by_one() -> None:
    schema = pa.schema(SELECTION.columns)
    first = {"key": "a", "kept": True, "reasons": []}
    repeated = {"key": "a", "kept": False, "reasons": ["quarantined: the key repeats"]}
    before = pa.Table.from_pylist([first, repeated], schema)
    dropped = {"key": "a", "kept": False, "reasons": ["good > 1"]}
    after = pa.Table.from_pylist([dropped, repeated], schema)
    assert compare_selections(before, before).num_rows == 0
    assert compare_selections(before, after).to_pylist() == [
        {"key": "a", "change": "removed", "reasons": ["good > 1"]}
    ]


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"], ["a", "c"], ["a", "a"]])
def test_selections_of_other_samples_do_not_compare(keys: list[str]) -> None:
    before = selection({"a": True, "b": True})
    after = selection(dict.fromkeys("abc", True), keys)
    with pytest.raises(InputError, match="different samples"):
        compare_selections(before, after)

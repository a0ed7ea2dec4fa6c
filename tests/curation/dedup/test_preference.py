"""Preferences sort samples, and a wrong one says how it is written."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.preference import (
    Places,
    Preference,
    best_first,
    order_of,
    parse_preferences,
)
from curation.dedup.rows import row_ids
from curation.errors import InputError


def test_preferences_are_a_column_and_a_direction() -> None:
    assert parse_preferences(["aesthetic desc", " pixels  asc "]) == (
        Preference("aesthetic", descending=True),
        Preference("pixels", descending=False),
    )
    assert parse_preferences([]) == ()


@pytest.mark.parametrize("text", ["", "pixels", "desc", "pixels down", "pixels DESC"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"prefer: expected a column and asc or desc"):
        parse_preferences([text])


def test_a_column_decides_once() -> None:
    with pytest.raises(InputError, match="prefer: pixels is there twice"):
        parse_preferences(["pixels desc", "pixels asc"])


def test_the_first_column_decides_then_the_next_then_the_place() -> None:
    frame = pl.DataFrame(
        {"a": [1, 2, 2, 2, 1], "b": ["x", "y", "x", "x", "x"], "id": [4, 3, 2, 1, 0]}
    )
    preferences = parse_preferences(["a desc", "b asc"])
    assert best_first(frame, preferences, ["id"])["id"].to_list() == [1, 2, 3, 0, 4]


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_what_is_not_known_is_preferred_least(direction: str) -> None:
    frame = pl.DataFrame({"a": [None, 1.0, float("nan"), 2.0], "id": [0, 1, 2, 3]})
    ordered = best_first(frame, parse_preferences([f"a {direction}"]), ["id"])
    assert ordered["id"].to_list()[2:] == [0, 2]


ranks = st.lists(st.floats() | st.integers(-3, 3).map(float), max_size=40).map(np.array)


def read_scores(ordinal: int, columns: Sequence[str]) -> pa.Table:
    scores = {0: [3.0, 1.0, None], 1: [2.0, 3.0]}[ordinal]
    return pa.table({"score": scores}).select(columns)


def test_samples_of_many_shards_have_places_however_they_are_asked_for() -> None:
    ids = np.concatenate([row_ids(0, 3), row_ids(1, 2)])
    expected = [0, 3, 4, 2, 1]  # by score, then id; not known is last
    places = Places(read_scores, parse_preferences(["score desc"]))
    assert np.argsort(np.argsort(places(ids[[3, 1]]))).tolist() == [0, 1]
    assert places(ids).tolist() == expected
    assert places(ids[::-1]).tolist() == expected[::-1]
    assert Places(read_scores, [])(ids).tolist() == [0, 1, 2, 3, 4]
    assert places(np.empty(0, np.uint64)).tolist() == []


@given(ranks)
def test_a_rank_orders_rows_highest_first_ties_by_row_nan_last(rank: np.ndarray) -> None:
    rows = range(len(rank))
    expected = sorted(rows, key=lambda i: (np.isnan(rank[i]), -np.nan_to_num(rank[i]), i))
    infinite = np.nan_to_num(rank, nan=0.0, posinf=np.inf, neginf=-np.inf)
    expected = sorted(rows, key=lambda i: (bool(np.isnan(rank[i])), -infinite[i], i))
    assert order_of(rank).tolist() == expected

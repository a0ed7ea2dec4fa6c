"""Which samples are released, and how often, as plain Python decides it."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError, UnknownNameError
from curation.recipe import ReleaseSettings
from curation.release.query import check_query, count_copies, needed_columns
from curation.selection import available_columns

COLUMNS = available_columns(["aesthetic"])
ROWS = st.lists(
    st.tuples(st.integers(1, 900), st.none() | st.floats(0, 10, width=32)), max_size=30
)


@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_the_first_rule_that_is_true_counts_and_a_missing_value_is_not_true(
    rows: list[tuple[int, float | None]], one: int, other: int
) -> None:
    table = pa.table(
        {
            "key": pa.array([str(number) for number in range(len(rows))]),
            "width": pa.array([width for width, _ in rows], pa.int32()),
            "aesthetic": pa.array([score for _, score in rows], pa.float32()),
        }
    )
    settings = ReleaseSettings(
        where="width >= 100", repeats={"aesthetic >= 6 and width > 300": one, "true": other}
    )
    assert needed_columns(settings) == ["aesthetic", "width"]
    expected = [
        0 if width < 100 else one if (score or 0) >= 6 and width > 300 else other
        for width, score in rows
    ]
    assert count_copies(table, settings).tolist() == expected


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"where": "widht > 3"}, UnknownNameError, "widht"),
        ({"repeats": {"aesthetic": 2}}, InputError, "aesthetic"),
        ({"where": "not is_duplicate"}, InputError, "release.where: is_duplicate"),
        ({"repeats": {"top_fraction(width, 0.5)": 2}}, InputError, "is about all samples"),
        ({"keys": "preserve", "repeats": {"true": 2}}, InputError, "keys: renumber"),
    ],
)
def test_what_makes_no_sense_is_refused(
    settings: dict[str, object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        check_query(ReleaseSettings.model_validate(settings), COLUMNS)


def test_a_column_that_filtered_shards_lack_is_named() -> None:
    table = pa.table({"key": ["a"]})
    with pytest.raises((UnknownNameError, KeyError), match="width"):
        count_copies(table, ReleaseSettings(where="width > 3"))
    assert np.array_equal(count_copies(table, ReleaseSettings()), [1])

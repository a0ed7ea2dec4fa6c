"""Which kept samples a release takes (``release.where``), and how often (``repeats``).

Belongs here: judging rows of filtered shards by the recipe's expressions. They may name
every column that the recipe's filter may, but for those of duplicates, which are gone from
what is kept, and cuts over all samples, which are the selection's business.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from curation.errors import InputError
from curation.filters import make_filter
from curation.filters.base import Kind
from curation.filters.expression import Filter
from curation.recipe import ReleaseSettings
from curation.selection import (
    DUPLICATE_COLUMNS,
    conjunct_values,
    judged_samples,
    needed_facts,
    needed_scores,
)
from curation.tables import DUPLICATES

EVERYTHING = "true"


def is_plain(settings: ReleaseSettings) -> bool:
    """Tell whether every kept sample is released, once."""
    return settings.where == EVERYTHING and not settings.repeats


def check_query(settings: ReleaseSettings, columns: Mapping[str, Kind]) -> None:
    """Check the expressions of a release before anything runs.

    Args:
        settings: Of the recipe.
        columns: What :func:`curation.selection.available_columns` gives.

    Raises:
        UnknownNameError: An expression names what isn't there.
        InputError: It does not fit the kinds of its columns, is about duplicates or about
            all samples, or samples are to be repeated under keys that are preserved.
    """
    if settings.repeats and settings.keys == "preserve":
        raise InputError(
            "release.repeats: a sample that is there several times can't have the same key "
            "each time; use release.keys: renumber, which keeps old keys in the table"
        )
    for setting, filter_ in _filters(settings):
        filter_.check(columns)
        if named := sorted(DUPLICATE_COLUMNS & filter_.columns):
            raise InputError(
                f"{setting}: {named[0]} is no column of what was kept; decide about copies "
                "in the recipe's filter"
            )
        if filter_.cuts:
            raise InputError(
                f"{setting}: {filter_.cuts[0].text} is about all samples; use it in the "
                "recipe's filter"
            )


def needed_columns(settings: ReleaseSettings) -> list[str]:
    """Name the columns of a filtered shard's table that its samples are judged by."""
    return sorted(
        {
            name
            for _, filter_ in _filters(settings)
            for name in (*needed_facts(filter_), *needed_scores(filter_))
        }
        - {"error", "key"}
    )


def count_copies(table: pa.Table, settings: ReleaseSettings) -> np.ndarray:
    """Tell how many times each kept sample is in the release.

    A value that is missing makes an expression not true.

    Args:
        table: Of a filtered shard, with ``key`` and :func:`needed_columns`.
        settings: Of the recipe.

    Returns:
        ``(N,)`` int64, 0 for samples that are left out.

    Raises:
        UnknownNameError, InputError: An expression does not fit the columns.
    """
    rules = [(make_filter(text), copies) for text, copies in settings.repeats.items()]
    copies = np.ones(len(table), np.int64)
    for filter_, number in reversed(rules):  # what is written last counts
        copies[_are_true(table, filter_)] = number
    copies[~_are_true(table, make_filter(settings.where))] = 0
    return copies


def _filters(settings: ReleaseSettings) -> Iterator[tuple[str, Filter]]:
    yield "release.where", make_filter(settings.where)
    for text in settings.repeats:
        yield "release.repeats", make_filter(text)


def _are_true(table: pa.Table, filter_: Filter) -> np.ndarray:
    facts = table.append_column("error", pa.nulls(len(table), pa.string()))
    none = pa.schema(DUPLICATES.columns).empty_table()
    scores = table.select(needed_scores(filter_))
    judged = judged_samples(facts, scores, none, filter_)
    values = conjunct_values(judged, filter_).fill_null(False).to_numpy()
    return np.asarray(values.all(axis=1), bool)

"""Every sample is kept, or dropped with every reason, as a plain reading of the rules."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.errors import InputError, TableError, UnknownNameError
from curation.filters import make_filter
from curation.selection import (
    COLUMNS,
    available_columns,
    count_reasons,
    explain_empty,
    find_cuts,
    judged_samples,
    needed_facts,
    needed_scores,
    passes_filter,
    select_samples,
)
from curation.storage import LocalStorage
from curation.tables import DUPLICATES, EMBEDDINGS, SELECTION, write_table
from tests.conftest import ROOT
from tests.curation.filters.any_expressions import texts

Row = Mapping[str, Any]

NO_DUPLICATES = pa.schema(DUPLICATES.columns).empty_table()


def facts(rows: Sequence[Row]) -> pa.Table:
    """Make a shard's facts; keys are row numbers if not given."""
    numbered = [{"key": f"k{n}"} | dict(row) for n, row in enumerate(rows)]
    return pa.Table.from_pylist(numbered, pa.schema(EMBEDDINGS.columns))


def scores(rows: Sequence[Row], *names: str) -> pa.Table:
    columns = {
        name: pa.array([row.get(name) for row in rows], pa.float32()) for name in names
    }
    keys = [row.get("key", f"k{n}") for n, row in enumerate(rows)]
    return pa.table({"key": pa.array(keys, pa.string())} | columns)


def duplicates(rows: Sequence[Row]) -> pa.Table:
    removed = [
        {
            "key": f"k{n}",
            "survivor_shard": "other",
            "survivor_key": "k0",
            "kind": row["kind"],
            "similarity": row["similarity"],
        }
        for n, row in enumerate(rows)
        if row.get("kind")
    ]
    return pa.Table.from_pylist(removed, pa.schema(DUPLICATES.columns))


def select(rows: Sequence[Row], expression: str, *names: str) -> list[list[str]]:
    """Select samples described as rows of facts, scores and duplicates at once."""
    known = {column.name for column in EMBEDDINGS.columns}
    table = select_samples(
        facts([{k: v for k, v in row.items() if k in known} for row in rows]),
        scores(rows, *names),
        duplicates(rows),
        make_filter(expression),
    )
    reasons: list[list[str]] = table["reasons"].to_pylist()
    assert table["kept"].to_pylist() == [not found for found in reasons]
    assert table["key"].to_pylist() == [
        row.get("key", f"k{n}") for n, row in enumerate(rows)
    ]
    return reasons


Rule = Callable[[Row], bool | None]


def number(name: str, compare: Callable[[float], bool]) -> Rule:
    def judge(row: Row) -> bool | None:
        value = row.get(name)
        if value is None or not math.isfinite(value):
            return None
        return compare(value)

    return judge


def similarity(row: Row) -> float | None:
    try:
        found = json.loads(row["metadata"])
        value = float(found["similarity"])
    except (TypeError, KeyError, ValueError):
        return None
    return value


RULES: dict[str, Rule] = {
    "width >= 300": number("width", lambda value: value >= 300),
    "0.25 < good < 0.75": number("good", lambda value: 0.25 < value < 0.75),
    "bad < 0.5": number("bad", lambda value: value < 0.5),
    "pixels > 100000": lambda row: row["width"] * row["height"] > 100_000,
    "aspect_ratio <= 2": lambda row: (
        max(row["width"], row["height"]) <= 2 * min(row["width"], row["height"])
    ),
    "bytes_per_pixel > 0.1": lambda row: (
        row["image_bytes"] / (row["width"] * row["height"]) > 0.1
    ),
    "caption_words > 2": lambda row: len((row["caption"] or "").split()) > 2,
    "caption_characters > 5": lambda row: len(row["caption"] or "") > 5,
    "has_caption": lambda row: bool((row["caption"] or "").strip()),
    "'dog' in caption": lambda row: (
        None if row["caption"] is None else "dog" in row["caption"]
    ),
    "not is_duplicate": lambda row: row["kind"] is None,
    "duplicate_kind != 'semantic'": lambda row: (
        None if row["kind"] is None else row["kind"] != "semantic"
    ),
    "metadata.similarity > 0.3": lambda row: (
        None if (value := similarity(row)) is None else value > 0.3
    ),
}
"""Expressions in normal form, and what they mean."""

SIDES = st.integers(1, 600)
SCORES = st.none() | st.floats(0, 1, width=32)
CAPTIONS = st.sampled_from(
    [
        None,
        "",
        "  ",
        "a dog",
        "a dog on a hill",
        "ein Hund\nim Schnee",
        "一只狗",
        "🐕🐕🐕🐕🐕🐕",
    ]
)
METADATA = st.sampled_from(
    [
        None,
        "{}",
        "not json",
        "[0.5]",
        '{"similarity": 0.5}',
        '{"similarity": "0.5"}',
        '{"similarity": "high"}',
        '{"similarity": null}',
        '{"similarity": 0.1, "other": 1}',
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "error": st.sampled_from([None, None, None, "cut short"]),
            "width": SIDES,
            "height": SIDES,
            "image_bytes": st.integers(1, 50_000),
            "good": SCORES,
            "bad": SCORES,
            "caption": CAPTIONS,
            "metadata": METADATA,
            "kind": st.sampled_from([None, None, "exact", "semantic"]),
            "similarity": st.floats(0.5, 1, width=32),
        }
    ),
    max_size=12,
)


@given(ROWS, st.lists(st.sampled_from(sorted(RULES)), min_size=1, unique=True))
def test_reasons_are_those_of_a_plain_reading(rows: list[Row], parts: list[str]) -> None:
    expected: list[list[str]] = []
    for row in rows:
        if row["error"]:
            expected.append([f"quarantined: {row['error']}"])
            continue
        truths = [(part, RULES[part](row)) for part in parts]
        expected.append(
            [
                part if truth is False else f"{part} (value missing)"
                for part, truth in truths
                if not truth
            ]
        )
    assert select(rows, " and ".join(parts), "good", "bad") == expected


def test_scores_and_duplicates_are_joined_by_key_not_by_position() -> None:
    rows = [{"good": n / 100, "kind": None} for n in range(100)]
    order = np.random.default_rng(0).permutation(100)
    removed = duplicates(
        [{"kind": "exact" if n % 10 == 0 else None, "similarity": 1} for n in range(100)]
    )
    table = select_samples(
        facts([{}] * 100),
        scores(rows, "good").take(order),
        removed.take(list(range(removed.num_rows))[::-1]),
        make_filter("good >= 0.5 and not is_duplicate"),
    )
    expected = [n >= 50 and n % 10 != 0 for n in range(100)]
    assert table["kept"].to_pylist() == expected


def test_a_quarantined_sample_has_that_reason_alone_whatever_its_scores() -> None:
    rows = [{"error": "truncated JPEG", "good": None}, {"good": 0.9}]
    assert select(rows, "good > 0.5", "good") == [["quarantined: truncated JPEG"], []]


def test_of_a_key_that_repeats_the_first_is_judged_and_the_others_are_quarantined() -> None:
    rows = [
        {"key": "a", "good": 0.9},
        {"key": "a", "error": "the key repeats", "good": None},
        {"key": "b", "good": 0.1},
    ]
    expected = [[], ["quarantined: the key repeats"], ["good > 0.5"]]
    assert select(rows, "good > 0.5", "good") == expected


def test_two_judged_samples_of_one_key_are_an_error() -> None:
    rows = [{"key": "a", "good": 0.9}, {"key": "a", "good": 0.1}]
    with pytest.raises(TableError, match="two samples of the shard have the key 'a'"):
        select(rows, "good > 0.5", "good")


def test_scores_of_other_samples_are_an_error() -> None:
    given_scores = scores([{"key": "k0", "good": 1}, {"key": "x", "good": 1}], "good")
    with pytest.raises(TableError, match=r"2 of 3 samples are not in the scores.*'k1'"):
        select_samples(
            facts([{}] * 3), given_scores, NO_DUPLICATES, make_filter("good > 0")
        )


def test_a_filter_that_names_no_score_needs_no_row_of_scores() -> None:
    table = select_samples(
        facts([{"width": 5}]), scores([]), NO_DUPLICATES, make_filter("width > 1")
    )
    assert table["kept"].to_pylist() == [True]


def test_metadata_of_some_shards_only_is_missing_in_the_others() -> None:
    rule = "metadata.pwatermark < 0.8"
    assert select([{"metadata": '{"pwatermark": 0.1}'}], rule) == [[]]
    for other in (None, "{}", '{"LANGUAGE": "en"}'):
        assert select([{"metadata": other}], rule) == [[f"{rule} (value missing)"]]
        assert select([{"metadata": other}], f"default({rule[:19]}, 0) < 0.8") == [[]]


def test_an_empty_shard_gives_an_empty_selection() -> None:
    assert select([], "good > 1 and not is_duplicate and true", "good") == []


@pytest.mark.parametrize(("expression", "reasons"), [("true", []), ("false", ["false"])])
def test_a_filter_may_keep_everything_or_nothing(
    expression: str, reasons: list[str]
) -> None:
    assert select([{}, {}], expression) == [reasons, reasons]


def test_the_result_is_a_table_of_selections(tmp_path: Path) -> None:
    table = select_samples(
        facts([{"width": 5}, {"width": 50}]),
        scores([]),
        NO_DUPLICATES,
        make_filter("width > 10"),
    )
    write_table(LocalStorage(tmp_path), "s.parquet", SELECTION, table, fingerprint="f")


def test_every_column_can_be_named_by_a_filter() -> None:
    rows = [
        {name.name: None for name in EMBEDDINGS.columns}
        | {"key": "k0", "width": 4, "height": 2, "image_bytes": 8}
    ]
    for name, column in COLUMNS.items():
        part = f"{name}.field" if column.kind == "json" else name
        (reasons,) = select(rows, f"{part} is null or {part} is not null")
        assert reasons == [], name


def test_a_column_with_a_typo_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="aesthetic"):
        select([{}], "aestetic > 5", "aesthetic")
    with pytest.raises(UnknownNameError, match="width"):
        select([{}], "widht > 5")


def test_only_what_the_filter_is_about_is_read() -> None:
    filter_ = make_filter("aspect_ratio < 3 and good > 0.5 and not is_duplicate")
    assert needed_facts(filter_) == ["key", "error", "height", "width"]
    assert needed_scores(filter_) == ["key", "good"]
    filter_ = make_filter("caption_words > 2 and top_fraction(good, 0.3) and key != 'x'")
    assert needed_facts(filter_) == ["key", "error", "caption"]
    assert needed_scores(filter_) == ["key", "good"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("width", "there is a column width already"),
        ("error", "there is a column error already"),
        ("corruption", "there is a column corruption already"),
        ("not", "expected a name of letters"),
        ("true", "expected a name of letters"),
        ("my-score", "expected a name of letters"),
        ("2nd", "expected a name of letters"),
        ("", "expected a name of letters"),
    ],
)
def test_a_score_that_a_filter_could_not_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        available_columns(["good", name])


CUT_VALUES = st.lists(st.none() | st.integers(0, 20).map(float), max_size=40)
SHARES = st.integers(1, 100).map(lambda percent: percent / 100)


def cuts_of(expression: str, shards: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    filter_ = make_filter(expression)
    frames = [
        judged_samples(
            facts([{}] * len(values)),
            scores([{"good": value} for value in values], "good"),
            NO_DUPLICATES,
            filter_,
        )
        for values in shards
    ]
    return find_cuts(filter_, frames)


@given(st.lists(CUT_VALUES, max_size=4), SHARES)
def test_cuts_are_those_of_all_shards_together(
    shards: list[list[float | None]], share: float
) -> None:
    top, bottom = f"top_fraction(good, {share})", f"bottom_fraction(good, {share})"
    middle = f"percentile(good, {100 * share!r})"
    found = cuts_of(f"{top} or {bottom} or good > {middle}", shards)
    known = sorted(value for values in shards for value in values if value is not None)
    if not known:
        assert set(found.values()) == {None}
        return
    place = math.ceil(Fraction(str(share)) * len(known))
    assert found[top] == known[len(known) - place]
    assert found[bottom] == known[place - 1]
    assert found[f"percentile(good, {float(100 * share)!r})"] == pytest.approx(
        np.percentile(known, 100 * share)
    )


@given(st.permutations(range(100)), SHARES)
@example(list(range(100)), 0.55)  # of which floats would make 56
def test_a_top_fraction_of_different_values_is_exactly_that_many(
    order: list[int], share: float
) -> None:
    values = [float(value) for value in order]
    cuts = cuts_of(f"top_fraction(good, {share})", [values[:30], values[30:]])
    assert sum(value >= cuts[f"top_fraction(good, {share})"] for value in values) == round(
        share * 100
    )


def test_a_selection_with_cuts_keeps_the_top_of_the_whole_set_ties_included() -> None:
    shards = [[0.1, 0.9, None, 0.8], [0.8, 0.7, 0.2], [0.0]]
    filter_ = make_filter("top_fraction(good, 0.25)")
    tables = [
        (facts([{}] * len(part)), scores([{"good": value} for value in part], "good"))
        for part in shards
    ]
    frames = (judged_samples(*part, NO_DUPLICATES, filter_) for part in tables)
    bound = filter_.bind(find_cuts(filter_, frames))
    kept = [
        select_samples(*part, NO_DUPLICATES, bound)["kept"].to_pylist() for part in tables
    ]
    # of 7 values, 2 are a quarter, and the second highest is there twice
    assert kept == [[False, True, False, True], [True, False, False], [False]]


def test_a_cut_of_no_values_drops_all_as_missing() -> None:
    filter_ = make_filter("top_fraction(good, 0.5)")
    bound = filter_.bind(find_cuts(filter_, []))
    table = select_samples(
        facts([{}]), scores([{"good": 1.0}], "good"), NO_DUPLICATES, bound
    )
    assert table["reasons"].to_pylist() == [["top_fraction(good, 0.5) (value missing)"]]


def test_a_selection_before_its_cuts_are_found_is_an_error() -> None:
    with pytest.raises(
        InputError, match=r"top_fraction\(good, 0\.3\) is about all samples"
    ):
        select([{"good": 1.0}], "top_fraction(good, 0.3)", "good")


def test_samples_in_quarantine_do_not_count_for_cuts() -> None:
    filter_ = make_filter("bottom_fraction(width, 0.5)")
    rows = [{"width": 1, "error": "cut"}, {"width": 2}, {"width": 3}]
    frame = judged_samples(facts(rows), scores([]), NO_DUPLICATES, filter_)
    assert find_cuts(filter_, [frame]) == {"bottom_fraction(width, 0.5)": 2.0}


REASONS = st.lists(st.sampled_from(["a > 1", "b", "quarantined: x", "quarantined: y"]))


@given(st.lists(st.lists(REASONS, max_size=6), max_size=3))
def test_reasons_are_counted_the_most_frequent_first(shards: list[list[list[str]]]) -> None:
    tables = [
        pa.table({"reasons": pa.array(shard, pa.list_(pa.string()))}) for shard in shards
    ]
    counts = Counter(
        reason.partition(":")[0] for shard in shards for row in shard for reason in row
    )
    found = count_reasons(tables)
    assert found == dict(counts)
    assert list(found) == sorted(counts, key=lambda reason: (-counts[reason], reason))


def test_a_selection_that_keeps_nothing_says_what_dropped_most() -> None:
    assert explain_empty(1200, {"a > 1": 1100, "b": 3}) == (
        "none of 1,200 samples is kept; the most, 1,100, were dropped by: a > 1"
    )
    assert explain_empty(0, {}) is None


def test_deciding_loads_no_model_library() -> None:
    code = (
        "import sys, pyarrow as pa\n"
        "from curation.filters import make_filter\n"
        "from curation.selection import select_samples\n"
        "from curation.tables import DUPLICATES\n"
        "facts = pa.table({'key': ['a'], 'error': pa.array([None], pa.string())})\n"
        "scores = pa.table({'key': ['a'], 'good': pa.array([1], pa.float32())})\n"
        "none = pa.schema(DUPLICATES.columns).empty_table()\n"
        "rule = make_filter('good > 0.5 and not is_duplicate and key != \"b\"')\n"
        "assert select_samples(facts, scores, none, rule)['kept'].to_pylist() == [True]\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "sklearn", "timm"} & set(done.stdout.split())


def test_what_the_filter_would_keep_if_nothing_were_a_copy() -> None:
    rows = [
        {"width": 10},
        {"width": 5},
        {"width": 10, "error": "no image"},
        {"width": None},
    ]
    filter_ = make_filter("width > 7 and not is_duplicate")
    passing = passes_filter(facts(rows), scores(rows), filter_)
    assert passing.to_pylist() == [True, False, False, False]


ODD_ROWS = [
    {"width": 1, "image_bytes": 0, "caption": "a", "metadata": '{"a": 1, "b c": "x"}'},
    {"caption": "", "metadata": json.dumps({"a": {"b": 2**70}})},
    {"width": 0, "height": 0, "image_bytes": 2**31 - 1, "metadata": "no json"},
    {"width": -5, "image_bytes": 7, "caption": "width", "metadata": '{"a": "1e400"}'},
    {"width": 9, "image_bytes": 8, "caption": "é\n", "metadata": "[1]"},
]


@given(texts(), st.sampled_from([ODD_ROWS, ODD_ROWS[:1], []]))
@example("true (true)", ODD_ROWS)
@example("null()", ODD_ROWS)
@example("width > 0x" + "f" * 5000, ODD_ROWS)
@example("width > " + "9" * 5000, ODD_ROWS)
@example("width in [0x" + "f" * 5000 + "]", ODD_ROWS)
@example("0 != default(-1, image_bytes)", ODD_ROWS)
@example("0 != default(-1, image_bytes)", [])
@example("default(null, width) > default(1, 2)", ODD_ROWS)
@example("(" * 5000, ODD_ROWS)
@example("null", ODD_ROWS)
@example("top_fraction(null, 0.5)", ODD_ROWS)
def test_any_text_is_a_filter_or_one_error(text: str, rows: list[Row]) -> None:
    try:
        filter_ = make_filter(text)
        filter_.check(available_columns())
        bound = filter_.bind(dict.fromkeys([cut.text for cut in filter_.cuts], 0.5))
    except InputError:
        return
    table = select_samples(facts(rows), scores(rows), NO_DUPLICATES, bound)
    assert len(table) == len(rows)
    bound.canonical()
    bound.fingerprint()

"""A filter is its conjuncts: each with its own words, columns and fingerprint."""

import pickle
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
import pytest

from curation.errors import InputError, UnknownNameError
from curation.filters import FILTERS, Filter, ReadyMade, make_filter
from curation.filters.reading import Cut

SCHEMA = {"width": "number", "height": "number", "score": "number", "metadata": "json"}


def texts(expression: str) -> list[str]:
    return [part.text for part in make_filter(expression).conjuncts]


def test_the_top_level_and_splits_into_conjuncts_in_their_own_words() -> None:
    expression = "min(width,height)>=200 and (score > 0.5 and not f) and (a or b and c)"
    assert texts(expression) == [
        "min(width, height) >= 200",
        "score > 0.5",
        "not f",
        "a or (b and c)",
    ]


def test_a_chain_is_one_conjunct() -> None:
    assert texts("200 <= width < 4000 and height > 1") == [
        "200 <= width < 4000",
        "height > 1",
    ]


def test_a_ready_made_filter_gives_its_conjuncts_with_its_name() -> None:
    assert texts("laion_aesthetics(5) and datacomp_basic()") == [
        "laion_aesthetics(5): aesthetic >= 5",
        "datacomp_basic(): caption_words > 2",
        "datacomp_basic(): caption_characters > 5",
        "datacomp_basic(): min(width, height) >= 200",
        "datacomp_basic(): aspect_ratio <= 3",
    ]


def test_inside_another_part_a_ready_made_filter_stays_one_reason() -> None:
    (part,) = make_filter("datacomp_basic() or laion_aesthetics(6)").conjuncts
    assert part.text == "datacomp_basic() or laion_aesthetics(6)"
    filter_ = make_filter("datacomp_basic() or laion_aesthetics(6)")
    assert {"caption_words", "aesthetic", "width"} <= filter_.columns


@dataclass(frozen=True)
class Strict(ReadyMade):
    """A rule that stands on another rule."""

    name: ClassVar[str] = "strict"

    @property
    def rule(self) -> str:
        return "laion_aesthetics(6) and width > 9"


def test_a_ready_made_filter_may_call_another() -> None:
    filter_ = Filter("strict()", FILTERS | {"strict": Strict})
    assert [part.text for part in filter_.conjuncts] == [
        "strict(): laion_aesthetics(6): aesthetic >= 6",
        "strict(): width > 9",
    ]
    inside = Filter("f or strict()", FILTERS | {"strict": Strict})
    assert inside.columns == {"f", "aesthetic", "width"}


def test_it_lists_the_columns_that_it_reads() -> None:
    filter_ = make_filter("min(width, 3) > default(metadata.a.b, 1) and top_fraction(s, 1)")
    assert filter_.columns == {"width", "metadata", "s"}


def test_an_unknown_function_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"no function 'minn'; did you mean min"):
        make_filter("minn(width, height) > 1")
    with pytest.raises(UnknownNameError, match=r"datacomp_basic.*top_fraction"):
        make_filter("not (true and nothing_like_it(width))")


def test_spacing_and_brackets_are_no_part_of_the_fingerprint() -> None:
    one = make_filter("width>=200 and (height) > 1")
    other = make_filter("(width >= 200\n  and height > 1)  # the same")
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != make_filter("width >= 201 and height > 1").fingerprint()


def test_cuts_are_listed_once_and_are_part_of_the_fingerprint_when_bound() -> None:
    filter_ = make_filter(
        "top_fraction(score*2, 0.3) and (top_fraction(score * 2, .3) "
        "or score > percentile(score, 70))"
    )
    assert filter_.cuts == (
        Cut("top_fraction", "score * 2", 0.3),
        Cut("percentile", "score", 70.0),
    )
    first, second = (cut.text for cut in filter_.cuts)
    assert not filter_.is_bound
    low, high = (
        filter_.bind({first: 1.0, second: 2.0}),
        filter_.bind({first: 1.5, second: 2}),
    )
    assert low.is_bound and high.is_bound
    assert len({f.fingerprint() for f in (filter_, low, high)}) == 3
    assert low.fingerprint() == filter_.bind({first: 1.0, second: 2.0}).fingerprint()


def test_without_its_cuts_no_sample_is_judged() -> None:
    filter_ = make_filter("top_fraction(score, 0.5)")
    with pytest.raises(
        InputError, match=r"top_fraction\(score, 0\.5\) is about all samples"
    ):
        filter_.expressions(SCHEMA)


def test_bound_cuts_decide() -> None:
    filter_ = make_filter(
        "top_fraction(score, 0.5) and bottom_fraction(score, 0.5) "
        "and score < percentile(score, 90)"
    )
    texts_of_cuts = [cut.text for cut in filter_.cuts]
    bound = filter_.bind(dict(zip(texts_of_cuts, [2.0, 3.0, 2.5], strict=True)))
    frame = pl.DataFrame({"score": [1.0, 2.0, 2.5, 3.0, 4.0, None]})
    found = frame.select(a for a in bound.expressions(SCHEMA)[0:1]).to_series().to_list()
    assert found == [False, True, True, True, True, None]
    found = frame.select(bound.expressions(SCHEMA)[1]).to_series().to_list()
    assert found == [True, True, True, True, False, None]
    found = frame.select(bound.expressions(SCHEMA)[2]).to_series().to_list()
    assert found == [True, True, False, False, False, None]


def test_a_cut_without_any_value_keeps_nothing() -> None:
    filter_ = make_filter("top_fraction(score, 0.5)")
    bound = filter_.bind({"top_fraction(score, 0.5)": None})
    frame = pl.DataFrame({"score": [1.0, None]})
    assert frame.select(bound.expressions(SCHEMA)[0]).to_series().to_list() == [None, None]


def test_it_can_be_sent_to_another_process() -> None:
    filter_ = make_filter("datacomp_basic() and top_fraction(score, 0.5)")
    bound = filter_.bind({"top_fraction(score, 0.5)": 0.25})
    copy = pickle.loads(pickle.dumps(bound))
    assert copy == bound
    assert copy.fingerprint() == bound.fingerprint()


def test_arguments_of_a_ready_made_filter_are_written_out() -> None:
    with pytest.raises(InputError, match="width: expected a number or a quoted text"):
        make_filter("laion_aesthetics(width)")
    assert texts("laion_aesthetics(-1)") == ["laion_aesthetics(-1): aesthetic >= -1"]


def test_a_value_for_missing_ones_is_one_of_each_row() -> None:
    frame = pl.DataFrame({"score": [1.0, None, 3.0]})
    filter_ = make_filter("0 != default(-1, score)")
    conjunct = filter_.expressions(SCHEMA)[0]
    assert frame.with_columns(x=conjunct)["x"].to_list() == [True, True, True]


@pytest.mark.parametrize("text", ["-null is null", "score ** null is null", "null or null"])
def test_null_is_a_missing_value_of_the_kind_that_its_place_has(text: str) -> None:
    frame = pl.DataFrame({"score": [1.0, None]})
    found = frame.with_columns(x=make_filter(text).expressions(SCHEMA)[0])["x"]
    assert found.dtype == pl.Boolean


def test_a_text_of_two_lines_is_refused_with_its_place() -> None:
    with pytest.raises(InputError, match=r"is no quoted text(.|\n)*line 1, column"):
        make_filter("""default((""\n" ** caption), (\"\"\" ** caption))""")


@pytest.mark.parametrize("text", ["true (true)", "null(1)", f"0x{'f' * 4000} < 1"])
def test_what_can_be_no_filter_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InputError, match=r"line 1, column 1"):
        make_filter(text)

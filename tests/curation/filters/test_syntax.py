"""Expressions are read by Python's parser, and can do nothing but be expressions."""

import ast
import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.filters.syntax import (
    MAX_CHARACTERS,
    called_name,
    column_names,
    field_path,
    parse_expression,
    shown,
    written_value,
)

HOSTILE = [
    "__import__('os').system('true')",
    "().__class__.__mro__[1].__subclasses__()",
    "(lambda: 0)()",
    "[x for x in (1, 2)]",
    "{x: 1 for x in y}",
    "{1, 2}",
    "{}",
    "f'{width}'",
    "width if height else 1",
    "(y := 1)",
    "*width",
    "await width",
    "yield",
    "b'bytes' == caption",
    "1j < width",
    "... == width",
    "width << 100000000",
    "width | 1",
    "width // 2",
    "width @ height",
    "~width",
    "min(*columns)",
    "min(key=width)",
    "caption.upper()",
    "width[0](1)",
    "import os",
    "width; height",
    "width = 5",
    "u'prefix' == caption",
    "1e999 > width",
    f"{10**400} > width",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_expression_is_refused_and_nothing_runs(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, None)
    with pytest.raises(InputError):
        parse_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 150 + "width" + ")" * 150,
        "(" * 5_000 + "width" + ")" * 5_000,
        "not " * 4_000 + "true",
        "-" * 15_000 + "1 > 0",
        "width" + " + 1" * 3_000 + " > 0",
        "metadata" + ".a" * 5_000 + " > 0",
        "a" * (MAX_CHARACTERS + 1),
        "9" * 10_000 + " > width",
        "\0",
        "width >\ud800",
        "",
        "   ",
        "# a comment",
    ],
    ids=lambda text: text[:12],
)
def test_no_size_or_depth_brings_the_parser_down(text: str) -> None:
    try:
        node = parse_expression(text)
    except InputError:
        return
    assert shown(node) == "width"  # brackets alone do no harm


@given(st.text(max_size=200))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        node = parse_expression(text)
    except InputError:
        return
    again = parse_expression(shown(node))
    assert shown(again) == shown(node)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("((width))>=5", "width >= 5"),
        ("min( width,height )\n  >=\n200", "min(width, height) >= 200"),
        ("width >= 5 # at least", "width >= 5"),
        ("not(a and b)or c", "not (a and b) or c"),
        ('caption == "it\'s"', 'caption == "it\'s"'),
        ("caption == 'say \"hi\"'", "caption == 'say \"hi\"'"),
        ("caption == '''both ' and \"'''", "caption == '''both ' and \"'''"),
        (r"matches(caption, '\d+\b')", r"matches(caption, '\d+\b')"),
        (r"matches(caption, r'\d')", r"matches(caption, '\d')"),
        ("a is None or b == True", "a is null or b == true"),
        ("format in ('a','b')", "format in ('a', 'b')"),
        ('metadata["some key"].b > -1.50', "metadata['some key'].b > -1.5"),
    ],
)
def test_the_normal_form_does_not_depend_on_spacing_or_brackets(
    text: str, normal: str
) -> None:
    assert shown(parse_expression(text)) == normal
    assert shown(parse_expression(normal)) == normal


def test_a_backslash_is_a_backslash() -> None:
    node = parse_expression(r"caption == '\bdog\n'")
    assert isinstance(node, ast.Compare)
    assert written_value(node.comparators[0]) == r"\bdog\n"


def test_a_mistake_is_shown_with_its_line() -> None:
    with pytest.raises(InputError, match=r"found 'and height \$ 3'"):
        parse_expression("width > 5\n  and height $ 3\n  and true")


def test_the_columns_are_the_names_that_no_call_has() -> None:
    node = parse_expression("min(width, min) > metadata.min.x and top(height)")
    assert set(column_names(node)) == {"width", "min", "metadata", "height"}
    assert called_name(node) == ""


def test_a_field_path_is_split_into_its_names() -> None:
    node = parse_expression("metadata.a['b c'].d")
    assert field_path(node) == ("metadata", ["a", "b c", "d"])


@pytest.mark.parametrize("text", ["metadata['it''s'][0]", "metadata[1]", "metadata[width]"])
def test_a_field_name_that_no_query_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        field_path(parse_expression(text))

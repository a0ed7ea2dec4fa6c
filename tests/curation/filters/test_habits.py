"""What people write from habit is refused with what to write instead."""

import pytest

from curation.errors import InputError, UnknownNameError
from curation.filters import make_filter
from curation.filters.habits import find_habit
from curation.selection import available_columns

COLUMNS = available_columns(["aesthetic"])


def mistake(text: str) -> tuple[str, str, str]:
    """Refuse a filter: the message's first line, and the two with the caret."""
    with pytest.raises(InputError) as caught:
        make_filter(text).check(COLUMNS)
    message, line, caret = str(caught.value).rsplit("\n", 2)
    return message, line, caret


@pytest.mark.parametrize(
    ("text", "found", "write"),
    [
        ("width => 5", "=>", ">="),
        ("width =< 5", "=<", "<="),
        ("width = 5", "=", "=="),
        ("width=5", "=", "=="),
        ("width === 5", "===", "=="),
        ("width !== 5", "!==", "!="),
        ("width <> 5", "<>", "!="),
        ("width > 5 AND height > 5", "AND", "and"),
        ("width > 5 And height > 5", "And", "and"),
        ("width > 5 OR height > 5", "OR", "or"),
        ("NOT has_caption", "NOT", "not"),
        ("format IN ['jpeg']", "IN", "in"),
        ("caption IS null", "IS", "is"),
        ("width > 5 && height > 5", "&&", "and"),
        ("width > 5 & height > 5", "&", "and"),
        ("(width > 5) & (height > 5)", "&", "and"),
        ("(width > 5) | (height > 5)", "|", "or"),
        ("width > 5 || height > 5", "||", "or"),
        ("!has_caption", "!", "not"),
        ("~has_caption", "~", "not"),
        ("~(width > 5)", "~", "not"),
        ("width ≥ 5", "≥", ">="),
        ("width ≤ 5", "≤", "<="),
        ("width ≠ 5", "≠", "!="),
        ("width − 5 > 1", "−", "-"),
        ("width × 2 > 1", "×", "*"),
        ("width // 2 > 1", "//", "floor(a / b)"),
        ("width ^ 2 > 1", "^", "** for a power"),
        ("caption == “x”", "“", "straight quotes"),
        ("caption == ‘x’", "‘", "straight quotes"),
        ("caption == «x»", "«", "straight quotes"),
        ("`width` > 5", "`", "straight quotes"),
        ("metadata.class == 'x'", "metadata.class", 'metadata["class"]'),
        ("metadata.from.to == 'x'", "metadata.from", 'metadata["from"]'),
        ("metadata.a.is > 1", "metadata.a.is", 'metadata.a["is"]'),
        ("metadata.None > 1", "metadata.None", 'metadata["None"]'),
        ("metadata.2x > 1", "metadata.2x", 'metadata["2x"]'),
        ("width > 1,000", "1,000", "1000"),
        ("width > 1,000,000 and true", "1,000,000", "1000000"),
        ("width > 256px", "256px", "256: numbers have no unit"),
        ("aesthetic > 50%", "50%", "50: numbers have no unit"),
        ("image_bytes > 10kb", "10kb", "10: numbers have no unit"),
        ("width between 5 and 6", "between", "low <= x <= high"),
        ("width BETWEEN 5 AND 6", "BETWEEN", "low <= x <= high"),
        ("caption like '%dog%'", "like", 'contains(x, "part")'),
        ("caption NOT LIKE '%dog%'", "NOT LIKE", 'contains(x, "part")'),
        ("caption ilike 'dog'", "ilike", 'contains(x, "part")'),
        ("caption contains 'dog'", "contains", 'contains(x, "part")'),
        ("caption =~ 'dog'", "=~", 'matches(x, "pattern")'),
        ("caption regexp 'dog'", "regexp", 'matches(x, "pattern")'),
        ("caption.contains('dog')", ".contains(", 'contains(x, "part")'),
        ("caption.str.len() > 5", ".len(", "length(x)"),
        ("caption.isnull()", ".isnull(", "x is null"),
        ("metadata.x.isin(['a'])", ".isin(", "x in"),
        ("true if width > 5 else false", "if", "parts with and, or and not"),
        ("width > 5 ? true : false", "?", "parts with and, or and not"),
        ("width > 5; height > 5", ";", "and between parts"),
    ],
)
def test_a_habit_is_told_with_what_to_write_and_where(
    text: str, found: str, write: str
) -> None:
    message, line, caret = mistake(f"true and\n {text}")
    assert f"in place of {found!r} write {write}" in message
    assert line == f"     {text}"
    assert line[caret.index("^") :].startswith(found)
    assert "(line 2, column " in message


@pytest.mark.parametrize(
    ("text", "write", "at"),
    [
        ("TRUE", "in place of TRUE write true", "TRUE"),
        ("width is NULL", "width is NULL", "width"),
        ("width == NaN", "in place of NaN write x is null", "NaN"),
        ("caption == null", "write caption is null", "caption"),
        ("caption is missing", "as in caption is null", "caption"),
        ("metadata.some-key > 5", "write metadata['some-key']", "metadata"),
        ("metadata.a.b-c > 5", "write metadata['a']['b-c']", "metadata"),
        ('"width" >= 5', "for the column, write width without quotes", '"width"'),
        ('"format" == "jpeg"', "for the column, write format without quotes", '"format"'),
        ('"format" in ["jpeg"]', "for the column, write format without quotes", '"format'),
        ("len(caption) > 5", "write length(x)", "len"),
        ("coalesce(width, 0) > 5", "write default(x, 0)", "coalesce"),
        ("isnull(width)", "write x is null", "isnull"),
        ("widht >= 5", "did you mean width?", "widht"),
        ("minn(width, 5) > 1", "did you mean min?", "minn"),
        ("min(width, caption) > 1", "caption is a text column", "caption"),
        ("width + 'é' * 2 > 'x'", "'é' is a text", "'é'"),
        ("not (width > 5 and lower(height) == 'é')", "height is a number column", "height"),
        ("top_fraction(width, 2)", "a fraction above 0", "top_fraction"),
        ("caption_language('english')", "takes a language code", "caption_language"),
        ("matches(caption, '(')", "is no regular expression", "matches"),
        ("width >", "invalid syntax", ""),
    ],
)
def test_other_mistakes_are_shown_with_their_place_too(
    text: str, write: str, at: str
) -> None:
    message, line, caret = mistake(f"'é' in caption and {text}")
    assert write in message
    assert line[caret.index("^") :].startswith(at)


def test_commas_join_nothing() -> None:
    with pytest.raises(InputError, match="write and between them"):
        make_filter("width > 5, height > 5")


def test_a_long_line_is_cut_around_the_mistake() -> None:
    text = " and ".join(f"width > {n}" for n in range(600))
    message, line, caret = mistake(f"{text} and widht > 5 and {text}")
    assert len(line) <= 80
    assert line[caret.index("^") :].startswith("widht > 5")
    assert f"column {len(text) + 6})" in message


def test_quoted_texts_and_comments_are_no_habits() -> None:
    text = """caption == "a => b AND c" and metadata['x|y'] == '= like !' # ≥ OR"""
    assert find_habit(text) is None
    make_filter(text).check(COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "width != 5 and not height == 5",
        "default(metadata.x, 1e5) >= -1.5E-3 or 2 ** 3 <= width % 7",
        "metadata.contains > 1 and metadata.like.between is not null",
        "format in ('jpeg', 'png') and 0x10 < width",
        "min(width,100) > 5",
    ],
)
def test_what_is_an_expression_is_no_habit(text: str) -> None:
    make_filter(text).check(COLUMNS)
    assert find_habit(text) is None


def test_an_error_keeps_its_kind() -> None:
    with pytest.raises(UnknownNameError):
        make_filter("widht > 5").check(COLUMNS)

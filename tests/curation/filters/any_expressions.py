"""Texts that are expressions, nearly, or not at all, for tests that any may come."""

from hypothesis import strategies as st

COLUMNS = ("width", "image_bytes", "pixels", "caption", "has_caption", "metadata")

_ATOMS = st.sampled_from(
    [
        *COLUMNS,
        "metadata.a",
        'metadata["b c"]',
        "metadata.a.b",
        *("true", "false", "null", "None", "0", "-1", "3", "0.5", "1e300", "-0.0"),
        *("9007199254740993", "18446744073709551616", "0x" + "f" * 60, "1" * 300),
        *("'a'", '"width"', "r'\\d'", "''", "'é'", "[1, 2]", "['a']", "(1,)", "[]", "()"),
    ]
)
_OPERATORS = st.sampled_from(
    [
        *("+", "-", "*", "/", "%", "**", "//", "<", "<=", ">", ">=", "==", "!=", "is"),
        *("in", "and", "or", ",", "@", "|", "&", "<>", "=", "=>", "!", "", "not in"),
        *("is not", "if", "else"),
    ]
)
_FUNCTIONS = st.sampled_from(
    [
        *("min", "max", "abs", "sqrt", "exp", "log", "log2", "log10", "floor", "ceil"),
        *("length", "words", "lower", "contains", "starts_with", "ends_with", "matches"),
        *("default", "number", "text", "top_fraction", "bottom_fraction", "percentile"),
        *("datacomp_basic", "laion_aesthetics", "caption_language", "selected", "listed"),
        *("true", "null", "nobody", "width"),
    ]
)


def _larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = st.lists(parts, max_size=3).map(", ".join)
    return st.one_of(
        st.builds("{} {} {}".format, parts, _OPERATORS, parts),
        st.builds("{}({})".format, _FUNCTIONS, arguments),
        st.builds("({})".format, parts),
        st.builds("not {}".format, parts),
        st.builds("-{}".format, parts),
        st.builds("{}[{}]".format, parts, parts),
        st.builds("{}({})".format, parts, parts),
        st.builds("[{}]".format, arguments),
    )


def expressions() -> st.SearchStrategy[str]:
    """Give texts that are made as expressions are, of parts that need not fit."""
    return st.recursive(_ATOMS, _larger, max_leaves=8)


def texts() -> st.SearchStrategy[str]:
    """Give those, some of them damaged, and any text at all."""
    cut = st.builds(
        lambda text, at, more: text[:at] + more + text[at:],
        expressions(),
        st.integers(0, 40),
        st.text(max_size=3),
    )
    long = st.builds(
        lambda part, times, rest: part * times + rest,
        st.sampled_from(
            ["(", "[", "not ", "-", "1 +", "true and ", "9", "0x", "'", "min("]
        ),
        st.sampled_from([50, 70, 500, 5000]),
        expressions(),
    )
    return st.one_of(expressions(), cut, long, st.text(max_size=40))

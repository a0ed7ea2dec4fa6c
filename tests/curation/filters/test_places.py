"""The place of a mistake in a filter, in characters and in words."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError, UnknownNameError
from curation.filters.places import at_place, placed, words_before
from curation.filters.syntax import parse_expression

WORDS = st.lists(st.sampled_from(["'é'", "a", "+", "'\t'", "'日本'"]), max_size=30)


@given(WORDS, st.sampled_from([" ", "\n", "  \n "]))
def test_a_caret_is_below_the_character(words: list[str], space: str) -> None:
    before = "".join(f"{word}{space}" for word in words)
    error = at_place(UnknownNameError("no"), f"{before}HERE and on", len(before))
    message, line, caret = str(error).split("\n")
    assert isinstance(error, UnknownNameError)
    assert line[caret.index("^") :].startswith("HERE")
    assert words_before(error) == len(before.split())
    assert words_before(pickle.loads(pickle.dumps(error))) == words_before(error)
    column = len(before.rpartition("\n")[2]) + 1
    assert message.endswith(f"(line {before.count(chr(10)) + 1}, column {column})")


def test_the_innermost_part_counts() -> None:
    node = parse_expression("'é' == text(\n  'é' + wrong)")
    inner = node.comparators[0].args[0].right  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="line 2, column 9"), placed(node), placed(inner):
        raise InputError("no")
    assert words_before(InputError("no")) is None

"""Choosing shards on the command line."""

import pytest

from curation.errors import InputError, UnknownNameError
from jobs.options import choose_shards

KNOWN = ["a", "b", "c", "d/e", "f"]


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        (None, KNOWN),
        ("b", ["b"]),
        ("f,a", ["a", "f"]),
        ("b..d/e", ["b", "c", "d/e"]),
        ("a..b, b..c", ["a", "b", "c"]),
    ],
)
def test_keys_and_ranges_choose(spec: str | None, chosen: list[str]) -> None:
    assert choose_shards(spec, KNOWN) == chosen


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UnknownNameError, match="'g'"):
        choose_shards("a,g", KNOWN)


@pytest.mark.parametrize("spec", ["c..a", "", " , "])
def test_an_empty_choice_is_refused(spec: str) -> None:
    with pytest.raises(InputError):
        choose_shards(spec, KNOWN)

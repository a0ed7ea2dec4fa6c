"""An answer is taken if it is what was asked for, and refused whatever else it is."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import StorageError
from curation.storage.answers import BEYOND_END, PARTIAL, WHOLE, Answer, Wanted

DATA = bytes(range(200))
WANTED = st.builds(
    lambda start, size: Wanted("place", start, None if size is None else start + size),
    st.integers(0, 220),
    st.none() | st.integers(1, 220),
)


def right(wanted: Wanted, *, whole: bool) -> tuple[Answer, bytes]:
    """Answer as a server does that is right."""
    found = DATA[wanted.start : wanted.stop]
    if whole or (not found and wanted.is_whole):
        return Answer(WHOLE, content_length=len(DATA)), DATA
    if not found:
        return Answer(BEYOND_END, f"bytes */{len(DATA)}"), b""
    told = f"bytes {wanted.start}-{wanted.start + len(found) - 1}/{len(DATA)}"
    return Answer(PARTIAL, told, len(found)), found


@given(WANTED, st.booleans(), st.sampled_from([None, len(DATA)]))
def test_what_is_right_is_taken(wanted: Wanted, whole: bool, size: int | None) -> None:
    answer, body = right(wanted, whole=whole)
    assert answer.checked(body, wanted, size) == DATA[wanted.start : wanted.stop]


BODIES = st.binary(max_size=5) | st.builds(
    lambda start, size: DATA[start : start + size], st.integers(0, 200), st.integers(0, 200)
)
RANGES = st.sampled_from(["", "bytes */200", "bytes 0-199/*", "pages 1-2/3"]) | st.builds(
    "bytes {}-{}/{}".format, *(st.integers(0, 210) for _ in range(3))
)
ANSWERS = st.builds(
    Answer,
    st.sampled_from([WHOLE, PARTIAL, BEYOND_END]),
    RANGES,
    st.none() | st.integers(0, 210),
    st.sampled_from(["", "identity", "gzip"]),
)


@given(WANTED, ANSWERS, BODIES)
def test_of_any_answer_the_bytes_are_as_many_as_were_asked_for(
    wanted: Wanted, answer: Answer, body: bytes
) -> None:
    with suppress(StorageError):
        found = answer.checked(body, wanted, len(DATA))
        assert len(found) == len(DATA[wanted.start : wanted.stop])
        assert found in body


@given(WANTED, st.data())
def test_a_right_answer_of_which_one_thing_is_changed_is_refused(
    wanted: Wanted, data: st.DataObject
) -> None:
    answer, body = right(wanted, whole=False)
    kind = data.draw(st.sampled_from(["body", "range", "size", "encoding"]))
    if kind == "body":
        body = data.draw(BODIES.filter(lambda other: len(other) != len(body)))
    elif kind == "range":
        told = data.draw(RANGES.filter(lambda other: other != answer.content_range))
        if told == "bytes */200" and answer.status == WHOLE:
            told = "bytes 1-2/200"
        answer = replace(answer, content_range=told)
    elif kind == "size":
        answer = replace(answer, content_range="bytes 0-9/10", content_length=10)
    else:
        answer = replace(answer, content_encoding="gzip")
    if kind == "body" and answer.status == BEYOND_END:
        return  # its body says why
    if kind == "range" and answer.status == BEYOND_END and answer.size in (None, 200):
        return  # it ends where it ends, whatever else is told
    with pytest.raises(StorageError):
        answer.checked(body, wanted, len(DATA))

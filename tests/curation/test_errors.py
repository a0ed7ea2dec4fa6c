"""Errors can be caught by what to do about them, and say what that is."""

import pickle

import pytest

from curation import errors
from curation.errors import (
    CurationError,
    DataError,
    IndexFormatError,
    InputError,
    NotFoundError,
    PathError,
    ReleaseClaimedError,
    ReleaseError,
    ReleaseExistsError,
    ReleaseMismatchError,
    SampleError,
    ShardError,
    StaleError,
    StorageError,
    TableError,
    UnknownNameError,
)

EXAMPLES = [
    CurationError("something"),
    InputError("a setting"),
    UnknownNameError.among("column", "widht", ["width", "height"]),
    PathError("a name with a newline"),
    NotFoundError("nothing there"),
    StorageError("try again"),
    DataError("bad bytes"),
    ShardError("cut short", shard="a.tar", offset=1536),
    IndexFormatError("no header", shard="a.idx"),
    SampleError("not an image", shard="a.tar", key="0001"),
    TableError("another schema"),
    StaleError("made from other inputs"),
    ReleaseError("a release"),
    ReleaseExistsError("there already"),
    ReleaseClaimedError("another process makes it"),
    ReleaseMismatchError("changed", path="00000.tar"),
]


def test_there_is_an_example_of_every_error() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, CurationError)
    }
    assert {type(error) for error in EXAMPLES} == defined


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__
    for error in EXAMPLES:
        assert type(error).__name__ in errors.__doc__


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_whole_from_another_process(error: CurationError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert copy.__dict__ == error.__dict__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InputError, ValueError),
        (UnknownNameError, ValueError),
        (NotFoundError, FileNotFoundError),
        (StorageError, OSError),
    ],
)
def test_errors_are_those_that_python_would_raise_too(
    error: type[CurationError], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


@pytest.mark.parametrize(
    ("error", "group"),
    [
        (ShardError, DataError),
        (IndexFormatError, DataError),
        (SampleError, DataError),
        (TableError, DataError),
        (ReleaseExistsError, ReleaseError),
        (ReleaseMismatchError, ReleaseError),
    ],
)
def test_errors_are_grouped(error: type[CurationError], group: type) -> None:
    assert issubclass(error, group)


def test_bad_data_is_no_failure_that_may_pass() -> None:
    assert not issubclass(DataError, StorageError)
    assert not issubclass(NotFoundError, StorageError)


def test_errors_carry_the_place_that_they_are_about() -> None:
    by_type = {type(error): error for error in EXAMPLES}
    assert vars(by_type[ShardError]) == {"shard": "a.tar", "offset": 1536}
    assert vars(by_type[SampleError]) == {"shard": "a.tar", "key": "0001"}
    assert vars(by_type[IndexFormatError]) == {"shard": "a.idx"}
    assert vars(by_type[ReleaseMismatchError]) == {"path": "00000.tar"}


def test_an_unknown_name_is_answered_with_those_near_and_all_there_are() -> None:
    error = UnknownNameError.among("column", "widht", {"width", "height", "caption"})
    assert str(error) == (
        "There is no column 'widht'; did you mean width? "
        "Those that exist: caption, height, width."
    )


def test_an_unknown_name_near_nothing_is_answered_with_all_there_are() -> None:
    assert str(UnknownNameError.among("scheme", "zzz", ["s3", "file"])) == (
        "There is no scheme 'zzz'. Those that exist: file, s3."
    )
    assert str(UnknownNameError.among("scheme", "s3", [])).endswith("exist: none.")

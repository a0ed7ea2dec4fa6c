"""A call is repeated while that may help. Against servers: test_http.py, test_s3.py."""

import random

import pytest

from curation.errors import InputError, StorageError
from curation.storage import retries
from curation.storage.retries import Retries


def failing(times: int, *, reached: bool = True) -> tuple[list[int], object]:
    """Give a call that fails so many times, and where it notes its tries."""
    tries: list[int] = []

    def call() -> str:
        tries.append(len(tries))
        if len(tries) <= times:
            error = StorageError("no")
            error.reached = reached
            raise error
        return "yes"

    return tries, call


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_call_that_works_at_last_gives_its_value(times: int) -> None:
    tries, call = failing(times)
    assert Retries().call(call) == "yes"  # type: ignore[arg-type]
    assert len(tries) == times + 1


def test_a_server_without_a_connection_is_waited_for_if_it_ever_answered() -> None:
    known, unknown = Retries(), Retries(first_tries=2)
    known.call(lambda: None)
    tries, call = failing(3, reached=False)
    assert known.call(call) == "yes"  # type: ignore[arg-type]
    tries, call = failing(3, reached=False)
    with pytest.raises(StorageError, match=r"no \(asked 2 times in 0 s\)"):
        unknown.call(call)  # type: ignore[arg-type]
    assert len(tries) == 2


def test_no_try_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "DEADLINE_SECONDS", 0.0)
    tries, call = failing(1)
    with pytest.raises(StorageError, match=r"no$"):
        Retries().call(call)  # type: ignore[arg-type]
    assert len(tries) == 1


def test_other_errors_are_raised_at_once_and_show_that_somebody_answers() -> None:
    def refuse() -> None:
        raise InputError("never")

    asked = Retries()
    with pytest.raises(InputError, match="never"):
        asked.call(refuse)
    assert asked.has_answered


def test_waiting_draws_none_of_the_caller_s_random_numbers() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    _, call = failing(2)
    Retries().call(call)  # type: ignore[arg-type]
    assert random.random() == expected

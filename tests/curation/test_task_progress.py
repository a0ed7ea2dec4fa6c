"""A task is heard in its own thread, while it is done, and not too often."""

from threading import Thread

import pytest

from curation.task_progress import tell_part, told_to


def test_nothing_comes_of_what_nobody_listens_to() -> None:
    tell_part(1, 2)


def test_a_task_is_heard_within_the_context_alone() -> None:
    told: list[tuple[int, int]] = []
    with told_to(lambda *part: told.append(part), 0):
        tell_part(1, 3)
        tell_part(2, 3)
    tell_part(3, 3)
    assert told == [(1, 3), (2, 3)]


def test_a_task_that_fails_is_heard_no_more() -> None:
    told: list[tuple[int, int]] = []
    with (
        pytest.raises(ZeroDivisionError),
        told_to(lambda *part: told.append(part), 0),
    ):
        raise ZeroDivisionError
    tell_part(1, 1)
    assert told == []


def test_the_inner_of_two_listens() -> None:
    told: list[str] = []
    with told_to(lambda *_: told.append("outer"), 0):
        with told_to(lambda *_: told.append("inner"), 0):
            tell_part(1, 2)
        tell_part(2, 2)
    assert told == ["inner", "outer"]


def test_other_threads_are_not_heard() -> None:
    told: list[tuple[int, int]] = []
    with told_to(lambda *part: told.append(part), 0):
        thread = Thread(target=tell_part, args=(1, 2))
        thread.start()
        thread.join()
    assert told == []


def test_calls_are_spaced_from_the_first_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.4, 0.5, 0.9, 1.2, 5.0])
    monkeypatch.setattr("curation.task_progress.monotonic", lambda: next(clock))
    told: list[int] = []
    with told_to(lambda done, _: told.append(done), 0.5):
        for done in range(1, 6):
            tell_part(done, 5)
    assert told == [2, 4, 5]

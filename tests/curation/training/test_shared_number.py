"""A number that processes share, whichever way they came by the object that has it."""

import copy
import pickle

import pytest
import torch.multiprocessing as mp

from curation.training.shared_number import SharedNumber


class Thing:
    number = SharedNumber()

    def __init__(self, number: int) -> None:
        self.number = number


def answer(thing: Thing, asked: "mp.Queue[None]", answers: "mp.Queue[int]") -> None:
    while True:
        asked.get()
        answers.put(thing.number)


@pytest.mark.parametrize(
    ("context", "through"),
    [
        ("spawn", lambda thing: thing),
        ("fork", lambda thing: thing),
        ("fork", copy.deepcopy),
        ("fork", lambda thing: pickled(thing)),
    ],
)
def test_a_process_that_runs_sees_what_is_set(context: str, through: object) -> None:
    thing = through(Thing(5))  # type: ignore[operator]
    processes = mp.get_context(context)
    asked, answers = processes.Queue(), processes.Queue()
    process = processes.Process(target=answer, args=(thing, asked, answers), daemon=True)
    process.start()
    for number in (5, 7, -(2**40)):
        thing.number = number
        asked.put(None)
        assert answers.get(timeout=60) == thing.number == number
    process.kill()  # where a shell ignores SIGTERM, so do its children
    process.join()


def pickled(thing: Thing) -> Thing:
    copied: Thing = pickle.loads(pickle.dumps(thing))
    return copied


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_has_a_number_of_its_own(copied: object) -> None:
    thing = Thing(1)
    other = copied(thing)  # type: ignore[operator]
    other.number = 2
    assert (thing.number, other.number) == (1, 2)

"""A state is opened as it was made, and gives each version of a shard its own ordinal."""

import numpy as np
import pytest

from curation.dedup.centroids import CellSettings, fit_centroids
from curation.dedup.state import (
    State,
    StateSettings,
    begin_batch,
    create_state,
    current_ordinals,
    open_state,
    read_batches,
)
from curation.errors import InputError, NotFoundError, StaleError
from curation.storage import MemoryStorage

SAMPLE = np.eye(8, dtype=np.float16)
CENTROIDS = fit_centroids(SAMPLE, CellSettings(2), 0.9, device="cpu")


def a_state(**changed: object) -> State:
    settings = StateSettings("encoder", **changed)  # type: ignore[arg-type]
    return create_state(MemoryStorage(), "s", settings, CENTROIDS)


def test_it_is_opened_as_it_was_made() -> None:
    state = a_state(similarity_floor=0.85)
    again = open_state(state.storage, "s")
    assert again.settings == state.settings
    assert again.fingerprint == state.fingerprint
    same = create_state(state.storage, "s", state.settings, CENTROIDS)
    assert same.fingerprint == state.fingerprint


def test_another_state_is_not_written_over() -> None:
    state = a_state()
    other = StateSettings("encoder", similarity_floor=0.8)
    with pytest.raises(InputError, match="another state of duplicates is there"):
        create_state(state.storage, "s", other, CENTROIDS)
    with pytest.raises(NotFoundError):
        open_state(state.storage, "elsewhere")


def test_each_version_of_a_shard_has_an_ordinal() -> None:
    state = a_state()
    first = begin_batch(state, {"b": "1", "a": "1"})
    assert first is not None
    assert first.shards == {0: ("a", "1"), 1: ("b", "1")}
    assert begin_batch(state, {"b": "1"}) is None
    second = begin_batch(state, {"a": "2", "b": "1", "c": "1"})
    assert second is not None
    assert second.shards == {2: ("a", "2"), 3: ("c", "1")}
    assert read_batches(state) == [first, second]


def test_a_shard_without_vectors_in_the_state_has_no_ordinal_yet() -> None:
    state = a_state()
    begin_batch(state, {"a": "1"})
    with pytest.raises(StaleError, match=r"1 shards have no vectors .* such as a"):
        current_ordinals(state, [("a", "1")])


@pytest.mark.parametrize(
    "changed",
    [
        {"similarity_floor": 0},
        {"similarity_floor": 0.99},
        {"leader_similarity": 1.1},
        {"max_pairs": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        StateSettings("encoder", **changed)  # type: ignore[arg-type]

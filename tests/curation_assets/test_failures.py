"""Which errors are tried again, and which end a run."""

import dagster as dg
import pytest

from curation.errors import CurationError, DataError, InputError, StaleError, StorageError
from curation_assets.failures import raise_for_shards, run_failures


def test_what_may_pass_is_retried() -> None:
    error = StorageError("s")
    with pytest.raises(dg.RetryRequested), run_failures():
        raise error
    with pytest.raises(dg.RetryRequested):
        raise_for_shards({"a": DataError("bad"), "b": error})


@pytest.mark.parametrize("error", [InputError("i"), DataError("d"), StaleError("s")])
def test_what_stays_wrong_is_not_retried(error: CurationError) -> None:
    with pytest.raises(dg.Failure) as caught, run_failures():
        raise error
    assert not caught.value.allow_retries
    with pytest.raises(dg.Failure) as caught:
        raise_for_shards({"a": error})
    assert not caught.value.allow_retries


def test_a_failure_names_every_shard_and_its_reason() -> None:
    with pytest.raises(dg.Failure) as caught:
        raise_for_shards({"x/1": DataError("cut short"), "x/2": DataError("garbage")})
    assert "2 shard(s) failed" in str(caught.value.description)
    assert "x/1: cut short" in str(caught.value.description)
    assert "x/2: garbage" in str(caught.value.description)


def test_faults_of_ours_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), run_failures():
        _ = 1 // 0


def test_no_failure_is_no_error() -> None:
    raise_for_shards({})

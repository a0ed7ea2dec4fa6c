"""One process at a time has a claim, and one that is gone holds up nobody."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from curation.errors import ReleaseClaimedError
from curation.release import claims
from curation.release.claims import Holder, claimed
from curation.storage import LocalStorage, MemoryStorage, S3Storage, Storage

PATH = "release_claims/names/mine-0001.json"


@pytest.fixture(params=["local", "memory", "s3", "copying s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path)
    if request.param == "memory":
        return MemoryStorage("output")
    name = request.param.replace(" ", "_")
    found: S3Storage = request.getfixturevalue(f"{name}_storage")
    return found


def test_a_claim_is_one_holders_until_it_is_given_back(storage: Storage) -> None:
    with claimed(storage, "names", "mine-0001", "a release") as first:
        first.check()
        with (
            pytest.raises(ReleaseClaimedError, match=rf"process {os.getpid()} on .*again"),
            claimed(storage, "names", "mine-0001", "a takedown"),
        ):
            pass
        first.check()
        with claimed(storage, "names", "mine-0002", "a release"):
            pass
    with claimed(storage, "names", "mine-0001", "a takedown"):
        assert storage.exists(PATH)
    assert storage.list_files() == []


def test_holders_of_one_token_share_it_and_a_release_takes_it(storage: Storage) -> None:
    with (
        claimed(storage, "names", "mine-0001", "tars", shared="plan 1") as first,
        claimed(storage, "names", "mine-0001", "tars", shared="plan 1") as second,
    ):
        first.check()
        second.check()
        with (
            pytest.raises(ReleaseClaimedError),
            claimed(storage, "names", "mine-0001", "tars", shared="plan 2"),
        ):
            pass
        with (
            claimed(storage, "names", "mine-0001", "a release", takes="plan 1"),
            pytest.raises(ReleaseClaimedError, match="a release is under way"),
        ):
            first.check()
    assert storage.list_files() == []


def test_a_shared_claim_is_given_back_by_whoever_ends_last(storage: Storage) -> None:
    with claimed(storage, "names", "mine-0001", "tars", shared="plan 1"):
        with claimed(storage, "names", "mine-0001", "tars", shared="plan 1"):
            pass
        with (
            pytest.raises(ReleaseClaimedError),
            claimed(storage, "names", "mine-0001", "a takedown"),
        ):
            pass
    with claimed(storage, "names", "mine-0001", "a takedown"):
        pass


def _hold_and_die(root: Path) -> None:
    with claimed(LocalStorage(root), "names", "mine-0001", "a release"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_of_a_process_of_this_machine_that_was_killed_it_is_taken_at_once(
    tmp_path: Path,
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_hold_and_die, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert (tmp_path / PATH).exists()
    with claimed(LocalStorage(tmp_path), "names", "mine-0001", "a release"):
        pass


def test_what_this_process_left_after_an_error_is_taken_at_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with claimed(storage, "names", "mine-0001", "a release"):
        left = (tmp_path / PATH).read_bytes()
    (tmp_path / PATH).write_bytes(left)
    with claimed(storage, "names", "mine-0001", "a release"):
        pass


def elsewhere(token: str = "theirs") -> bytes:
    """Write the claim of a process on another machine, of which nothing can be known."""
    holder = Holder(token, "other/1/2/7/99", "other", 7, "2026-01-01", "a release")
    return holder.as_bytes()


def test_of_another_machine_it_is_taken_when_it_was_silent_for_long(
    tmp_path: Path,
) -> None:
    storage = LocalStorage(tmp_path)
    storage.write(PATH, elsewhere())
    with (
        pytest.raises(ReleaseClaimedError, match=r"process 7 on other.* 5 minutes after"),
        claimed(storage, "names", "mine-0001", "a release"),
    ):
        pass
    silent = time.time() - claims.SILENCE_SECONDS - 1
    os.utime(tmp_path / PATH, (silent, silent))
    with claimed(storage, "names", "mine-0001", "a release"):
        pass


def test_whoever_slept_finds_anothers_claim_and_leaves_it_alone(storage: Storage) -> None:
    with claimed(storage, "names", "mine-0001", "a release") as claim:
        storage.write(PATH, elsewhere())
        with pytest.raises(ReleaseClaimedError, match="process 7 on other"):
            claim.check()
    assert storage.read(PATH) == elsewhere()


def test_a_holder_gives_signs_of_life(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "SIGN_SECONDS", 0.05)
    with claimed(storage, "names", "mine-0001", "a release"):
        first = storage.stat(PATH)
        for _ in range(100):
            time.sleep(0.05)
            if storage.stat(PATH).written_ns > first.written_ns:
                break
        assert storage.stat(PATH).written_ns > first.written_ns


def test_what_can_not_be_read_is_told_and_not_taken(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write(PATH, b"{")
    with (
        pytest.raises(ReleaseClaimedError, match="delete that file if nobody is"),
        claimed(storage, "names", "mine-0001", "a release"),
    ):
        pass

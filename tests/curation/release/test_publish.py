"""Releases: every sample once, no byte changed, written once, shared where unchanged."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import pytest

from curation.errors import (
    InputError,
    ReleaseClaimedError,
    ReleaseExistsError,
    StaleError,
    TableError,
)
from curation.release.manifest import list_releases, read_manifest
from curation.release.publish import ReleaseOptions, publish_release
from curation.release.shard import ReleaseShard
from curation.release.takedown import take_down
from curation.storage import LocalStorage, MemoryStorage, S3Storage, Storage
from curation.tables import FILTERED, read_table
from curation.testing.tars import list_tar
from curation.verify import verify_release
from tests.curation.release.world import (
    FOLDER,
    members,
    numbered,
    picture,
    release,
    released,
    samples_of,
    small_recipe,
    write_filtered,
)


@pytest.fixture
def output() -> MemoryStorage:
    storage = MemoryStorage("output")
    write_filtered(storage, "a", numbered(6))
    write_filtered(storage, "b/c", numbered(3))  # the same keys as in a
    return storage


def inode(output: LocalStorage, release: str, name: str) -> int:
    return (output.root / "releases" / release / name).stat().st_ino


def test_samples_are_numbered_and_their_files_keep_their_bytes(
    output: MemoryStorage,
) -> None:
    made = released(output, small_recipe(), "a", "b/c")
    assert [shard.num_samples for shard in made.shards] == [4, 4, 1]
    found = samples_of(output, made)
    expected = ["000000000", "000000001", "000000002", "000000003"]
    expected += ["000010000", "000010001", "000010002", "000010003", "000020000"]
    assert list(found) == expected
    originals = [*numbered(6).values(), *numbered(3).values()]
    for new, old in zip(found.values(), originals, strict=True):
        assert list(new) == list(old)
        assert (new["jpg"], new["txt"]) == (old["jpg"], old["txt"])
        told = json.loads(new["json"])
        assert json.loads(old["json"]).items() <= told.items()


def test_the_table_and_the_json_say_where_a_sample_was(output: MemoryStorage) -> None:
    made = released(output, small_recipe(), "a", "b/c")
    found = samples_of(output, made)
    for shard in made.shards:
        path = f"{made.folder}/{shard.files[-1].path}"
        for row in read_table(output, path, FILTERED).to_pylist():
            raw = output.read(f"raw/{row['source_shard']}.tar")
            place = b"".join(raw[r["start"] : r["stop"]] for r in row["source_ranges"])
            assert found[row["key"]]["jpg"] in place
            told = json.loads(found[row["key"]]["json"])
            assert told["key"] == row["key"]
            assert told["release_source"] == {
                "shard": row["source_shard"],
                "key": row["source_key"],
                "ranges": [[r["start"], r["stop"]] for r in row["source_ranges"]],
            }


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for folder in ("one", "other"):
        storage = LocalStorage(tmp_path / folder)
        write_filtered(storage, "a", numbered(6))
        made.append(released(storage, small_recipe(npy=True), "a"))
    one, other = ([f for s in m.shards for f in s.files] for m in made)
    assert one == other


def test_preserved_keys_give_the_filtered_tar_again(output: MemoryStorage) -> None:
    made = released(output, small_recipe(keys="preserve", samples_per_shard=10), "a")
    filtered = output.read(f"{FOLDER}/a.tar")
    assert output.read(f"{made.folder}/00000.tar") == filtered


def owned_tar(samples: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """Put samples into a tar as somebody's program does, who is named in it."""
    whole = io.BytesIO()
    about = {"comment": "by anna on laptop7", "SCHILY.xattr.user": "anna", "mtime": "1.5"}
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key, files in samples.items():
            for extension, data in files.items():
                header = tarfile.TarInfo(f"{key}.{extension}")
                header.size, header.uid, header.gid = len(data), 1234, 1235
                header.uname = header.gname = "anna"
                header.pax_headers = about
                tar.addfile(header, io.BytesIO(data))
    return whole.getvalue()


@pytest.mark.parametrize("keys", ["renumber", "preserve"])
def test_no_release_tells_whose_the_files_were(
    output: MemoryStorage, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    monkeypatch.setattr("tests.curation.release.world.tar_of", owned_tar)
    write_filtered(output, "own", numbered(3))
    made = released(output, small_recipe(keys=keys), "own")
    assert b"anna" in output.read(f"{FOLDER}/own.tar")
    tar = output.read(f"{made.folder}/00000.tar")
    assert b"anna" not in tar
    assert b"laptop7" not in tar
    for header in list_tar(tar):
        assert (header.uid, header.gid, header.uname, header.gname) == (0, 0, "", "")
        assert (header.mtime, header.mode, header.pax_headers) == (0, 0o644, {})
    assert len(samples_of(output, made)) == 3


def test_keys_that_collide_are_refused_naming_both_sources(output: MemoryStorage) -> None:
    with pytest.raises(InputError, match="'000000000' is in a and in b/c"):
        release(output, small_recipe(keys="preserve"), "a", "b/c")
    assert not output.list_files("releases")


def test_a_release_is_never_written_twice(output: MemoryStorage) -> None:
    made = released(output, small_recipe(), "a", name="final")
    with pytest.raises(ReleaseExistsError, match="'final'"):
        release(output, small_recipe(), "a", "b/c", name="final")
    assert read_manifest(output, made.folder) == made


def test_killed_when_it_had_published_it_is_given_again_like_any_other(
    output: MemoryStorage,
) -> None:
    made = released(output, small_recipe(), "a", name="final")
    assert release(output, small_recipe(), "a", name="final") is None
    assert list_releases(output) == [made]


def test_a_release_that_another_process_made_meanwhile_stays(
    output: MemoryStorage,
) -> None:
    made = released(output, small_recipe(), "a")
    data = output.read(f"{made.folder}/manifest.json")
    output.delete(f"{made.folder}/manifest.json")

    def publish(_: ReleaseShard) -> None:
        output.write(f"{made.folder}/manifest.json", data)

    with pytest.raises(ReleaseExistsError, match="small-0001"):
        publish_release(
            output, small_recipe(), FOLDER, ["a"], ReleaseOptions(finished=publish)
        )
    assert verify_release(output, made.folder).differences == ()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../a", "a b", "x" * 101])
def test_names_that_are_no_folders_name_are_refused(
    output: MemoryStorage, name: str
) -> None:
    with pytest.raises(InputError, match="can't be the name"):
        release(output, small_recipe(), "a", name=name)


def test_nothing_new_is_no_release(output: MemoryStorage) -> None:
    released(output, small_recipe(), "a")
    assert release(output, small_recipe(), "a") is None
    assert [made.name for made in list_releases(output)] == ["small-0001"]


def test_new_shards_fill_the_last_tar_and_share_the_others(tmp_path: Path) -> None:
    output = LocalStorage(tmp_path)
    write_filtered(output, "m", numbered(6))
    first = released(output, small_recipe(), "m")
    write_filtered(output, "a", numbered(5))  # sorts before m
    second = released(output, small_recipe(), "a", "m")
    assert (second.name, second.previous, second.number) == ("small-0002", "small-0001", 2)
    assert [s.num_samples for s in second.shards] == [4, 4, 3]
    assert second.shards[0] == first.shards[0]
    assert inode(output, first.name, "00000.tar") == inode(output, second.name, "00000.tar")
    before, after = samples_of(output, first), samples_of(output, second)
    assert before.items() <= after.items()
    assert verify_release(output, second.folder).differences == ()


@pytest.mark.parametrize("length", [0, 700])
def test_a_tar_that_was_cut_is_not_shared_but_written_again(
    tmp_path: Path, length: int
) -> None:
    output = LocalStorage(tmp_path)
    write_filtered(output, "a", numbered(6))
    write_filtered(output, "b", numbered(3))
    first = released(output, small_recipe(), "a")
    whole = output.read(f"{first.folder}/00000.tar")
    os.truncate(tmp_path / first.folder / "00000.tar", length)
    second = released(output, small_recipe(), "a", "b")
    assert output.read(f"{second.folder}/00000.tar") == whole
    assert verify_release(output, second.folder).differences == ()


def test_a_dropped_sample_costs_its_own_tar_and_its_key_is_not_used_again(
    output: MemoryStorage,
) -> None:
    first = released(output, small_recipe(), "a")
    write_filtered(output, "a", numbered(6), kept=lambda key: key != "000000005")
    second = released(output, small_recipe(), "a")
    write_filtered(output, "d", {"x": picture("x")})
    third = released(output, small_recipe(), "a", "d")
    assert second.shards[0] == third.shards[0] == first.shards[0]
    assert "000010001" not in samples_of(output, third)
    assert samples_of(output, third)["000010002"]["jpg"] == picture("x")["jpg"]


def test_packing_anew_or_otherwise_keeps_no_places(output: MemoryStorage) -> None:
    released(output, small_recipe(), "b/c")
    dense = release(output, small_recipe(), "a", "b/c", anew=True)
    assert dense is not None
    rows = read_table(output, f"{dense.folder}/00000.parquet", FILTERED)
    assert set(rows["source_shard"].to_pylist()) == {"a"}
    other = released(output, small_recipe(samples_per_shard=9), "a", "b/c")
    assert [shard.num_samples for shard in other.shards] == [9]


def test_rows_that_hold_something_else_are_written_anew(output: MemoryStorage) -> None:
    first = released(output, small_recipe(), "a", "b/c")
    write_filtered(output, "b/c", numbered(3), rows="other scores")
    second = released(output, small_recipe(), "a", "b/c")
    same = [a == b for a, b in zip(first.shards, second.shards, strict=True)]
    assert same == [True, False, False]


def test_two_encoders_are_refused(output: MemoryStorage) -> None:
    from curation.tables import write_table

    path = f"{FOLDER}/a.parquet"
    table = read_table(output, path, FILTERED)
    write_table(output, path, FILTERED, table, fingerprint="x", encoder={"model": "b"})
    with pytest.raises(TableError, match="was embedded by"):
        release(output, small_recipe(), "a", "b/c")


def test_a_table_of_another_tar_is_refused(output: MemoryStorage) -> None:
    output.write(f"{FOLDER}/a.tar", output.read(f"{FOLDER}/b/c.tar"))
    with pytest.raises(StaleError, match="other samples"):
        release(output, small_recipe(), "a")
    assert list_releases(output) == []


@pytest.mark.parametrize(
    ("kept", "rows"),
    [
        (lambda key: key != "000000000", "rows"),
        (lambda key: key == "000000000", "rows"),
        (lambda _: True, "other scores"),
    ],
)
def test_a_filtered_shard_that_is_made_again_meanwhile_is_refused(
    output: MemoryStorage, kept: Callable[[str], bool], rows: str
) -> None:
    def change(_: object) -> None:
        write_filtered(output, "a", numbered(6), kept=kept, rows=rows)

    with pytest.raises(StaleError, match=r"a\.tar: the filtered shard was made again"):
        publish_release(
            output, small_recipe(), FOLDER, ["a"], ReleaseOptions(started=change)
        )
    assert list_releases(output) == []


def test_a_release_takes_what_its_expressions_say(output: MemoryStorage) -> None:
    rules = {"key == '000000001'": 3, "caption == 'caption of 000000002'": 2}
    recipe = small_recipe(where="key != '000000004' and key != '000000005'", repeats=rules)
    made = released(output, recipe, "a", "b/c")
    found = [data["txt"].decode()[-1] for data in samples_of(output, made).values()]
    assert "".join(found) == "0111223" + "011122"
    assert (made.num_samples, made.num_repeats) == (13, 6)
    assert len(samples_of(output, made)) == 13  # keys are those of places
    card = output.read(f"{made.folder}/README.md").decode()
    assert "key != '000000004'" in card
    assert "| `key == '000000001'` | 3 |" in card
    assert verify_release(output, made.folder).differences == ()


@pytest.mark.parametrize("seed", [None, 3])
def test_copies_keep_their_places_and_leave_them_one_by_one(
    output: MemoryStorage, seed: int | None
) -> None:
    def places(copies: int) -> dict[str, bytes]:
        rules = {"key == '000000003'": copies}
        made = released(output, small_recipe(repeats=rules, shuffle_seed=seed), "a")
        return {key: data["txt"] for key, data in samples_of(output, made).items()}

    twice, often, once = places(2), places(4), places(1)
    assert twice.items() <= often.items()
    assert len(often) == len(twice) + 2
    assert once.items() <= twice.items()
    assert len(once) == 6


def test_a_takedown_takes_all_copies(output: MemoryStorage) -> None:
    recipe = small_recipe(repeats={"key == '000000003'": 3, "key == '000000001'": 2})
    released(output, recipe, "a")
    done = take_down(output, recipe, ["a\t000000003"])
    assert len(done.keys) == 3
    assert (done.release.num_samples, done.release.num_repeats) == (6, 1)


def test_nothing_kept_is_told(output: MemoryStorage) -> None:
    write_filtered(output, "none", numbered(2), kept=lambda _: False)
    with pytest.raises(InputError, match="no sample to release"):
        release(output, small_recipe(), "none")


def test_what_another_plan_left_unfinished_is_cleared_away(output: MemoryStorage) -> None:
    output.write("releases/small-0001/00007.tar", b"left by a run that was killed")
    made = released(output, small_recipe(), "a")
    assert verify_release(output, made.folder).differences == ()


def test_what_a_killed_process_left_unfinished_is_cleared_away_and_told(
    tmp_path: Path,
) -> None:
    output = LocalStorage(tmp_path)
    write_filtered(output, "a", numbered(6))
    left = tmp_path / "releases" / "small-0001" / f".{'a' * 32}.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"begun")
    made = released(output, small_recipe(), "a")
    assert not left.exists()
    assert verify_release(output, made.folder).differences == ()
    left.write_bytes(b"begun")
    (difference,) = verify_release(output, made.folder).differences
    assert difference.path == f"releases/small-0001/{left.name}"
    assert "curate prune --delete" in difference.found


def test_a_release_lies_on_s3(s3_storage: S3Storage) -> None:
    write_filtered(s3_storage, "a", numbered(6))
    first = released(s3_storage, small_recipe(npy=True), "a")
    write_filtered(s3_storage, "b", numbered(2))
    second = released(s3_storage, small_recipe(npy=True), "a", "b")
    assert second.shards[0] == first.shards[0]
    assert verify_release(s3_storage, second.folder).differences == ()
    assert len(members(s3_storage, f"{second.folder}/00000.tar")) == 12


def test_what_is_shared_on_s3_is_copied_by_the_server(
    copying_s3_storage: S3Storage,
) -> None:
    output = copying_s3_storage
    write_filtered(output, "a", numbered(6))
    first = released(output, small_recipe(npy=True), "a")
    write_filtered(output, "b", numbered(2))
    asked: list[tuple[str, str]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        asked.append((model.name, unquote(params["url_path"])))

    output.file_system.s3.meta.events.register("before-call.s3", note)
    second = released(output, small_recipe(npy=True), "a", "b")
    assert second.shards[0] == first.shards[0]
    for name in (file.path for file in first.shards[0].files):
        old, new = (f"{output.prefix}/{made.folder}/{name}" for made in (first, second))
        done = {call for call, path in asked if path.endswith(new)}
        assert "CopyObject" in done
        assert done.isdisjoint({"PutObject", "UploadPart", "CreateMultipartUpload"})
        if not name.endswith(".parquet"):  # tables say where samples are
            assert not [
                call for call, path in asked if path.endswith(old) and "Get" in call
            ]
    assert verify_release(output, second.folder).differences == ()


def _release_and_die(root: Path, writes: int) -> None:
    """Make a release in a process that is killed in the middle of its n-th write."""
    storage = LocalStorage(root)
    left = [writes]
    open_writer, create = LocalStorage.open_writer, LocalStorage.create

    def die_in_time() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_writer(self: LocalStorage, path: str):  # type: ignore[no-untyped-def]
        die_in_time()
        return open_writer(self, path)

    def dying_create(self: LocalStorage, path: str, data: bytes) -> bytes:
        if path.endswith("manifest.json"):  # claims are created again and again
            die_in_time()
        return create(self, path, data)

    LocalStorage.open_writer = dying_writer  # type: ignore[method-assign]
    LocalStorage.create = dying_create  # type: ignore[method-assign]
    publish_release(storage, small_recipe(), FOLDER, ["a"])


def test_killed_at_any_write_it_is_no_release_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    whole = LocalStorage(tmp_path / "whole")
    write_filtered(whole, "a", numbered(6))
    expected = [s.files for s in released(whole, small_recipe(), "a").shards]
    fork = multiprocessing.get_context("fork")
    for writes in range(9):  # two tars with .idx and table, two documents, the manifest
        storage: Storage = LocalStorage(tmp_path / str(writes))
        write_filtered(storage, "a", numbered(6))
        process = fork.Process(
            target=_release_and_die, args=(tmp_path / str(writes), writes)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert list_releases(storage) == []
        made = released(storage, small_recipe(), "a")
        assert [shard.files for shard in made.shards] == expected
        assert verify_release(storage, made.folder).differences == ()


def _release_in_threads(root: Path) -> None:
    options = ReleaseOptions(threads=4)
    recipe = small_recipe(samples_per_shard=40, npy=True)
    publish_release(LocalStorage(root), recipe, FOLDER, ["a", "b"], options)


def _contents(root: Path) -> dict[str, bytes]:
    """Read all that can be seen of releases, without the documents that tell the time."""
    storage = LocalStorage(root)
    return {
        file.path: storage.read(file.path)
        for file in storage.list_files("releases")
        if not file.path.endswith((".md", ".json"))
    }


def kill_releases(folder: Path, times: int) -> int:
    """Kill runs at random moments between their start and their usual end.

    Half of them go on with what the one before left.

    Returns:
        How many left a part of a release.
    """
    output = LocalStorage(folder)
    for number, shard in enumerate(("a", "b")):
        write_filtered(output, shard, numbered(300, start=1000 * number))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["curation.release.publish", __name__])
    for _ in range(2):  # the first one waits for its server
        shutil.rmtree(folder / "releases", ignore_errors=True)
        began = time.monotonic()
        process = context.Process(target=_release_in_threads, args=(folder,))
        process.start()
        process.join()
    usual = time.monotonic() - began
    expected = _contents(folder)
    assert len(expected) == 15 * 4
    random = Random(0)
    unfinished = 0
    for turn in range(times):
        if turn % 2 == 0:
            shutil.rmtree(folder / "releases", ignore_errors=True)
        process = context.Process(target=_release_in_threads, args=(folder,))
        process.start()
        process.join(random.uniform(0, usual))
        process.kill()
        process.join()
        process.close()
        found = _contents(folder)
        assert found.items() <= expected.items()  # each is whole, or not there
        if made := list_releases(output):
            assert found == expected
            told = verify_release(output, made[0].folder).differences
            # killed between a file's name and the end of its hidden one, as `verify` says
            assert all("left unfinished by a process" in one.found for one in told)
            shutil.rmtree(folder / "releases")
        unfinished += 0 < len(found) < len(expected)
    _release_in_threads(folder)
    assert _contents(folder) == expected
    hidden = [path for path in (folder / "releases").rglob(".*") if path.is_file()]
    assert all(path.name.endswith(".part") for path in hidden)
    return unfinished


@pytest.mark.slow
def test_fifty_killed_releases_leave_whole_files_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    assert kill_releases(tmp_path, times=50) > 0


def _release_slowly(output: S3Storage, pipe: Connection) -> None:
    def wait(_: ReleaseShard) -> None:
        pipe.send("the first tar is there")
        time.sleep(2)

    options = ReleaseOptions(threads=1, finished=wait)
    publish_release(output, small_recipe(), FOLDER, ["a"], options)


def test_while_one_process_releases_to_s3_another_is_told_who_does(
    copying_s3_storage: S3Storage,
) -> None:
    output = copying_s3_storage
    write_filtered(output, "a", numbered(6))
    write_filtered(output, "b", numbered(3))
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_release_slowly, args=(output, sender)
    )
    process.start()
    receiver.recv()
    with pytest.raises(ReleaseClaimedError, match=f"process {process.pid} on"):
        release(output, small_recipe(), "a", "b")
    with pytest.raises(ReleaseClaimedError, match="the release small-0001: a release is"):
        release(output, small_recipe(name="other"), "b", name="small-0001")
    process.join()
    assert process.exitcode == 0
    made = list_releases(output)
    assert [(one.name, one.num_samples) for one in made] == [("small-0001", 6)]
    assert verify_release(output, made[0].folder).differences == ()
    assert released(output, small_recipe(), "a", "b").num_samples == 9


def test_samples_of_different_filters_are_in_no_release() -> None:
    output = MemoryStorage("output")
    for shard, text in (("a", "width > 1"), ("b", "width  >  1"), ("c", "width > 2")):
        write_filtered(output, shard, numbered(3), filter=text)
    made = released(output, small_recipe(keys="renumber"), "a", "b")
    assert made.recipe["filter"] == "width > 1"
    with pytest.raises(StaleError, match="a by 'width > 1', c by 'width > 2'"):
        release(output, small_recipe(), "a", "c")

"""Takedowns: gone from every file, only from the tars concerned, and for ever."""

from pathlib import Path

import numpy as np
import pytest

from curation.errors import InputError, ReleaseMismatchError, UnknownNameError
from curation.release.manifest import Manifest, list_releases, read_manifest
from curation.release.publish import ReleaseOptions
from curation.release.shard import ReleaseShard
from curation.release.takedown import take_down
from curation.storage import LocalStorage
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_table
from curation.verify import verify_release
from tests.curation.release.world import (
    FOLDER,
    numbered,
    picture,
    release,
    released,
    samples_of,
    small_recipe,
    write_filtered,
)

RECIPE = small_recipe(npy=True)


@pytest.fixture
def output(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path)
    write_filtered(storage, "a", numbered(6))
    write_filtered(storage, "b/c", {**numbered(2), "only": picture("only")})
    return storage


@pytest.fixture
def first(output: LocalStorage) -> Manifest:
    return released(output, RECIPE, "a", "b/c")


@pytest.mark.parametrize("line", ["000000002", "a\t000000002", "00000\t000000002"])
def test_only_the_tar_that_held_it_is_written_anew(
    output: LocalStorage, first: Manifest, line: str
) -> None:
    # 000000002 is the sample's key here and there: one sample
    done = take_down(output, RECIPE, [line])
    assert (done.keys, done.rewritten) == (("000000002",), 1)
    assert (done.release.name, done.release.previous) == ("small-0002", first.name)
    expected = samples_of(output, first)
    del expected["000000002"]
    assert samples_of(output, done.release) == expected
    assert done.release.shards[1:] == first.shards[1:]
    assert verify_release(output, done.release.folder).differences == ()


def test_raw_shards_that_are_named_like_tars_leave_a_way_to_name_a_sample(
    tmp_path: Path,
) -> None:
    output = LocalStorage(tmp_path)
    write_filtered(output, "00000", numbered(6, start=1))  # 000000003 is 000000002 there
    released(output, RECIPE, "00000")
    for line in ("000000003", "00000\t000000003"):
        with pytest.raises(InputError, match="is the key of 2 samples") as caught:
            take_down(output, RECIPE, [line])
    assert r"small-0001/00000\t000000002 for the one that was 00000\t000000003" in str(
        caught.value
    )
    done = take_down(output, RECIPE, ["small-0001/00000\t000000002"])
    assert done.keys == ("000000002",)


def test_vectors_follow_their_samples(output: LocalStorage, first: Manifest) -> None:
    done = take_down(output, RECIPE, ["a\t000000002"])
    vectors = {
        made.name: embedding_matrix(
            read_table(output, f"{made.folder}/00000.parquet", FILTERED)[EMBEDDING]
        )[0]
        for made in (first, done.release)
    }
    assert (np.delete(vectors[first.name], 2, 0) == vectors[done.release.name]).all()


def test_it_never_comes_back(output: LocalStorage, first: Manifest) -> None:
    done = take_down(output, RECIPE, ["only"])
    assert release(output, RECIPE, "a", "b/c") is None
    write_filtered(output, "d", {"x": picture("x"), "again": picture("only")})
    later = released(output, RECIPE, "a", "b/c", "d")
    images = [sample["jpg"] for sample in samples_of(output, later).values()]
    assert picture("only")["jpg"] not in images
    assert picture("x")["jpg"] in images
    assert later.taken_down == 1
    dense = release(output, RECIPE, "a", "b/c", "d", anew=True)
    assert dense is not None
    images = [sample["jpg"] for sample in samples_of(output, dense).values()]
    assert picture("only")["jpg"] not in images
    assert done.release.num_samples == first.num_samples - 1


def test_the_tar_is_the_one_that_filtered_shards_would_give(
    output: LocalStorage, first: Manifest
) -> None:
    done = take_down(output, RECIPE, ["only", "000000002"])
    for file in output.list_files(done.release.folder):
        output.delete(file.path)
    anew = released(output, RECIPE, "a", "b/c")
    assert anew.shards == done.release.shards
    assert [made.name for made in list_releases(output)] == [first.name, anew.name]


def test_a_tar_that_still_holds_the_sample_is_not_published(
    output: LocalStorage, first: Manifest
) -> None:
    def spoil(shard: ReleaseShard) -> None:
        tar = shard.files[0].path
        output.write(f"releases/small-0002/{tar}", output.read(f"{first.folder}/{tar}"))

    with pytest.raises(ReleaseMismatchError, match=r"00000\.tar: it still holds"):
        take_down(output, RECIPE, ["000000002"], ReleaseOptions(finished=spoil))
    assert [made.name for made in list_releases(output)] == [first.name]


def test_the_same_image_elsewhere_goes_too(output: LocalStorage, first: Manifest) -> None:
    # numbered samples of a and of b/c have the same images
    done = take_down(output, RECIPE, ["a\t000000001"])
    assert len(done.keys) == 2
    images = [sample["jpg"] for sample in samples_of(output, done.release).values()]
    assert numbered(2)["000000001"]["jpg"] not in images


def test_a_key_that_does_not_exist_is_named_and_nothing_is_written(
    output: LocalStorage, first: Manifest
) -> None:
    with pytest.raises(UnknownNameError, match="'nobody'"):
        take_down(output, RECIPE, ["only", "nobody"])
    with pytest.raises(UnknownNameError, match="'only' of shard 'a'"):
        take_down(output, RECIPE, ["a\tonly"])
    assert [made.name for made in list_releases(output)] == [first.name]
    assert not output.list_files("takedowns")


def test_a_key_of_several_samples_asks_for_the_shard(
    output: LocalStorage, first: Manifest
) -> None:
    with pytest.raises(InputError, match="key of 2 samples"):
        take_down(output, RECIPE, ["000000001"])


def test_no_keys_and_no_release_are_told(output: LocalStorage) -> None:
    with pytest.raises(InputError, match="no release of small"):
        take_down(output, RECIPE, ["only"])
    released(output, RECIPE, "a", "b/c")
    with pytest.raises(InputError, match="no key"):
        take_down(output, RECIPE, ["", "\r"])


def test_it_needs_no_filtered_shard(output: LocalStorage, first: Manifest) -> None:
    for file in output.list_files(FOLDER):
        output.delete(file.path)
    done = take_down(output, RECIPE, ["only"])
    assert verify_release(output, done.release.folder).differences == ()


def test_interrupted_it_is_recorded_and_the_next_call_completes_it(
    output: LocalStorage, first: Manifest
) -> None:
    def die(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_down(output, RECIPE, ["only"], ReleaseOptions(started=die))
    assert [made.name for made in list_releases(output)] == [first.name]
    done = take_down(output, RECIPE, ["only"])
    assert len(output.list_files("takedowns")) == 1
    assert read_manifest(output, done.release.folder) == done.release


@pytest.mark.parametrize(
    "line",
    ["only", "b/c\tonly", "000010000", "00001\t000010000", "small-0001/00001\t000010000"],
)
def test_killed_when_it_had_published_it_is_given_again_like_any_other(
    output: LocalStorage, first: Manifest, line: str
) -> None:
    options = ReleaseOptions(name="without")
    done = take_down(output, RECIPE, [line], options)
    files = output.list_files()
    again = take_down(output, RECIPE, [line], options)
    assert (again.release, again.keys, again.record) == (done.release, (), None)
    assert output.list_files() == files
    # beside what is still there, which is all that is recorded, and after other releases
    more = take_down(output, RECIPE, [line, "a\t000000005"])
    assert [len(one.keys) for one in (done, more)] == [1, 1]
    assert more.release.taken_down == 2


def test_what_is_away_for_another_reason_was_not_taken_down(
    output: LocalStorage, first: Manifest
) -> None:
    take_down(output, RECIPE, ["only"])
    write_filtered(output, "b/c", {**numbered(1)})
    released(output, RECIPE, "a", "b/c")
    with pytest.raises(UnknownNameError, match="'000000001' of shard 'b/c'"):
        take_down(output, RECIPE, ["only", "b/c\t000000001"])


def test_a_tar_that_loses_all_its_samples_is_left_out(output: LocalStorage) -> None:
    made = released(output, small_recipe(samples_per_shard=3), "b/c")
    write_filtered(output, "z", {"last": picture("last")})
    made = released(output, small_recipe(samples_per_shard=3), "b/c", "z")
    done = take_down(output, small_recipe(samples_per_shard=3), ["last"])
    assert len(done.release.shards) == len(made.shards) - 1
    write_filtered(output, "z", {"last": picture("last"), "more": picture("more")})
    later = released(output, small_recipe(samples_per_shard=3), "b/c", "z")
    assert "000010001" in samples_of(output, later)


def test_taking_everything_down_leaves_no_release(output: LocalStorage) -> None:
    write_filtered(output, "z", {"last": picture("last")})
    released(output, RECIPE, "z")
    with pytest.raises(InputError, match="leaves nothing"):
        take_down(output, RECIPE, ["last"])

"""What is of shards that are gone is set aside, and nothing else is touched."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from curation.errors import StorageError, TableError
from curation.filtered_folder import (
    SHARD_LIST,
    find_strays,
    read_shard_list,
    settle_folder,
    shard_of,
)
from curation.storage import LocalStorage

FOLDER = "filtered/mine"


def files_of(shard: str) -> list[str]:
    folder, slash, name = shard.rpartition("/")
    vectors = f"{folder}{slash}img_emb_{name}.npy"
    return [*(f"{shard}.{suffix}" for suffix in ("tar", "idx", "parquet")), vectors]


def fill(output: LocalStorage, *shards: str) -> None:
    for shard in shards:
        for path in files_of(shard):
            output.write(f"{FOLDER}/{path}", path.encode())


def there(output: LocalStorage, folder: str) -> set[str]:
    return {file.path.removeprefix(f"{folder}/") for file in output.list_files(folder)}


@pytest.mark.parametrize(
    ("before", "after", "aside"),
    [
        (["a", "b"], ["a", "c"], ["b"]),  # renamed
        (["a", "sub/b", "sub/sub/c"], ["a"], ["sub/b", "sub/sub/c"]),  # deleted
        (["x/00000", "x/00001", "x/00002"], ["x/00000"], ["x/00001", "x/00002"]),
        (["a", "a.b", "a/b"], ["a"], ["a.b", "a/b"]),  # names that begin alike
        (["ä", "a b", "a\\b"], ["new"], ["a b", "a\\b", "ä"]),
        (["a"], ["a", "b"], []),
    ],
)
def test_the_folder_becomes_what_the_shards_are(
    tmp_path: Path, before: list[str], after: list[str], aside: list[str]
) -> None:
    output = LocalStorage(tmp_path)
    fill(output, *before)
    output.write(f"{FOLDER}/notes.txt", b"of a person")
    assert settle_folder(output, FOLDER, after) == aside
    kept = {path for shard in set(before) & set(after) for path in files_of(shard)}
    assert there(output, FOLDER) == kept | {"notes.txt"}
    moved = {path for shard in aside for path in files_of(shard)}
    assert there(output, "set_aside/mine") == moved
    for path in moved:
        assert output.read(f"set_aside/mine/{path}") == path.encode()
    assert read_shard_list(output, f"{FOLDER}/{SHARD_LIST}") == set(after)


def test_a_source_that_shows_nothing_takes_nothing_away(tmp_path: Path) -> None:
    output = LocalStorage(tmp_path)
    fill(output, "a", "b")
    assert settle_folder(output, FOLDER, []) == []
    assert there(output, FOLDER) == {*files_of("a"), *files_of("b")}


def test_what_lies_below_what_could_not_be_read_is_not_gone(tmp_path: Path) -> None:
    output = LocalStorage(tmp_path)
    fill(output, "a", "locked/b", "locked/sub/c", "odd", "locked2/d")
    assert settle_folder(output, FOLDER, ["a"], ["locked", "odd.tar"]) == ["locked2/d"]
    known = read_shard_list(output, f"{FOLDER}/{SHARD_LIST}")
    assert known == {"a", "locked/b", "locked/sub/c", "odd"}


def test_neither_other_recipes_nor_releases_are_touched(tmp_path: Path) -> None:
    output = LocalStorage(tmp_path)
    others = ["filtered/mine-2/gone.tar", "filtered/other/gone.tar", "releases/m/0.tar"]
    for path in others:
        output.write(path, b"")
    settle_folder(output, FOLDER, ["a"])
    assert set(others) <= there(output, "")


class Failing(LocalStorage):
    """Fails at the call of a method of that number."""

    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        vars(self)["left"] = at

    def _count(self) -> None:
        vars(self)["left"] -= 1
        if vars(self)["left"] < 0:
            raise StorageError("the storage is down")

    def copy(self, source: str, path: str) -> None:
        self._count()
        super().copy(source, path)

    def delete(self, path: str) -> None:
        self._count()
        super().delete(path)


@pytest.mark.parametrize("at", range(16))
def test_an_interrupted_move_loses_nothing_and_is_finished_by_the_next(
    tmp_path: Path, at: int
) -> None:
    output = LocalStorage(tmp_path)
    fill(output, "gone", "sub/gone", "here")
    with pytest.raises(StorageError):
        settle_folder(Failing(tmp_path, at), FOLDER, ["here"])
    gone = {*files_of("gone"), *files_of("sub/gone")}
    assert gone <= there(output, FOLDER) | there(output, "set_aside/mine")
    for shard in ("gone", "sub/gone"):  # no tar is there whose table is not
        if f"{shard}.tar" in there(output, FOLDER):
            assert set(files_of(shard)) <= there(output, FOLDER)
    settle_folder(output, FOLDER, ["here"])
    assert there(output, FOLDER) == set(files_of("here"))
    assert there(output, "set_aside/mine") == gone


@given(
    st.sets(st.text("ab./_", min_size=1, max_size=5).filter(lambda t: t == t.strip("/"))),
    st.sets(st.text("ab./_", min_size=1, max_size=5).filter(lambda t: t == t.strip("/"))),
)
def test_a_file_is_a_stray_exactly_if_its_shard_is_gone(
    before: set[str], after: set[str]
) -> None:
    paths = {f"{FOLDER}/{path}": shard for shard in before for path in files_of(shard)}
    found = find_strays(paths, FOLDER, after)
    strays = {path for files in found.values() for path in files}
    assert strays == {path for path, shard in paths.items() if shard not in after}


@pytest.mark.parametrize("name", ["README.md", SHARD_LIST, "a.npy", "a.tar.part"])
def test_what_is_of_no_shard_is_nobodys_stray(name: str) -> None:
    assert shard_of(name) is None


def test_a_list_that_is_none_is_told(tmp_path: Path) -> None:
    output = LocalStorage(tmp_path)
    output.write(SHARD_LIST, b"[]")
    with pytest.raises(TableError, match=r"shards\.json: not a list of shards"):
        read_shard_list(output, SHARD_LIST)

"""Checking filtered shards: do a tar, its .idx and its table tell the same?

Every tar is read anew, header by header; nothing that was written beside it is believed.
"""

from dataclasses import dataclass

from curation.dali_index import format_index
from curation.errors import InputError, NotFoundError, ShardError, TableError
from curation.index import ShardIndex, build_index
from curation.storage.base import Storage
from curation.tables import FILTERED, read_table
from curation.tar import read_members


@dataclass(frozen=True, slots=True)
class Difference:
    """Something about a shard that is not as it should be."""

    path: str
    """Of the file, under the storage's root."""
    found: str


@dataclass(frozen=True)
class Verification:
    """What was checked, and what is wrong."""

    num_shards: int
    num_samples: int
    num_bytes: int
    differences: tuple[Difference, ...]


def verify_shards(storage: Storage, folder: str = "") -> Verification:
    """Check every tar under a folder against its ``.idx`` and its table.

    Args:
        storage: Where the shards are.
        folder: Under which path of it.

    Raises:
        InputError: There is no tar.
    """
    tars = storage.list_files(folder, suffix=".tar")
    if not tars:
        raise InputError(f"{storage.url}/{folder}: there is no .tar file here or below")
    differences: list[Difference] = []
    num_samples = 0
    for tar in tars:
        num, found = _verify(storage, tar.path)
        num_samples += num
        differences += found
    num_bytes = sum(tar.size for tar in tars)
    return Verification(len(tars), num_samples, num_bytes, tuple(differences))


def verify_shard(storage: Storage, tar: str) -> list[Difference]:
    """Check one tar against its ``.idx`` and its table.

    Args:
        storage: Where the shard is.
        tar: Its path there.

    Raises:
        NotFoundError: There is no such tar.
    """
    return _verify(storage, tar)[1]


def _verify(storage: Storage, tar: str) -> tuple[int, list[Difference]]:
    """Give the number of samples and the differences of one shard."""
    try:
        index = build_index(read_members(storage, tar))
    except ShardError as error:
        return 0, [Difference(tar, str(error))]
    return len(index), _differences(storage, tar.removesuffix(".tar"), index)


def _differences(storage: Storage, stem: str, index: ShardIndex) -> list[Difference]:
    found = []
    if len(index.losses):
        loss = index.losses.to_pylist()[0]
        text = f"{len(index.losses)} members are in no sample: {loss['loss']}"
        found.append(Difference(f"{stem}.tar", text))
    try:
        if storage.read(f"{stem}.idx") != format_index(index):
            found.append(Difference(f"{stem}.idx", "it is not the index of its tar"))
    except NotFoundError:
        found.append(Difference(f"{stem}.idx", "it is missing"))
    return found + _table_differences(storage, f"{stem}.parquet", index)


def _table_differences(storage: Storage, path: str, index: ShardIndex) -> list[Difference]:
    try:
        keys = read_table(storage, path, FILTERED, ["key"])["key"].to_pylist()
    except NotFoundError:
        return [Difference(path, "it is missing")]
    except TableError as error:
        return [Difference(path, str(error))]
    if keys == index.keys:
        return []
    if len(keys) != len(index):
        return [Difference(path, f"it has {len(keys)} rows, its tar {len(index)} samples")]
    row = next(i for i, key in enumerate(keys) if key != index.keys[i])
    text = f"row {row} is of {keys[row]!r}, sample {row} of the tar is {index.keys[row]!r}"
    return [Difference(path, text)]

"""The folder of a recipe's filtered shards: which shards it is of, and what is no more.

Training jobs read the folder itself, by a glob or a brace expression. So what is of a
shard that is gone from the source must not stay in it: it is set aside, out of their way,
where it can be looked at until ``curate prune`` deletes it. Which shards the folder is of
is written into it, so that whoever has nothing but the folder can tell what is a stray.
"""

import json
from collections.abc import Collection, Iterable

from curation.errors import NotFoundError, TableError
from curation.storage.base import Storage
from curation.texts import load_json

SHARD_LIST = ".shards.json"
"""In the folder, hidden: the names of all shards that the last run found at the source."""
SET_ASIDE = "set_aside"
"""The folder, under the output root, of what was in a recipe's folder, by its name."""

_SUFFIXES = (".tar", ".idx", ".parquet")
_VECTORS = "img_emb_"


def shard_of(path: str) -> str | None:
    """Name the shard that a file is of; None if it is of none, as a person's notes are.

    Args:
        path: Relative to the folder. ``curate export npy`` may have written here too.
    """
    for suffix in _SUFFIXES:
        if path.endswith(suffix):
            return path.removesuffix(suffix)
    folder, slash, name = path.rpartition("/")
    if name.startswith(_VECTORS) and name.endswith(".npy"):
        return folder + slash + name.removeprefix(_VECTORS).removesuffix(".npy")
    return None


def find_strays(
    paths: Iterable[str],
    folder: str,
    shards: Collection[str],
    unseen: Iterable[str] = (),
) -> dict[str, list[str]]:
    """Find the files of shards that there are no more.

    Args:
        paths: Of files, anywhere.
        folder: Only what is in it counts.
        shards: All that there are.
        unseen: What could not be looked at, such as folders that may not be read: of what
            is named like it, or is in it, nobody knows whether it is gone.

    Returns:
        For each other shard its files, the tar first: a reader that sees no tar looks for
        nothing else.
    """
    prefix = f"{folder}/" if folder else ""
    strays: dict[str, list[str]] = {}
    hidden = {path.removesuffix(".tar") for path in unseen}
    for path in paths:
        if not path.startswith(prefix):
            continue
        shard = shard_of(path.removeprefix(prefix))
        if shard is not None and shard not in shards and not _is_in(shard, hidden):
            strays.setdefault(shard, []).append(path)
    for files in strays.values():
        files.sort(key=lambda path: (not path.endswith(".tar"), path))
    return strays


def _is_in(shard: str, places: Collection[str]) -> bool:
    parts = shard.split("/")
    return any("/".join(parts[:n]) in places for n in range(1, len(parts) + 1))


def settle_folder(
    output: Storage,
    folder: str,
    shards: Collection[str],
    unseen: Iterable[str] = (),
    *,
    may_be_new: bool = False,
) -> list[str]:
    """Write down which shards a folder is of, and set aside what is of any other.

    What is interrupted is gone on with by the next call: a file is deleted when its copy
    is there.

    Args:
        output: Holds the folder.
        folder: Such as ``filtered/<recipe>``; its last part names the place aside.
        shards: All that are at the source. If there are none, nothing is done: a disk
            that is not mounted looks like that.
        unseen: As for :func:`find_strays`.
        may_be_new: Also write down the shards of a folder in which there is nothing yet.

    Returns:
        The shards that were set aside, sorted.

    Raises:
        StorageError: A file could not be moved; the same call may work later.
    """
    if not shards:
        return []
    paths = [file.path for file in output.list_files(folder)]
    strays = find_strays(paths, folder, shards, unseen)
    if paths or may_be_new:
        others = {shard_of(path.removeprefix(f"{folder}/")) for path in paths}
        known = {*shards, *others.difference(strays)} - {None}
        _write_list(output, f"{folder}/{SHARD_LIST}", [s for s in known if s])
    aside = f"{SET_ASIDE}/{folder.rpartition('/')[2]}"
    for files in strays.values():
        for path in files:
            output.copy(path, aside + path.removeprefix(folder))
            output.delete(path)
    return sorted(strays)


def read_shard_list(output: Storage, path: str) -> set[str]:
    """Read which shards a folder is of.

    Raises:
        NotFoundError: It does not say so.
        TableError: What says so is something else.
    """
    try:
        return set(load_json(output.read(path))["shards"])
    except (ValueError, TypeError, KeyError) as error:
        raise TableError(
            f"{output.url}/{path}: not a list of shards ({error}); delete it, and the next "
            "`curate run` writes it again"
        ) from error


def _write_list(output: Storage, path: str, shards: Collection[str]) -> None:
    text = json.dumps({"shards": sorted(shards)}, indent=0, ensure_ascii=True).encode()
    try:
        if output.read(path) == text:
            return
    except NotFoundError:
        pass
    output.write(path, text)

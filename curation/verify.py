"""Checking shards and releases: do a tar, its .idx and its table tell the same?

Every tar is read anew, and the bytes of its samples are compared with what is on record of
them in its table; nothing else that was written beside it is believed. Of a release every
file is hashed, and compared with what the manifest promises. Of an output, all tables are
read too, whose pages have checksums.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from curation.dali_index import format_index
from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    ReleaseMismatchError,
    ShardError,
    TableError,
)
from curation.filtered_folder import SHARD_LIST, find_strays, read_shard_list
from curation.index import ShardIndex, build_index, read_catalog
from curation.npy import parse_npy
from curation.release.card import fixed_part
from curation.release.manifest import CARD, MANIFEST, Manifest, read_manifest
from curation.release.shard import ReleaseFile, ReleaseShard, hash_file, vectors_name
from curation.sample_digests import (
    COMPONENT_CRC32,
    Recorded,
    TarDigest,
    part_crcs,
    read_tar_digest,
    recorded_components,
)
from curation.storage.base import Storage
from curation.tables import (
    CATALOG,
    EMBEDDING,
    FILTERED,
    embedding_matrix,
    read_about,
    read_columns,
    read_table,
    scan_table,
)
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

    def __add__(self, other: "Verification") -> "Verification":
        """Put two together."""
        return Verification(
            self.num_shards + other.num_shards,
            self.num_samples + other.num_samples,
            self.num_bytes + other.num_bytes,
            self.differences + other.differences,
        )


def verify_shards(storage: Storage, folder: str = "") -> Verification:
    """Check every tar under a folder against its ``.idx`` and its table.

    What else the folder holds is checked as far as it tells what it should be: releases
    against their manifests, tables and indexes of raw shards, files of vectors.

    A filtered shard of which nothing was kept has no tar, and a table without rows. What
    is of a shard that the folder is not of, by its own list, is a difference.

    Args:
        storage: Where the shards are.
        folder: Under which path of it.

    Raises:
        InputError: There is no tar.
    """
    files = {file.path: file.size for file in storage.list_files(folder)}
    differences = _strangers(storage, files)
    for difference in differences:
        files.pop(difference.path, None)
    num_samples, releases = 0, _releases_in(files)
    for release in releases:
        files = {p: size for p, size in files.items() if not p.startswith(f"{release}/")}
    tars = {path: size for path, size in files.items() if path.endswith(".tar")}
    without = _tables_without_tar(storage, files)
    if not tars and not without and not releases:
        raise InputError(f"{storage.url}/{folder}: there is no .tar file here or below")
    for tar in sorted((*tars, *without)):
        verified = _verify(storage, tar)
        num_samples += verified.num_samples
        differences += verified.differences
        differences += _vector_differences(storage, tar.removesuffix(".tar"), set())
    known = {difference.path for difference in differences}
    differences += _other_differences(storage, files, known)
    found = Verification(
        len(tars) + len(without), num_samples, sum(tars.values()), tuple(differences)
    )
    for release in releases:
        found += _verify_inside(storage, release)
    return found


def verify_release(storage: Storage, folder: str = "") -> Verification:
    """Check every file of a release against its manifest, and against each other.

    Of the data card, what people may fill in is not compared.

    Args:
        storage: Where the release is.
        folder: Which of its folders holds ``manifest.json``.

    Raises:
        NotFoundError: There is no manifest: it is no release.
        ReleaseMismatchError: The manifest can't be read.
    """
    manifest = read_manifest(storage, folder)
    prefix = f"{folder}/" if folder else ""
    differences = _strays(storage, folder, manifest)
    num_samples = 0
    for shard in manifest.shards:
        found = _shard_differences(storage, prefix, shard)
        differences += found.differences
        num_samples += found.num_samples
    documents = _changed_files(storage, prefix, manifest.documents)
    if manifest.card_sha256 and _card_sha256(storage, prefix) == manifest.card_sha256:
        documents = [found for found in documents if found.path != prefix + CARD]
    differences += documents
    num_bytes = sum(file.num_bytes for file in manifest.files)
    return Verification(len(manifest.shards), num_samples, num_bytes, tuple(differences))


def _shard_differences(storage: Storage, prefix: str, shard: ReleaseShard) -> "_Verified":
    """Check the files of one tar of a release, the tar in one pass."""
    tar = prefix + shard.files[0].path
    found = _changed_files(storage, prefix, shard.files[1:])
    changed = {difference.path for difference in found}
    if not storage.exists(tar):
        return _Verified(0, [Difference(tar, "it is missing"), *found])
    verified = _verify(storage, tar)
    digest = verified.digest or read_tar_digest(storage, tar)
    others = verified.differences
    if text := _wrong_file(shard.files[0], digest.num_bytes, digest.sha256):
        # what of its samples is damaged follows from it, and tells where
        damage = [f"; {one.found}" for one in others if one.path == tar]
        found.insert(0, Difference(tar, text + "".join(damage[:1])))
        return _Verified(verified.num_samples, found)
    found += [other for other in others if other.path not in changed]
    found += _vector_differences(storage, tar.removesuffix(".tar"), changed)
    num = verified.num_samples
    if num != shard.num_samples:
        text = f"it has {num} samples, the manifest promises {shard.num_samples}"
        found.append(Difference(tar, text))
    return _Verified(num, found)


def _card_sha256(storage: Storage, prefix: str) -> str | None:
    """Hash what of the data card nobody may edit; None if it isn't there."""
    try:
        card = storage.read(prefix + CARD).decode(errors="replace")
    except NotFoundError:
        return None
    return hashlib.sha256(fixed_part(card).encode()).hexdigest()


def is_release(storage: Storage, folder: str = "") -> bool:
    """Tell whether a folder holds a release."""
    return storage.exists(f"{folder}/{MANIFEST}" if folder else MANIFEST)


def verify_shard(storage: Storage, tar: str) -> list[Difference]:
    """Check the headers of one tar against its ``.idx`` and its table.

    Args:
        storage: Where the shard is.
        tar: Its path there; if nothing was kept of it, it is not there.

    Raises:
        NotFoundError: There is no such tar, and no table that says why.
    """
    return _verify(storage, tar, read_all=False).differences


def _tables_without_tar(storage: Storage, files: Collection[str]) -> list[str]:
    """Give the paths that the tars of filtered shards would have, where there are none."""
    stems = [path[: -len(".parquet")] for path in files if path.endswith(".parquet")]
    alone = [stem for stem in stems if f"{stem}.tar" not in files]
    return [f"{stem}.tar" for stem in alone if _is_filtered(storage, f"{stem}.parquet")]


def _is_filtered(storage: Storage, path: str) -> bool:
    try:
        return read_about(storage, path).get("table") == FILTERED.name
    except TableError:  # of another program
        return False


def _strangers(storage: Storage, files: Collection[str]) -> list[Difference]:
    """Find what is of shards that a folder is not of, going by the list in it."""
    folders = {
        "/".join(path.split("/")[:-1][:n]) for path in files for n in range(_DEEPEST)
    }
    found = []
    for folder in sorted(folders):
        path = f"{folder}/{SHARD_LIST}" if folder else SHARD_LIST
        try:
            shards = read_shard_list(storage, path)
        except NotFoundError:
            continue
        except TableError as error:
            found.append(Difference(path, str(error)))
            continue
        strays = find_strays(files, folder, shards)
        found += [Difference(one, _STRAY) for paths in strays.values() for one in paths]
    return found


_DEEPEST = 3  # parts: whoever verifies a whole output looks for filtered/<recipe>
_STRAY = "its shard is gone from the source; `curate run` sets it aside"


def _strays(storage: Storage, folder: str, manifest: Manifest) -> list[Difference]:
    prefix = f"{folder}/" if folder else ""
    known = {prefix + file.path for file in manifest.files} | {prefix + MANIFEST}
    found = [file.path for file in storage.list_files(folder) if file.path not in known]
    strays = [Difference(path, "the manifest does not know it") for path in found]
    if storage.local_path(prefix + MANIFEST) is None:
        return strays  # what an upload to a server began is no file there
    left = "left unfinished by a process that was killed: `curate prune --delete`"
    return strays + [Difference(file.path, left) for file in storage.unfinished(folder)]


def _changed_files(
    storage: Storage, prefix: str, files: Sequence[ReleaseFile]
) -> list[Difference]:
    """Compare sizes and hashes with what the manifest promises."""
    differences = []
    for file in files:
        path = prefix + file.path
        try:
            found = hash_file(storage, path, file.path)
        except NotFoundError:
            differences.append(Difference(path, "it is missing"))
            continue
        if text := _wrong_file(file, found.num_bytes, found.sha256):
            differences.append(Difference(path, text))
    return differences


def _wrong_file(file: ReleaseFile, num_bytes: int, sha256: str) -> str | None:
    if (num_bytes, sha256) == (file.num_bytes, file.sha256):
        return None
    return (
        f"it has {num_bytes} bytes with sha256 {sha256}, the manifest promises "
        f"{file.num_bytes} with {file.sha256}"
    )


def _vector_differences(storage: Storage, stem: str, changed: set[str]) -> list[Difference]:
    """Compare the file of vectors with the table, row by row."""
    folder, slash, name = stem.rpartition("/")
    path, table = f"{folder}{slash}{vectors_name(name)}", f"{stem}.parquet"
    if changed & {path, table} or not storage.exists(path):
        return []
    try:
        found = parse_npy(storage.read(path), path)
        column = read_table(storage, table, FILTERED, [EMBEDDING])[EMBEDDING]
    except CurationError as error:
        return [Difference(path, str(error))]
    vectors, valid = embedding_matrix(column)
    if found.shape != vectors.shape:
        text = f"it is {found.shape}, the table has {vectors.shape}"
        return [Difference(path, text)]
    wrong = np.flatnonzero(valid & (found != vectors).any(axis=1))
    if len(wrong):
        return [Difference(path, f"row {wrong[0]} is not the vector of the table")]
    return []


@dataclass(frozen=True)
class _Verified:
    """What looking at one shard came to."""

    num_samples: int
    differences: list[Difference]
    digest: TarDigest | None = None
    """Of the tar, if it was read to its end."""


def _verify(storage: Storage, tar: str, *, read_all: bool = True) -> _Verified:
    """Find the differences of one shard."""
    try:
        index = build_index(read_members(storage, tar))
    except NotFoundError:
        return _Verified(0, _missing_tar(storage, tar))
    except ShardError as error:
        return _Verified(0, [Difference(tar, str(error))])
    found = _differences(storage, tar.removesuffix(".tar"), index)
    if not read_all:
        return _Verified(len(index), found)
    recorded = _recorded(storage, f"{tar.removesuffix('.tar')}.parquet", index)
    digest = read_tar_digest(storage, tar, recorded)
    found += [
        Difference(
            tar, f"the {one.extension} of sample {one.key!r} is damaged: {one.found}"
        )
        for one in digest.changed
    ]
    return _Verified(len(index), found, digest)


def _recorded(storage: Storage, path: str, index: ShardIndex) -> list[Recorded]:
    """Give what a table has on record of its tar's samples; nothing if it is of others."""
    try:
        names = _ON_RECORD.intersection(read_columns(storage, path))
        table = read_table(storage, path, FILTERED, sorted(names))
    except (NotFoundError, TableError):  # which is a difference of its own
        return []
    if table["key"].to_pylist() != index.keys:
        return []
    return recorded_components(index, *part_crcs(table))


_ON_RECORD = frozenset(("key", "image_extension", "sha256", COMPONENT_CRC32))


def _releases_in(files: Collection[str]) -> list[str]:
    """Name the folders of releases."""
    end = f"/{MANIFEST}"
    return [path.removesuffix(end) for path in sorted(files) if path.endswith(end)]


def _verify_inside(storage: Storage, release: str) -> Verification:
    try:
        return verify_release(storage, release)
    except ReleaseMismatchError as error:
        path = f"{release}/{MANIFEST}"
        return Verification(0, 0, 0, (Difference(path, str(error)),))


def _other_differences(
    storage: Storage, files: Collection[str], known: Collection[str]
) -> list[Difference]:
    """Check the pages of all tables, and the indexes of raw shards against their catalogs.

    Args:
        storage: Where they are.
        files: All there are.
        known: What is known to be wrong already.
    """
    found = []
    for path in sorted(files):
        stem, _, suffix = path.rpartition(".")
        try:
            if suffix == "parquet" and path not in known:
                scan_table(storage, path)
            elif suffix == "idx" and f"{stem}.tar" not in files:
                found += _index_differences(storage, stem)
        except TableError as error:
            found.append(Difference(path, str(error)))
    return found


def _index_differences(storage: Storage, stem: str) -> list[Difference]:
    """Compare the index of a raw shard with the catalog beside it, if there is one."""
    path = f"{stem}.parquet"
    if not storage.exists(path) or read_about(storage, path).get("table") != CATALOG.name:
        return []
    if storage.read(f"{stem}.idx") == format_index(read_catalog(storage, path)):
        return []
    return [Difference(f"{stem}.idx", "it is not the index of the catalog beside it")]


def _missing_tar(storage: Storage, tar: str) -> list[Difference]:
    """Tell whether a tar that isn't there should be; without a table, nobody can.

    Raises:
        NotFoundError: There is no table either.
    """
    stem = tar.removesuffix(".tar")
    rows = len(read_table(storage, f"{stem}.parquet", FILTERED, ["key"]))
    if rows:
        return [Difference(tar, f"it is missing, and its table has {rows} rows")]
    if storage.exists(f"{stem}.idx"):
        return [Difference(f"{stem}.idx", "its tar is missing, of which nothing was kept")]
    return []


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

"""The members of a tar: where the headers and the data of each one lie.

Belongs here: what a tar holds, as columns. How its headers are found belongs in
``tar_walk.py``, what one header says in ``tar_header.py``, and what a member's name means
for a sample in ``index.py``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curation.errors import ShardError, StorageError
from curation.storage.base import Storage, StoredFile, check_unchanged
from curation.tar_header import BLOCK, CONTIGUOUS, FILE, header_name
from curation.tar_walk import Batch, FileAccess, Loss, TarWalk, text_of

TIMES = 4  # that a tar of a server is read, until its damage is found twice alike


@dataclass(frozen=True)
class Members:
    """The members of one tar, directories and links too, in its order."""

    file: StoredFile
    """The tar's path, size and version when it was read."""
    names: pa.StringArray
    """As the headers say; bytes that are no UTF-8 are written as ``\\xff``."""
    kinds: np.ndarray
    """``(N,)`` uint8: the type flag as its ASCII code; ``0`` for every file, ``S`` for
    every sparse one, ``x`` for a file whose pax header is wrong, ``g`` for one that a
    global header gives its name or size."""
    header_starts: np.ndarray
    """``(N,)`` int64: first byte of the member's first header."""
    data_starts: np.ndarray
    """``(N,)`` int64: first byte of its data."""
    sizes: np.ndarray
    """``(N,)`` int64: bytes of data, without padding; 0 for what has no data."""
    global_headers: tuple[tuple[int, int], ...] = ()
    """Byte ranges of pax headers that apply to all members after them, and name none."""
    damage: Loss | None = None
    """From where on the tar is damaged, if it was salvaged."""
    trailing: Loss | None = None
    """What stands after the end of the archive and is not zeros."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ends(self) -> np.ndarray:
        """``(N,)`` int64: first byte after the padding of each member."""
        ends: np.ndarray = self.data_starts + self.sizes + -self.sizes % BLOCK
        return ends


def read_members(
    storage: Storage, path: str, *, on_damage: Literal["error", "salvage"] = "error"
) -> Members:
    """Find every member of a tar, and verify the checksum of every header.

    Data is skipped where that is cheaper than reading on, and the tar is never held. An
    archive ends with two blocks of zeros; one will do if nothing follows it. Without any
    the tar counts as damaged, even if all its members are whole: a file that was cut
    between two members looks the same. Damage of a server's tar counts when it is found
    twice alike.

    Args:
        storage: Where the tar is.
        path: Its path there.
        on_damage: ``salvage`` gives the members that are whole before the damage, and
            records the rest in ``Members.damage``.

    Raises:
        NotFoundError: There is no such file.
        ShardError: The tar is damaged, cut off, compressed, or no tar. Its ``offset`` is
            where the first member begins that can't be read.
        StaleError: The file was replaced while it was read.
    """
    file = storage.stat(path)
    walk, (names, columns) = _walked(storage, file)
    if walk.damage and storage.local_path(path) is None:
        # of a range there is no checksum: a bit may have flipped on its way
        for _ in range(TIMES):
            before = walk.damage
            walk, (names, columns) = _walked(storage, file)
            if walk.damage in (None, before):
                break
    check_unchanged(storage, file)
    if walk.damage and on_damage == "error":
        start, reason = walk.damage.start, walk.damage.reason
        message = f"{storage.url}/{path} at byte {start}: {reason}"
        raise ShardError(message, shard=path, offset=start)
    kinds, header_starts, data_starts, sizes = map(
        np.concatenate, zip(*columns, strict=True)
    )
    return Members(
        file,
        pa.concat_arrays(names),
        kinds,
        header_starts,
        data_starts,
        sizes,
        global_headers=tuple(walk.global_headers),
        damage=walk.damage,
        trailing=walk.trailing,
    )


_NONE = (pa.array([], pa.string()), (np.empty(0, np.uint8), *(np.empty(0, np.int64),) * 3))
"""The columns of no members."""


def _walked(storage: Storage, file: StoredFile) -> tuple[TarWalk, Any]:
    """Go through a tar once; give the names and the columns of its members, by batch."""
    with _opened(storage, file) as access:
        walk = TarWalk(access)
        return walk, tuple(zip(_NONE, *map(_columns, walk.batches()), strict=True))


@contextmanager
def _opened(storage: Storage, file: StoredFile) -> Iterator[FileAccess]:
    """Open a file for walking, with what was measured about the cost of its reads."""
    path = file.path
    if storage.local_path(path) is None:
        yield FileAccess(partial(storage.read_version, file), file.size, 8 << 20, 2 << 20)
        return
    with storage.open_reader(path) as reader:
        descriptor = reader.fileno()

        def read(start: int, stop: int) -> bytes:
            try:
                return os.pread(descriptor, stop - start, start)
            except OSError as error:
                message = f"{storage.url}/{path} at byte {start}: {error.strerror}"
                raise StorageError(message) from error

        yield FileAccess(read, file.size, 2 << 20, 16 << 10)


def _columns(batch: Batch) -> tuple[pa.StringArray, tuple[np.ndarray, ...]]:
    kinds = batch.headers[:, 156].copy()
    kinds[kinds == CONTIGUOUS] = FILE
    kinds[list(batch.kinds)] = list(batch.kinds.values())
    return _names(batch), (kinds, batch.header_starts, batch.data_starts, batch.sizes)


def _names(batch: Batch) -> pa.StringArray:
    written = batch.headers[:, :100]
    ended = written == 0
    lengths = np.where(ended.any(axis=1), ended.argmax(axis=1), 100)
    longest = lengths.max(initial=0)
    characters = written[:, :longest][np.arange(longest) < lengths[:, None]]
    if batch.names or batch.headers[:, 345].any() or (characters & 0x80).any():
        headers = enumerate(batch.headers)
        names = [batch.names.get(row) or header_name(h.tobytes()) for row, h in headers]
        return pa.array(map(text_of, names), pa.string())
    # plain ASCII names need no Python: Arrow takes the characters as they are
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    buffers = pa.py_buffer(offsets), pa.py_buffer(characters)
    return pa.StringArray.from_buffers(len(lengths), *buffers)

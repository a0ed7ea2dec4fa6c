"""A look at both ends of a tar, for whoever can't wait until all of it is read.

Most files that are no tars, and most tars that were cut off, show it there: two requests
of a block each, however large the tar is. What a glance finds good may still be damaged in
the middle, which indexing finds.
"""

from curation.errors import CurationError
from curation.storage import MemoryStorage, Storage, StoredFile
from curation.tar import read_members
from curation.tar_header import checksum_is_right

BLOCK = 512


def glance(storage: Storage, file: StoredFile) -> str | None:
    """Say what is wrong with a tar, as far as its first and last blocks tell.

    Args:
        storage: Where it is.
        file: Its path and size there.

    Returns:
        None if they are as a tar's.
    """
    try:
        head = storage.read(file.path, 0, min(BLOCK, file.size))
        if (any(head) and not checksum_is_right(head)) or not head:
            alone = MemoryStorage()
            alone.write(file.path, head)
            return _reason(alone, file.path)
        tail = storage.read(file.path, max(file.size - BLOCK, 0), file.size)
        # something may follow the end of an archive: only a whole look can tell
        return _reason(storage, file.path) if any(tail) else None
    except CurationError as error:
        return str(error)


def _reason(storage: Storage, path: str) -> str | None:
    damage = read_members(storage, path, on_damage="salvage").damage
    return damage.reason if damage else None

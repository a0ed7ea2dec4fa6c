"""How many bytes the files of an artifact had when it was recorded.

A listing tells how many they have now, so that one that was cut short, by a full disk or a
copy that was interrupted, shows without a look into it. Dagster finds no tags of events but
its own for many partitions at once, so the sizes are beside the events, in its store of
keys and values.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import islice

import dagster as dg

from curation.errors import NotFoundError
from curation.storage import Storage

MOST_KEYS = 10_000  # of one query; SQLite takes 32,766


def record_sizes(
    instance: dg.DagsterInstance,
    asset: str,
    shard: str,
    output: Storage,
    files: Sequence[str],
) -> None:
    """Write down how many bytes the files of an artifact have; of what isn't there, none.

    Args:
        instance: Holds the records.
        asset: Its name.
        shard: Of which shard.
        output: Where the files are.
        files: Their paths.
    """
    sizes = {path: _size(output, path) for path in files}
    known = {path: size for path, size in sizes.items() if size is not None}
    instance.daemon_cursor_storage.set_cursor_values(
        {_key(asset, shard): json.dumps(known)}
    )


def recorded_sizes(
    instance: dg.DagsterInstance, asset: str, shards: Iterable[str]
) -> dict[str, int]:
    """Look up how many bytes files had, by path; some may not be on record."""
    found: dict[str, int] = {}
    store = instance.daemon_cursor_storage
    waiting = iter(shards)
    while some := {_key(asset, shard) for shard in islice(waiting, MOST_KEYS)}:
        values = store.get_cursor_values(some)
        for text in values.values():
            found |= json.loads(text)
    return found


def _key(asset: str, shard: str) -> str:
    return f"curation/file_sizes/{asset}/{shard}"


def _size(output: Storage, path: str) -> int | None:
    try:
        return output.stat(path).size
    except NotFoundError:
        return None

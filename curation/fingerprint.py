"""What an artifact was made from, as one hash.

An artifact's fingerprint is the hash of its step's name and version, of the slice of the
recipe that the step reads, and of the fingerprints of its inputs. It is Dagster's data
version, the ``fingerprint`` in every table's metadata, and the answer to "is this done
already?". Batch sizes, devices and times of day are never part of one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from curation.errors import NotFoundError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

FINGERPRINT_LENGTH = 32  # hex digits, 128 bits: collisions need 2^64 artifacts


def fingerprint(*parts: Json) -> str:
    """Hash ``parts`` to 32 hex digits, the same on every machine and Python.

    Dictionaries hash the same in any order of keys; lists do not.

    Raises:
        TypeError: A part holds something JSON can't express.
        ValueError: A part holds NaN or an infinity.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def file_sha256(path: str | Path) -> str:
    """Give the sha256 of a local file as 64 hex digits.

    Computed once per content and process: the file's size and time of change decide
    whether it is read again, because weights of gigabytes are asked for often.

    Raises:
        NotFoundError: There is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"{file}: there is no such file")
    stat = file.stat()
    return _sha256_of(str(file), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: str, _size: int, _mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

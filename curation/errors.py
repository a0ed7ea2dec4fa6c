"""What can go wrong, grouped by what the caller can do about it.

```
CurationError
├── InputError (ValueError)             the call or a setting is wrong: fix it
│   ├── UnknownNameError                no such embedder, classifier, column, scheme …
│   └── PathError                       this one path can't be used; others can
├── NotFoundError (FileNotFoundError)   nothing is stored at that path
├── StorageError (OSError)              storage failed: the same call may work later
├── DataError                           the bytes are wrong: trying again won't help
│   ├── ShardError .shard .offset       damaged or unsupported tar
│   ├── IndexFormatError .shard         an .idx that does not parse or fit its shard
│   ├── SampleError .shard .key         one sample that can't be decoded
│   └── TableError                      another schema, encoder or count than promised
├── StaleError                          made from other inputs: materialize again
└── ReleaseError
    ├── ReleaseExistsError              a release is never written twice
    ├── ReleaseClaimedError             another process makes it: wait for that
    └── ReleaseMismatchError .path      a published file is not what its manifest says
```

A message says what, where, what was expected, what was found, and what to do next. URLs
are in it without the secrets that they may be fetched with: a message goes on record.
Foreign exceptions are translated once, where they enter (``storage/``, ``tables.py``,
the image loaders), so that everything above needs to know only this tree.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from curation.public_urls import text_without_secrets

MOST_REASON = 300  # characters of a reason that is kept on record
MOST_NAMES = 30  # that a message lists: it has to fit a screen


class CurationError(Exception):
    """The base of every error that this package raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(text_without_secrets(message))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel from worker processes. Without this, pickle would call the class
        # with the message alone and fail on the keyword arguments of some.
        return _rebuild, (type(self), str(self), self.__dict__)


class InputError(CurationError, ValueError):
    """The call or a setting is wrong, and stays wrong until someone changes it."""


class UnknownNameError(InputError):
    """A name that isn't among those that exist; the message lists them."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Build the error for one unknown ``name`` of a ``kind`` such as "column"."""
        names = sorted(set(known))
        near = get_close_matches(name, names, n=3, cutoff=0.6)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        listed = ", ".join(names[:MOST_NAMES]) or "none"
        if len(names) > MOST_NAMES:
            listed += f" … {len(names) - MOST_NAMES} more"
        return cls(f"There is no {kind} {name!r}{meant} Those that exist: {listed}.")


class PathError(InputError):
    """One path can't be used, for its name or its permissions. It costs itself alone."""


class NotFoundError(CurationError, FileNotFoundError):
    """Nothing is stored at that path."""


class StorageError(CurationError, OSError):
    """Storage failed in a way that may pass: the same call may work later."""

    reached = True
    """Whether there was an answer; False where no connection could be made."""


class DataError(CurationError):
    """The bytes are wrong: trying again won't help."""


class ShardError(DataError):
    """A tar that is damaged, cut short, or of a kind that can't be read."""

    def __init__(self, message: str, *, shard: str, offset: int) -> None:
        super().__init__(message)
        self.shard = shard
        """Path of the tar, as it was given."""
        self.offset = offset
        """Byte of the tar at which the damage was noticed."""


class IndexFormatError(DataError):
    """An ``.idx`` that does not parse, or does not fit its shard."""

    def __init__(self, message: str, *, shard: str) -> None:
        super().__init__(message)
        self.shard = shard
        """Path of the index or of its tar, as it was given."""


class SampleError(DataError):
    """One sample that can't be decoded. It costs itself, never its shard."""

    def __init__(self, message: str, *, shard: str, key: str) -> None:
        super().__init__(message)
        self.shard = shard
        """Path of the tar, as it was given."""
        self.key = key
        """The sample's key in that shard."""


class TableError(DataError):
    """A table with another schema, encoder or row count than promised."""


class StaleError(CurationError):
    """Made from other inputs than those present now: materialize it again."""


class ReleaseError(CurationError):
    """Something is wrong with a release."""


class ReleaseExistsError(ReleaseError):
    """A release of that name exists, and a release is never written twice."""


class ReleaseClaimedError(ReleaseError):
    """Another process is making it: the same call may work when that is done."""


class ReleaseMismatchError(ReleaseError):
    """A published file is missing, or is not what its manifest says."""

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path
        """The file, relative to the release."""


@contextmanager
def of_setting(name: str) -> Iterator[None]:
    """Name the setting of the recipe that an error is about."""
    try:
        yield
    except (InputError, NotFoundError) as error:
        raise InputError(f"`{name}` in the recipe: {error}") from error


def shortened(reason: str) -> str:
    """Cut a reason that goes on record: what strangers sent may be quoted in it."""
    return reason if len(reason) <= MOST_REASON else f"{reason[: MOST_REASON - 1]}…"


def _rebuild(
    kind: type[CurationError], message: str, attributes: dict[str, object]
) -> CurationError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error

"""Who makes a release: one process at a time for a series, and for a name.

A claim is a small file that one process alone can create. Its holder renews it, and looks
at it before whatever it writes appears. One of a process that is known to be gone, or that
nobody renewed for ``SILENCE_SECONDS`` by the storage's clock, is taken over; a holder that
slept meanwhile finds another one's claim, and stops.
"""

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial

from curation.artifacts import CLAIMS
from curation.errors import (
    CurationError,
    NotFoundError,
    ReleaseClaimedError,
)
from curation.processes import (
    SIGN_SECONDS,
    SILENCE_SECONDS,
    is_gone,
    repeated,
    this_process,
)
from curation.storage.base import Storage, StoredFile

_TRIES = 5  # at a claim that others take and give back meanwhile

_held: set[str] = set()
"""Tokens of this process; a claim of it with another one was left by an error."""


@dataclass(frozen=True)
class Holder:
    """Who has a claim."""

    token: str
    """Tells holders apart; those with the same one share the claim."""
    process: str
    """As :func:`curation.processes.this_process` gives it."""
    host: str
    number: int
    """Of the process."""
    since: str
    """ISO 8601, UTC."""
    work: str
    """What it does, as words."""
    shared: bool = False
    """Whether several processes have it."""

    def as_bytes(self) -> bytes:
        """Write it as JSON."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Holder | None":
        """Read what :meth:`as_bytes` wrote; None if it is something else."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return None


@dataclass(frozen=True)
class Claim:
    """What is held: looked at by whoever writes under it."""

    storage: Storage
    path: str
    holder: Holder

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            ReleaseClaimedError: Another holder has it.
        """
        found = _create(self.storage, self.path, self.holder)
        if found is None or found.token != self.holder.token:
            raise _refusal(self.path, found)


@contextmanager
def claimed(
    storage: Storage,
    kind: str,
    name: str,
    work: str,
    *,
    shared: str | None = None,
    takes: str | None = None,
) -> Iterator[Claim]:
    """Hold a claim until the block ends.

    Args:
        storage: Where the releases are.
        kind: Of the name: ``series``, or ``names`` of releases.
        name: What is claimed.
        work: What is done under it, for others to be told.
        shared: A token, with which other processes may have it at the same time.
        takes: The token of a shared claim that is taken over from whoever has it, since
            they write the same.

    Raises:
        ReleaseClaimedError: Another process has it; the message says which.
    """
    path = f"{CLAIMS}/{kind}/{name}.json"
    holder = Holder(
        token=shared or uuid.uuid4().hex,
        process=this_process(),
        host=socket.gethostname(),
        number=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        work=work,
        shared=shared is not None,
    )
    claim = Claim(storage, path, holder)
    with _sharing(claim) if shared else _alone(claim):
        _take(claim, takes)
        with repeated(partial(_renew, claim), SIGN_SECONDS):
            yield claim


@contextmanager
def _alone(claim: Claim) -> Iterator[None]:
    """Give a claim back when a block ends."""
    _held.add(claim.holder.token)
    try:
        yield
    finally:
        _held.discard(claim.holder.token)
        with suppress(CurationError):  # one that stays is taken over
            _give_back(claim.storage, claim.path, claim.holder.token)


@contextmanager
def _sharing(claim: Claim) -> Iterator[None]:
    """Give a claim back when a block ends, if nobody else is in one.

    Each holder is there by a file of its own before it looks at the claim, so that whoever
    ends last sees all others.
    """
    storage, folder = claim.storage, claim.path.removesuffix(".json")
    own = f"{folder}/{uuid.uuid4().hex}.json"
    storage.write(own, claim.holder.as_bytes())
    try:
        yield
    finally:
        with suppress(CurationError):
            storage.delete(own)
            if not storage.list_files(folder):
                _give_back(storage, claim.path, claim.holder.token)


def abandoned_claims(storage: Storage, before: float) -> list[StoredFile]:
    """List the claims that nobody renewed since a time, with the files of all who had them.

    Args:
        storage: Where the releases are.
        before: In nanoseconds since 1970, by the storage's clock.
    """
    files = storage.list_files(CLAIMS)
    renewed = {f.path.removesuffix(".json") for f in files if f.written_ns >= before}
    return [
        file
        for file in files
        # a file of one who shares a claim is written once: the claim's own counts
        if renewed.isdisjoint(
            {file.path.removesuffix(".json"), file.path.rpartition("/")[0]}
        )
    ]


def plan_token(fingerprint: str) -> str:
    """Give the token that those share who write the tars of one plan."""
    return f"plan {fingerprint}"


def _take(claim: Claim, takes: str | None) -> None:
    for _ in range(_TRIES):
        found = _create(claim.storage, claim.path, claim.holder)
        if found is not None and found.token == claim.holder.token:
            return
        if not (found and found.token == takes) and not _is_over(claim, found):
            break
        _give_back(claim.storage, claim.path, found.token if found else None)
    raise _refusal(claim.path, found)


def _create(storage: Storage, path: str, holder: Holder) -> Holder | None:
    """Create a claim if there is none; give whose it is, None if that can't be read."""
    try:  # most times it is there
        return Holder.from_bytes(storage.read(path))
    except NotFoundError:
        return Holder.from_bytes(storage.create(path, holder.as_bytes()))


def _is_over(claim: Claim, found: Holder | None) -> bool:
    """Tell whether whoever has a claim is gone."""
    if found and not found.shared:
        if found.process == this_process() and found.token not in _held:
            return True
        if is_gone(found.process):
            return True
    try:
        last = claim.storage.stat(claim.path).written_ns
    except NotFoundError:
        return True
    return _now(claim) - last > SILENCE_SECONDS * 1e9


def _now(claim: Claim) -> int:
    """Give the time by the storage's clock: that of a file written now."""
    path = f"{CLAIMS}/.{uuid.uuid4().hex}.part"
    claim.storage.write(path, b"")
    try:
        return claim.storage.stat(path).written_ns
    finally:
        claim.storage.delete(path)


def _give_back(storage: Storage, path: str, token: str | None) -> None:
    """Delete a claim, unless another holder has it."""
    with suppress(NotFoundError):
        found = Holder.from_bytes(storage.read(path))
        if (found.token if found else None) == token:
            storage.delete(path)


def _renew(claim: Claim) -> None:
    """Give a sign of life."""
    # what fails is seen by whoever checks the claim, or may pass
    with suppress(CurationError):
        claim.check()
        claim.storage.write(claim.path, claim.holder.as_bytes())


def _refusal(path: str, found: Holder | None) -> ReleaseClaimedError:
    kind, _, name = path.removeprefix(f"{CLAIMS}/").removesuffix(".json").partition("/")
    what = f"releases of {name}" if kind == "series" else f"the release {name}"
    if found is None:
        return ReleaseClaimedError(
            f"{what}: {path} says that someone is making it, and can't be read; delete "
            "that file if nobody is"
        )
    return ReleaseClaimedError(
        f"{what}: {found.work} is under way since {found.since}, process {found.number} "
        f"on {found.host}, and one is at a time; run this again when it is done. If that "
        f"process is gone, it counts as such {SILENCE_SECONDS / 60:.0f} minutes after its "
        f"last sign of life, or as soon as {path} is deleted"
    )

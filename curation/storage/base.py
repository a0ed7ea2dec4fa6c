"""What every storage does: a folder of files, read by range, written whole or not at all.

Paths are relative to the storage's root, with ``/`` between parts and no ``..``. Names
that begin with a dot are hidden: they are never listed, and unfinished writes have them.
"""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from curation.errors import InputError, StaleError

T = TypeVar("T")

COPY_BLOCK = 8 << 20  # bytes read at once while copying between unlike storages
COPY_GAP = 256 << 10  # bytes read along with their neighbours rather than asked around
BLOCKS_AHEAD = 4  # read while one is written; hides the latency of S3


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a listing says of one file."""

    path: str
    """Relative to the storage's root."""
    size: int
    """In bytes."""
    version: str
    """Differs whenever the content was replaced: an ETag on S3, the time of the last
    change in nanoseconds in a local folder."""
    written_ns: int = field(default=0, compare=False)
    """When that was, in nanoseconds since 1970 by the storage's own clock, on S3 in whole
    seconds; 0 where it isn't told. Only to be compared with others of the same storage."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """What a listing came upon that can't be used as a file, or can't be looked into."""

    path: str
    r"""Under the storage's root, fit to be shown: bytes that are no UTF-8 as ``\xff``."""
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder and those below it."""

    files: list[StoredFile]
    """Sorted by path."""
    unusable: list[Unusable]
    """The same, of what is named like a file that was asked for, or may be a folder."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``[start, stop)`` of one stored file."""

    storage: "Storage"
    path: str
    start: int
    stop: int
    version: StoredFile | None = None
    """What the file was when its places were found; another one is not read."""


Suffix = str | tuple[str, ...]
"""How names that count end; of several, one will do."""
Buffer = bytes | memoryview
Part = bytes | ByteRange
P = TypeVar("P", Part, ByteRange)
"""A piece of a file that is being put together: literal bytes, or a range of another."""


class Storage(ABC):
    """A folder of files, somewhere.

    Members are frozen dataclasses of settings, so that a storage can be sent to another
    process and compares equal to another one of the same place. Every method raises
    :class:`~curation.errors.NotFoundError` for a file that isn't there,
    :class:`~curation.errors.InputError` for a path or place that can't be used, and
    :class:`~curation.errors.StorageError` for a failure that may pass.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Where this is, as a person would write it: a local path or ``s3://…``."""

    @abstractmethod
    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        """List the files under ``folder``, sub-folders too, and what can't be used there.

        A folder that does not exist is an empty one. Hidden files are left out. One entry
        that can't be used costs itself; only if ``folder`` can't be listed is it an error.
        """

    def list_files(self, folder: str = "", suffix: Suffix = "") -> list[StoredFile]:
        """List the files of :meth:`survey`, where nothing depends on what it left out."""
        return self.survey(folder, suffix).files

    @abstractmethod
    def stat(self, path: str) -> StoredFile:
        """Look up one file's size and version."""

    @abstractmethod
    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes ``[start, stop)``; fewer where the file ends before ``stop``."""

    def read_version(
        self, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        """Read bytes as :meth:`read`, of a file that must still be what was listed.

        Places that were found in a file earlier, such as those of an index, mean nothing
        in another one that has taken its name.

        Raises:
            StaleError: It has another size or version now.
        """
        data = self.read(file.path, start, stop)
        check_unchanged(self, file)
        return data

    @abstractmethod
    def open_reader(self, path: str) -> BinaryIO:
        """Open a file for reading from any position; the caller closes it."""

    @abstractmethod
    def open_writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that appears under ``path`` when the block ends without an error.

        Until then, and after an error, readers see what was there before.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove one file; one that isn't there is no error."""

    def unfinished(self, folder: str = "") -> list[StoredFile]:
        """List what writes have begun and not ended, under way or of killed processes.

        Nobody else sees them. Where there are none, or none can be listed, none are.
        """
        return []

    def discard(self, file: StoredFile) -> None:
        """Remove what :meth:`unfinished` listed; what is gone is no error."""
        self.delete(file.path)

    def check_md5(self, file: StoredFile, digest: str) -> None:  # noqa: B027
        """Compare the MD5 of all bytes that were read of a file with what is known of it.

        Args:
            file: As it was listed.
            digest: 32 hexadecimal digits.

        Raises:
            StorageError: A bit may have flipped on its way; nothing is known of most files.
        """

    def local_path(self, path: str) -> Path | None:
        """Give the file's place in the local file system, or None where it has none."""
        return None

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a whole file at once, in place of one that is there."""
        with self.open_writer(path) as file:
            file.write(data)

    @abstractmethod
    def create(self, path: str, data: bytes) -> bytes:
        """Write a whole file if none is there, and never in place of one.

        Of several that call this at once, one writes its file, and all are told which.

        Args:
            path: Of the file.
            data: What to write, which says who writes it if that is to be known.

        Returns:
            What is there now: ``data``, or what somebody else wrote before.
        """

    def write_parts(
        self, path: str, parts: Iterable[Part], check: Callable[[], None] | None = None
    ) -> None:
        """Put a file together from literal bytes and ranges of other files, in order.

        Ranges keep their bytes exactly. A storage overrides this where it can copy
        without moving the bytes through the process.

        Args:
            path: Of the file.
            parts: What it consists of.
            check: Called when all is copied and before the file appears, which what it
                raises prevents.
        """
        with self.open_writer(path) as file:
            file.writelines(part_blocks(parts))
            if check:
                check()

    def copies(self, parts: Sequence[Part]) -> bool:
        """Tell whether :meth:`write_parts` moves some of these without this process."""
        return False

    def copy(self, source: str, path: str) -> None:
        """Copy a file inside this storage, in place of one that is there.

        A storage whose files are never changed in place may let both share their bytes.
        """
        self.write_parts(path, [ByteRange(self, source, 0, self.stat(source).size)])

    def exists(self, path: str) -> bool:
        """Tell whether a file is there."""
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True


def check_unchanged(storage: Storage, file: StoredFile) -> None:
    """Make sure that a file is still the one that was read before.

    Raises:
        StaleError: It has another size or version now.
        NotFoundError: It is gone.
    """
    found = storage.stat(file.path)
    if found != file:
        raise replaced(storage, file, found)


def replaced(storage: Storage, file: StoredFile, found: StoredFile) -> StaleError:
    """Say that a file is not the one that was read before."""
    kind = "shard" if file.path.endswith(".tar") else "file"
    return StaleError(
        f"{storage.url}/{file.path}: {file.size} bytes of version {file.version} were "
        f"indexed, found {found.size} bytes of version {found.version}; the {kind} was "
        "replaced: make its index again, and what follows from it"
    )


def once_per_process(owner: object, name: str, make: Callable[[], T]) -> T:
    """Make something once in each process, and keep it as an attribute of its owner.

    For connections: a forked worker of a data loader can't use those of its parent. Where
    threads come together, all get the same one.
    """
    made: dict[int, T] = vars(owner).setdefault(name, {})
    process = os.getpid()
    if process not in made:
        made.setdefault(process, make())  # atomic: of two threads' makes, one stays
    return made[process]


def part_blocks(parts: Iterable[Part]) -> Iterator[Buffer]:
    """Read parts in order, in blocks of at most 8 MiB unless literal bytes are longer.

    Ranges that lie near each other in one file are read at once, also where literal bytes
    come between, and some blocks are read ahead: one more request to S3 takes as long as a
    few hundred kilobytes.

    Raises:
        InputError: A range reaches past the end of its file.
    """
    groups = near_parts(parts, block=COPY_BLOCK, gap=COPY_GAP)
    reads = (partial(read_group, group) for group in groups)
    for blocks in run_ahead(reads, BLOCKS_AHEAD):
        yield from blocks


def run_ahead(calls: Iterable[Callable[[], T]], most: int) -> Iterator[T]:
    """Yield what calls return, in order, while some of the next ones run in threads."""
    with ThreadPoolExecutor(most) as threads:
        under_way: deque[Future[T]] = deque()
        for call in calls:
            under_way.append(threads.submit(call))
            if len(under_way) > most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _pieces(part: ByteRange, block: int) -> Iterator[ByteRange]:
    for start in range(part.start, part.stop, block):
        yield replace(part, start=start, stop=min(start + block, part.stop))


def slices(group: list[ByteRange], data: bytes) -> list[memoryview]:
    """Cut the ranges out of what was read from the begin of the first one.

    Raises:
        InputError: The file ended before the last.
    """
    first, view = group[0].start, memoryview(data)
    if len(data) != group[-1].stop - first:
        raise past_the_end(group[-1], found_size=first + len(data))
    return [view[part.start - first : part.stop - first] for part in group]


def near_parts(parts: Iterable[P], *, block: int, gap: int) -> Iterator[list[P]]:
    """Part parts into runs, each with ranges that are read at once and bytes between.

    Args:
        parts: Of any files.
        block: Most bytes from the first range to the last; longer ranges are cut.
        gap: Most bytes between two.
    """
    group: list[P] = []
    last: ByteRange | None = None
    start = 0
    for part in parts:
        if isinstance(part, bytes):
            group.append(part)
            continue
        for piece in (
            [part] if 0 < part.stop - part.start <= block else _pieces(part, block)
        ):
            near = last is not None and (
                0 <= piece.start - last.stop <= gap
                and piece.stop - start <= block
                and piece.storage is last.storage
                and piece.path == last.path
            )
            if not near:
                if last is not None:
                    yield group
                    group = []
                start = piece.start
            group.append(piece)
            last = piece
    if group:
        yield group


def filled(group: Sequence[Part], data: bytes) -> Sequence[Buffer]:
    """Put what was read in the place of a run's ranges.

    Args:
        group: As :func:`near_parts` gives it, with at least one range.
        data: The bytes from the begin of its first range to the end of its last.

    Raises:
        InputError: The file ended before.
    """
    found = iter(slices([part for part in group if isinstance(part, ByteRange)], data))
    return [part if isinstance(part, bytes) else next(found) for part in group]


def span(group: Sequence[Part]) -> ByteRange | None:
    """Give the range from the first of a run's ranges to its last; None without any."""
    first = next((part for part in group if isinstance(part, ByteRange)), None)
    if first is None:
        return None
    last = next(part for part in reversed(group) if isinstance(part, ByteRange))
    return replace(first, stop=last.stop)


def read_group(group: Sequence[Part]) -> Sequence[Buffer]:
    """Read a run that :func:`near_parts` gives, by one read.

    Raises:
        InputError: A range reaches past the end of its file.
        StaleError: The file is not of the version that a range names.
    """
    whole = span(group)
    if whole is None:
        return cast(Sequence[bytes], group)
    return filled(group, _read(whole))


def _read(part: ByteRange) -> bytes:
    if part.version is not None:
        return part.storage.read_version(part.version, part.start, part.stop)
    return part.storage.read(part.path, part.start, part.stop)


def check_versions(parts: Iterable[Part]) -> None:
    """Make sure that what ranges were taken from is still of the version that they name.

    Raises:
        StaleError, NotFoundError: As :func:`check_unchanged`.
    """
    files = {
        part.version: part.storage
        for part in parts
        if isinstance(part, ByteRange) and part.version is not None
    }
    for file, storage in files.items():
        check_unchanged(storage, file)


def part_size(part: Part) -> int:
    """Give the length of a part in bytes."""
    return len(part) if isinstance(part, bytes) else part.stop - part.start


def past_the_end(part: ByteRange, *, found_size: int) -> InputError:
    """Say that a range does not fit the file that it is a range of."""
    return InputError(
        f"{part.path} in {part.storage.url}: bytes {part.start} to {part.stop} were asked "
        f"for, but the file ends at {found_size}; it changed since it was indexed"
    )


def checked_path(path: str) -> str:
    """Return ``path`` if it names a file inside a storage.

    Raises:
        InputError: It is empty or absolute, or has ``.``, ``..`` or empty parts.
    """
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            f"{path!r} is no path inside a storage: expected names with single slashes "
            "between them, none of them '.' or '..'"
        )
    return path


def shown_name(name: str) -> str:
    r"""Write a name of a file as text: bytes that are no UTF-8 as ``\xff``."""
    return name.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")


def is_hidden(path: str) -> bool:
    """Tell whether a path has a part that begins with a dot, and is more than dots."""
    return any(part.startswith(".") for part in path.split("/") if part not in (".", ".."))


def sorted_listing(
    names: Mapping[str, T], stored: Callable[[str, T], StoredFile], suffix: Suffix
) -> Listing:
    """Divide the names that a server lists into files, and what is no path of a file.

    Args:
        names: What is known of each name, under the storage's root.
        stored: Makes a file of a name and what is known of it.
        suffix: Which names count.
    """
    files, unusable = [], []
    for name, about in sorted(names.items()):
        if not name.endswith(suffix) or name.endswith("/") or is_hidden(name):
            continue  # what ends with a slash stands for a folder
        try:
            files.append(stored(checked_path(name), about))
        except InputError:
            reason = (
                "a name with '//', '/./' or '/../', which no folder can have: rename it"
            )
            unusable.append(Unusable(name, reason))
    return Listing(files, unusable)

"""Files in a local folder.

A file is on the disk before it has its name, and the name before the write returns: after
a crash of the machine, or a power cut, what is there under a name is whole.
"""

import errno
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, cast

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    PathError,
    StorageError,
)
from curation.storage.base import (
    Buffer,
    ByteRange,
    Listing,
    Part,
    Storage,
    StoredFile,
    Suffix,
    Unusable,
    check_versions,
    checked_path,
    filled,
    near_parts,
    part_blocks,
    part_size,
    past_the_end,
    replaced,
    shown_name,
    span,
)

_SETTING_ERRORS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR,
    errno.ENAMETOOLONG, errno.EEXIST,
}  # fmt: skip
"""Errors that come again until someone changes a path or a permission."""

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}
"""Errors of file systems that can't sync a folder, and of folders that may not be read."""

_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS}
"""Errors of file systems that can't give a file one more name."""

LEADS_OUT = (
    "a link that leads out of the folder, to what whoever made it need not have; if it is "
    "yours, follow_links takes what it leads to"
)

WRITE_BLOCK = 256 << 10  # bytes; what fits the processor's cache is written fastest
SHORT_GAP = 16 << 10  # bytes read along with their neighbours rather than skipped
FLUSH_BYTES = 16 << 20  # brought to the disk at once while a file is put together
MOST_OPEN = 64  # files that ranges are copied from
LONG_RANGE = 4 << 20  # bytes from which on the kernel copies faster on its own


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder of this machine. It need not exist until something is written."""

    root: Path
    follows_links: bool = True
    """Whether a link may lead out of the folder, as one may that its owner laid. Of a
    stranger's folder it could name any file that this process may read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def url(self) -> str:
        return str(self.root)

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        top = self._place(folder) if folder else self.root
        walk = _Walk(suffix, None if self.follows_links else self.root)
        with _translated(top):
            walk.run(str(top), f"{folder.rstrip('/')}/" if folder else "")
        return Listing(
            sorted(walk.files, key=lambda file: file.path),
            sorted(walk.unusable, key=lambda entry: entry.path),
        )

    def stat(self, path: str) -> StoredFile:
        place = self._place(path)
        with _translated(place):
            stat = place.stat()
            if not S_ISREG(stat.st_mode):
                raise NotFoundError(f"{place}: expected a file, found a folder")
        return _stored(path, stat)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        with self.open_reader(path) as file, _translated(self._place(path)):
            file.seek(start)
            return file.read() if stop is None else file.read(max(stop - start, 0))

    def read_version(
        self, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        with self.open_reader(file.path) as opened, _translated(self._place(file.path)):
            opened.seek(start)
            data = opened.read() if stop is None else opened.read(max(stop - start, 0))
            self.check_open(opened, file)
        return data

    def check_open(self, opened: BinaryIO, file: StoredFile) -> os.stat_result:
        """Make sure that an open file is still what was listed, after reading of it.

        A file that was replaced by renaming another one to its name is still what it was,
        for whoever has it open.

        Returns:
            What the system says of it.

        Raises:
            StaleError: It has another size or version.
        """
        stat = os.fstat(opened.fileno())
        if stat.st_size != file.size or str(stat.st_mtime_ns) != file.version:
            raise replaced(self, file, _stored(file.path, stat))
        return stat

    def open_reader(self, path: str) -> BinaryIO:
        place = self._place(path)
        with _translated(place):
            try:
                return open(place, "rb")
            except PermissionError as error:  # of one file; a folder's are told by listing
                raise PathError(
                    f"{place}: {error.strerror}; let whoever runs this read it"
                ) from error

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        place = self._place(path)
        # rename is atomic inside one file system, which a sibling name ensures
        with _translated(place), _unnamed(place, lambda it: it.replace(place)) as file:
            yield file

    def create(self, path: str, data: bytes) -> bytes:
        place = self._place(path)
        with _translated(place):
            try:
                # unlike a new name for a file, one more name never replaces another file
                with _unnamed(place, lambda it: os.link(it, place)) as file:
                    file.write(data)
            except FileExistsError:
                return self.read(path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self._create_without_links(place, data)
        return data

    def _create_without_links(self, place: Path, data: bytes) -> bytes:
        """Create a file where files have one name; a reader may see it unfinished."""
        try:
            with open(place, "xb") as file:
                file.write(data)
        except FileExistsError:
            return place.read_bytes()
        return data

    def unfinished(self, folder: str = "") -> list[StoredFile]:
        top = self._place(folder) if folder else self.root
        found = []
        for place in top.rglob("*.part"):  # follows no link
            if _UNFINISHED.fullmatch(place.name):
                with suppress(OSError):  # it has its name by now
                    path = place.relative_to(self.root).as_posix()
                    found.append(_stored(path, place.stat()))
        return sorted(found, key=lambda file: file.path)

    def delete(self, path: str) -> None:
        with _translated(place := self._place(path)):
            place.unlink(missing_ok=True)

    def copy(self, source: str, path: str) -> None:
        """Make a hard link, or a copy where the file system has none.

        Every write here replaces a file by another one, so neither changes the other.
        """
        place = self._place(path)
        unfinished = _unfinished(place)
        with _translated(self._place(source)), _translated(place):
            _make_folder(place.parent)
            try:
                os.link(self._place(source), unfinished)
                unfinished.replace(place)
                _sync_folder(place.parent)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                super().copy(source, path)
            finally:
                # renaming a file to a name that is a link to it already leaves both
                unfinished.unlink(missing_ok=True)

    def local_path(self, path: str) -> Path:
        return self._place(path)

    def copies(self, parts: Sequence[Part]) -> bool:
        return any(_way_of_copying(part) == "long" for part in parts)

    def write_parts(
        self, path: str, parts: Iterable[Part], check: Callable[[], None] | None = None
    ) -> None:
        """Put a file together; long ranges of local files never pass through this process.

        Its place on the disk is taken before anything is copied, which is faster, and
        finds out at once that the disk is too full.
        """
        asked = parts = list(parts)
        size = sum(map(part_size, parts))
        with (
            self.open_writer(path) as file,
            _OpenSources() as sources,
            _Flushing(file.fileno()) as flushing,
        ):
            if size and hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), 0, size)
            if _all_remote(parts):
                file.writelines(part_blocks(parts))
                parts = []
            for kind, run in groupby(parts, _way_of_copying):
                if kind == "short":
                    for group in near_parts(run, block=WRITE_BLOCK, gap=SHORT_GAP):
                        file.writelines(blocks := _read_group(group, sources))
                        flushing.wrote(sum(map(len, blocks)))
                elif kind == "long":
                    file.flush()
                    for part in cast(Iterator[ByteRange], run):
                        _send(part, sources.descriptor(part), file.fileno())
                        flushing.wrote(part.stop - part.start)
                else:
                    file.writelines(part_blocks(run))
            check_versions(p for p in asked if _way_of_copying(p) != "elsewhere")
            if check:
                check()

    def _place(self, path: str) -> Path:
        place = self.root / checked_path(path)
        if not self.follows_links and _leads_out(place, self.root):
            raise PathError(f"{place}: {LEADS_OUT}")
        return place


class _Flushing:
    """Has what was written brought to the disk in a thread, while more is written.

    So the disk works while the processor does, and the sync at the end waits for little.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = 0  # bytes
        self._flush: Future[None] | None = None

    def __enter__(self) -> "_Flushing":
        self._thread = ThreadPoolExecutor(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None and self._flush:
            self._flush.result()  # the system tells of an error once, not at the end again

    def wrote(self, num_bytes: int) -> None:
        """Count what was written; have it flushed if that is worth it."""
        self._waiting += num_bytes
        if self._waiting >= FLUSH_BYTES and (self._flush is None or self._flush.done()):
            if self._flush:
                self._flush.result()
            self._waiting = 0
            self._flush = self._thread.submit(os.fdatasync, self._descriptor)


class _OpenSources:
    """Descriptors of the local files that ranges are copied from.

    A file that comes again soon is opened once. Few are open together: thousands of small
    files may become one, and a process is allowed 1024 by default.
    """

    def __init__(self) -> None:
        # by storage and path, since a place is costly to name; the first opened comes first
        self._descriptors: dict[tuple[int, str], int] = {}

    def __enter__(self) -> "_OpenSources":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def descriptor(self, part: ByteRange) -> int:
        known = id(part.storage), part.path
        if known not in self._descriptors:
            if len(self._descriptors) == MOST_OPEN:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            place = cast(Path, part.storage.local_path(part.path))
            with _translated(place):
                self._descriptors[known] = os.open(place, os.O_RDONLY)
        return self._descriptors[known]


def _way_of_copying(part: Part) -> str:
    """Tell how a part is copied best; bytes go along with short ranges."""
    if isinstance(part, bytes):
        return "short"
    if not isinstance(part.storage, LocalStorage):
        return "elsewhere"
    return "long" if part.stop - part.start >= LONG_RANGE else "short"


def _all_remote(parts: Iterable[Part]) -> bool:
    """Tell whether no part is a range of a local file."""
    of = {id(part.storage): part for part in parts if isinstance(part, ByteRange)}
    return all(part.storage.local_path(part.path) is None for part in of.values())


def _read_group(group: list[Part], sources: _OpenSources) -> Sequence[Buffer]:
    whole = span(group)
    if whole is None:
        return cast(list[bytes], group)
    data = os.pread(sources.descriptor(whole), part_size(whole), whole.start)
    return filled(group, data)


def _send(part: ByteRange, source: int, target: int) -> None:
    position = part.start
    while position < part.stop:
        sent = os.sendfile(target, source, position, part.stop - position)
        if sent == 0:
            raise past_the_end(part, found_size=position)
        position += sent


class _Walk:
    """One way through a folder and those below it, links followed."""

    def __init__(self, suffix: Suffix, within: Path | None = None) -> None:
        self.files: list[StoredFile] = []
        self.unusable: list[Unusable] = []
        self._within = within  # no link may lead out of it
        self._suffix = suffix
        self._folders: list[tuple[str, str, frozenset[tuple[int, int]]]] = []

    def run(self, top: str, prefix: str) -> None:
        """List all; only what goes wrong with the folder at the top is raised."""
        with suppress(FileNotFoundError):
            self._list(top, prefix, frozenset())
        while self._folders:
            folder, path, above = self._folders.pop()
            with self._costing_itself(path):
                self._list(folder, f"{path}/", above)

    def _list(self, folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        """List one folder, which is in those that are named by device and inode."""
        about = Path(folder).stat()
        inside = above | {(about.st_dev, about.st_ino)}
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with self._costing_itself(f"{prefix}{entry.name}"):
                        self._take(entry, f"{prefix}{entry.name}", inside)

    @contextmanager
    def _costing_itself(self, path: str) -> Iterator[None]:
        """Note what is wrong with one entry, so that the others are listed all the same."""
        try:
            yield
        except FileNotFoundError:
            pass  # it was deleted meanwhile
        except OSError as error:
            if error.errno not in _ENTRY_ERRORS:
                raise
            self._refuse(path, error.strerror or str(error))

    def _take(
        self, entry: os.DirEntry[str], path: str, inside: frozenset[tuple[int, int]]
    ) -> None:
        """Note a file, or a folder to be listed, or else what it is if it may be missed."""
        is_wanted = entry.name.endswith(self._suffix)
        if self._within and entry.is_symlink() and _leads_out(entry.path, self._within):
            self._refuse(path, LEADS_OUT)
        elif entry.is_dir():
            about = entry.stat()
            if (about.st_dev, about.st_ino) in inside:
                self._refuse(path, "a link to a folder that it is in")
            else:
                self._folders.append((entry.path, path, inside))
        elif entry.is_file():
            if is_wanted:
                self.files.append(_stored(path, entry.stat()))
        elif entry.is_symlink() and not Path(entry.path).exists():
            target = shown_name(str(Path(entry.path).readlink()))
            self._refuse(path, f"a link to {target}, which is not there")
        elif is_wanted:
            self._refuse(path, "neither a file nor a folder")

    def _refuse(self, path: str, reason: str) -> None:
        self.unusable.append(Unusable(shown_name(path), reason))


def _leads_out(path: str | Path, folder: Path) -> bool:
    """Tell whether a path is, behind its links, outside a folder."""
    return not Path(path).resolve().is_relative_to(folder.resolve())


_ENTRY_ERRORS = _SETTING_ERRORS | {errno.ELOOP}
"""Errors that one entry of a folder has, and others need not."""


@contextmanager
def _unnamed(place: Path, give_name: Callable[[Path], object]) -> Iterator[BinaryIO]:
    """Open a file that gets its name when the block ends without an error.

    Args:
        place: What it is to be called.
        give_name: Gives that name to the whole file, which is on the disk.
    """
    unfinished = _unfinished(place)
    _make_folder(place.parent)
    try:
        with open(unfinished, "xb", buffering=WRITE_BLOCK) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        give_name(unfinished)
        _sync_folder(place.parent)
    finally:
        unfinished.unlink(missing_ok=True)


_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part")
"""Names of files that have not their own yet."""


def _unfinished(place: Path) -> Path:
    """Name a hidden sibling; the file's own name in it would make some names too long."""
    return place.with_name(f".{uuid.uuid4().hex}.part")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before what is in it."""
    if not folder.is_dir():
        if folder != folder.parent:
            _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _stored(path: str, stat: os.stat_result) -> StoredFile:
    changed = stat.st_mtime_ns
    return StoredFile(path, stat.st_size, str(changed), changed)


@contextmanager
def _translated(place: Path) -> Iterator[None]:
    """Raise this package's errors for the operating system's errors about ``place``."""
    try:
        yield
    except CurationError:
        raise
    except OSError as error:
        if not _is_about(place, error.filename):
            raise
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"{place}: there is no such file") from error
        message = f"{place}: {error.strerror or error}"
        if error.errno == errno.ENAMETOOLONG:
            raise PathError(f"{message}; give it a shorter name") from error
        if error.errno in _SETTING_ERRORS:
            raise InputError(
                f"{message}; choose another folder or change its permissions"
            ) from error
        raise StorageError(f"{message}; try again when it is mended") from error


def _is_about(place: Path, filename: str | None) -> bool:
    # Errors of writing name no file; those of opening name the file, its unfinished
    # sibling, or a folder above. Any other name is the business of whoever opened it.
    if filename is None:
        return True
    named = Path(filename)
    return named.parent == place.parent or named in place.parents

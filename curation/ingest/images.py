"""Image files become raw shards: a folder with captions beside the images, or a list.

First everything is looked at and the plan is written, then the shards: what was interrupted
goes on where it was, and what is there is not made twice. Images are copied byte for byte;
the samples' extensions say what the bytes are, whatever the file was called.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from curation.errors import InputError, NotFoundError
from curation.fingerprint import fingerprint
from curation.ingest.image_kinds import HEAD_BYTES, explain_no_image, image_extension
from curation.ingest.sample_lists import CAPTION, metadata_json, read_list, shown_name
from curation.ingest.shard_layout import (
    NewSample,
    ShardLayout,
    write_shard,
)
from curation.storage import ByteRange, Part, Storage, StoredFile
from curation.storage.base import run_ahead
from curation.tables import IMPORTED_IMAGES, read_about, write_table

VERSION = 1  # of what the same files become
PLAN_NAME = "import.parquet"
GROUP = 16  # files that one thread looks at; a thread of its own for each costs more
GROUPS_AHEAD = 16  # hides the latency of S3, to which each look is a request or two

Item = TypeVar("Item")

OnShard = Callable[[str, int], object]
"""Is told each shard that is there, and how many samples it has."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, or a row of a list, that was looked at."""

    path: str
    """Under the source, as it is called there."""
    file: StoredFile | None = None
    """None if there is none."""
    extension: str | None = None
    """What its bytes are; None for what is no image."""
    problem: str | None = None
    """Why it is not imported; None if it is."""
    caption: StoredFile | bytes | None = None
    """What becomes the sample's ``.txt``."""
    metadata: StoredFile | bytes | None = None
    """What becomes the sample's ``.json``."""


@dataclass(frozen=True)
class ImageImport:
    """What is to be imported, and how it is laid out."""

    source: Storage
    layout: ShardLayout
    found: Sequence[FoundFile] = field(repr=False)
    """Images, in the order of their samples."""
    refused: Sequence[FoundFile] = field(repr=False)
    """What is no image, each with its problem."""

    @property
    def num_samples(self) -> int:
        """Count the images."""
        return len(self.found)

    @property
    def num_bytes(self) -> int:
        """Count the images' bytes."""
        return sum(found.file.size for found in self.found if found.file)

    @property
    def shards(self) -> list[str]:
        """Name the shards, in order."""
        count = self.layout.num_shards(self.num_samples)
        return [self.layout.shard(number) for number in range(count)]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Give the path of everything that is not imported, and why it isn't."""
        return [(shown_name(one.path), one.problem or "") for one in self.refused]

    def fingerprint(self) -> str:
        """Hash what the shards are made of."""
        files = [
            [one.path, *map(_identity, (one.file, one.caption, one.metadata))]
            for one in self.found
        ]
        return fingerprint("import images", VERSION, self.layout.samples_per_shard, files)

    def table(self) -> pa.Table:
        """Give what goes where, as an ``IMPORTED_IMAGES`` table."""
        rows = [self._row(number, one) for number, one in enumerate(self.found)]
        rows += [{"path": path, "problem": problem} for path, problem in self.problems]
        return pa.Table.from_pylist(rows, pa.schema(IMPORTED_IMAGES.columns))

    def samples(self, shard: int) -> Iterator[NewSample]:
        """Give the samples of a shard."""
        for number in self.layout.rows(shard, self.num_samples):
            one = self.found[number]
            assert one.file is not None and one.extension is not None
            components = [
                (one.extension, self._part(one.file)),
                ("txt", self._part(one.caption)),
                ("json", self._part(one.metadata)),
            ]
            yield NewSample(
                self.layout.key(number),
                tuple((name, part) for name, part in components if part is not None),
            )

    def _part(self, content: StoredFile | bytes | None) -> Part | None:
        if isinstance(content, StoredFile):
            return ByteRange(self.source, content.path, 0, content.size)
        return content

    def _row(self, number: int, one: FoundFile) -> dict[str, Any]:
        return {
            "path": shown_name(one.path),
            "shard": self.layout.shard(number // self.layout.samples_per_shard),
            "key": self.layout.key(number),
            "bytes": one.file.size if one.file else None,
            "caption_path": _shown_path(one.caption),
            "metadata_path": _shown_path(one.metadata),
        }


def find_images(source: Storage, layout: ShardLayout | None = None) -> ImageImport:
    """Look through a folder, sub-folders too: images, sorted by path, and what is none.

    ``a.txt`` and ``a.jpg.txt`` hold the caption of ``a.jpg``, ``a.json`` and
    ``a.jpg.json`` its metadata; the longer name counts where both are there. An image
    without a ``.json`` gets one with its path. Files are images by their first bytes, not
    by their names. Hidden files are not looked at.

    Args:
        source: The folder.
        layout: How many samples make a shard.

    Raises:
        InputError: There is no image, or there are too many for so small shards.
    """
    listed = source.list_files()
    side_files = [file for file in listed if _is_side(file.path)]
    sides = {_side_name(file.path): file for file in side_files}
    candidates = [file for file in listed if not _is_side(file.path)]
    found = []
    used: set[str] = set()
    for one in _in_groups(partial(_identified, source), candidates):
        if one.problem is None:
            caption, metadata = (_beside(one.path, kind, sides) for kind in ("txt", "json"))
            used |= {side.path for side in (caption, metadata) if side}
            own = metadata_json({"path": shown_name(one.path)}).encode()
            one = FoundFile(
                one.path, one.file, one.extension, None, caption, metadata or own
            )
        found.append(one)
    found += [
        FoundFile(file.path, file, problem="belongs to no image that is imported")
        for file in side_files
        if file.path not in used
    ]
    return _import(source, layout, found, f"{source.url} and the folders below it")


def find_listed_images(
    lists: Storage, path: str, source: Storage, layout: ShardLayout | None = None
) -> ImageImport:
    """Look up the images that a list names, in its order; every row is a sample.

    The list is CSV or Parquet. Its column ``path`` is relative to ``source``, or begins
    with that. ``caption`` becomes the sample's ``.txt`` unless it is empty or null, and
    ``path`` with all other columns its ``.json``.

    Args:
        lists: Where the list is.
        path: Of the list.
        source: The folder that its paths start from.
        layout: How many samples make a shard.

    Raises:
        NotFoundError: There is no such list.
        InputError: It can't be read, or names no image.
    """
    rows = read_list(lists, path, "path").to_pylist()
    found = list(_in_groups(partial(_looked_up, source), rows))
    return _import(source, layout, found, f"{lists.url}/{path}")


def write_images(
    images: ImageImport, output: Storage, on_shard: OnShard | None = None
) -> int:
    """Write the plan, ``import.parquet``, and all shards that are not there yet.

    Args:
        images: What :func:`find_images` or :func:`find_listed_images` gave.
        output: An empty folder, or that of this import, interrupted or done.
        on_shard: Told as each shard is there.

    Returns:
        How many shards were written.

    Raises:
        InputError: The folder has tars that are not of this import. Nothing is written.
    """
    tars = {file.path for file in output.list_files(suffix=".tar")}
    made_from = images.fingerprint()
    if not _is_planned(output, made_from):
        _check_empty(output, tars)
    write_table(output, PLAN_NAME, IMPORTED_IMAGES, images.table(), fingerprint=made_from)
    written = 0
    for number, shard in enumerate(images.shards):
        path = f"{shard}.tar"
        if path not in tars:
            write_shard(output, path, images.samples(number))
            written += 1
        if on_shard:
            on_shard(shard, len(images.layout.rows(number, images.num_samples)))
    return written


def _in_groups(
    look: Callable[[Item], FoundFile], items: Sequence[Item]
) -> Iterator[FoundFile]:
    """Look at items in order, while some of the next ones are looked at in threads."""

    def looked_at(start: int) -> list[FoundFile]:
        return [look(item) for item in items[start : start + GROUP]]

    starts = range(0, len(items), GROUP)
    for group in run_ahead((partial(looked_at, start) for start in starts), GROUPS_AHEAD):
        yield from group


def _import(
    source: Storage, layout: ShardLayout | None, found: Sequence[FoundFile], where: str
) -> ImageImport:
    images = [one for one in found if one.problem is None]
    refused = [one for one in found if one.problem is not None]
    if not images:
        message = f"{where}: there is no image to import; {len(refused)} file(s) are none"
        for one in refused[:1]:
            message += f", such as {shown_name(one.path)}: {one.problem}"
        raise InputError(message)
    made = ImageImport(source, layout or ShardLayout(), images, refused)
    made.layout.num_shards(made.num_samples)
    return made


def _identified(source: Storage, file: StoredFile) -> FoundFile:
    """Tell by its first bytes what a file is."""
    try:
        head = source.read(file.path, 0, HEAD_BYTES)
    except (InputError, NotFoundError) as error:  # of storage that fails, all would
        return FoundFile(file.path, file, problem=shown_name(str(error)))
    extension = image_extension(head)
    problem = None if extension else explain_no_image(head)
    return FoundFile(file.path, file, extension, problem)


def _looked_up(source: Storage, row: Mapping[str, Any]) -> FoundFile:
    """Look up the image of a list's row."""
    if not row["path"]:
        return FoundFile("", problem="the row has no path")
    path = row["path"].removeprefix(f"{source.url.rstrip('/')}/")
    try:
        file = source.stat(path)
    except (InputError, NotFoundError) as error:
        return FoundFile(path, problem=shown_name(str(error)))
    one = _identified(source, file)
    caption = row[CAPTION].encode() if row[CAPTION] else None
    metadata = metadata_json({n: v for n, v in row.items() if n != CAPTION}).encode()
    return FoundFile(path, file, one.extension, one.problem, caption, metadata)


def _is_side(path: str) -> bool:
    return path.lower().endswith((".txt", ".json"))


def _side_name(path: str) -> str:
    stem, _, extension = path.rpartition(".")
    return f"{stem}.{extension.lower()}"


def _beside(path: str, kind: str, sides: Mapping[str, StoredFile]) -> StoredFile | None:
    """Find an image's side file, by its whole name or by that without the extension."""
    return sides.get(f"{path}.{kind}") or sides.get(
        str(PurePosixPath(path).with_suffix(f".{kind}"))
    )


def _identity(content: StoredFile | bytes | None) -> list[Any] | str | None:
    if isinstance(content, StoredFile):
        return [content.path, content.size, content.version]
    return content.decode() if content is not None else None


def _shown_path(content: StoredFile | bytes | None) -> str | None:
    return shown_name(content.path) if isinstance(content, StoredFile) else None


def _is_planned(output: Storage, made_from: str) -> bool:
    return (
        output.exists(PLAN_NAME)
        and read_about(output, PLAN_NAME).get("fingerprint") == made_from
    )


def _check_empty(output: Storage, tars: set[str]) -> None:
    if tars:
        raise InputError(
            f"{output.url}: {min(tars)} is not of this import: the images changed since, "
            "or it is of another one; choose an empty folder, or delete what is there"
        )

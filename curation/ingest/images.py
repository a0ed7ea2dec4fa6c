"""Image files become raw shards: a folder with captions beside the images, or a list.

First everything is looked at and the plan is written, then the shards: what was interrupted
goes on where it was, and what is there is not made twice. Images are copied byte for byte;
the samples' extensions say what the bytes are, whatever the file was called.

Images may change after they were imported. What is there keeps its place then, what is new
comes after it, and what is gone leaves a hole: no shard is rewritten but those concerned.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from curation.errors import InputError, NotFoundError, shortened
from curation.fingerprint import fingerprint
from curation.image_kinds import HEAD_BYTES, explain_no_image, image_extension
from curation.ingest.sample_lists import CAPTION, metadata_json, read_list
from curation.ingest.shard_layout import (
    NewSample,
    ShardLayout,
    write_shard,
)
from curation.storage import ByteRange, LocalStorage, Part, Storage, StoredFile
from curation.storage.base import run_ahead, shown_name
from curation.tables import IMPORTED_IMAGES, read_about, read_table, write_table

VERSION = 1  # of what the same files become
PLAN_NAME = "import.parquet"
GROUP = 16  # files that one thread looks at; a thread of its own for each costs more
GROUPS_AHEAD = 16  # hides the latency of S3, to which each look is a request or two

Item = TypeVar("Item")

OnShard = Callable[[str, int], object]
"""Is told each shard that is there, and how many samples it has."""


FORBIDDEN = "there is no permission to read it; its image is imported without it"


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

    @property
    def identity(self) -> list[Any]:
        """What the sample is made of."""
        return [self.path, *map(_identity, (self.file, self.caption, self.metadata))]


@dataclass(frozen=True)
class ImageImport:
    """What is to be imported, and how it is laid out."""

    source: Storage
    layout: ShardLayout
    found: Sequence[FoundFile | None] = field(repr=False)
    """Images by the numbers of their samples; None where one is gone."""
    refused: Sequence[FoundFile] = field(repr=False)
    """What is no image, each with its problem."""

    @property
    def num_samples(self) -> int:
        """Count the images."""
        return sum(one is not None for one in self.found)

    @property
    def num_bytes(self) -> int:
        """Count the images' bytes."""
        return sum(one.file.size for one in self.found if one and one.file)

    @property
    def shards(self) -> list[str]:
        """Name the shards, in order."""
        numbers = range(self.layout.num_shards(len(self.found)))
        return [self.layout.shard(number) for number in numbers if any(self.of(number))]

    def of(self, shard: int) -> Sequence[FoundFile | None]:
        """Give the images of a shard."""
        numbers = self.layout.rows(shard, len(self.found))
        return self.found[numbers.start : numbers.stop]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Give the path of everything that is not imported, and why it isn't."""
        return [
            (shown_name(one.path), shortened(one.problem or "")) for one in self.refused
        ]

    def fingerprint(self) -> str:
        """Hash what the shards are made of."""
        size, files = self.layout.samples_per_shard, _identities(self.found)
        return fingerprint("import images", VERSION, size, files)

    def shard_fingerprints(self) -> dict[str, str]:
        """Hash what each shard is made of."""
        size, number = self.layout.samples_per_shard, self.layout.number
        files = {shard: _identities(self.of(number(shard))) for shard in self.shards}
        return {shard: fingerprint(VERSION, size, own)[:16] for shard, own in files.items()}

    def table(self) -> pa.Table:
        """Give what goes where, as an ``IMPORTED_IMAGES`` table."""
        rows = [self._row(number, one) for number, one in enumerate(self.found) if one]
        rows += [{"path": path, "problem": problem} for path, problem in self.problems]
        return pa.Table.from_pylist(rows, pa.schema(IMPORTED_IMAGES.columns))

    def samples(self, shard: int) -> Iterator[NewSample]:
        """Give the samples of a shard."""
        for number in self.layout.rows(shard, len(self.found)):
            one = self.found[number]
            if one is None:
                continue
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
            return ByteRange(self.source, content.path, 0, content.size, content)
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


def find_images(
    source: Storage, layout: ShardLayout | None = None, *, follow_links: bool = False
) -> ImageImport:
    """Look through a folder, sub-folders too: images, sorted by path, and what is none.

    ``a.txt`` and ``a.jpg.txt`` hold the caption of ``a.jpg``, ``a.json`` and
    ``a.jpg.json`` its metadata; the longer name counts where both are there. An image
    without a ``.json`` gets one with its path. Files are images by their first bytes, not
    by their names. Hidden files are not looked at.

    Args:
        source: The folder.
        layout: How many samples make a shard.
        follow_links: Also take what links lead to that lead out of the folder.

    Raises:
        InputError: There is no image, or there are too many for so small shards.
    """
    source = source if follow_links else _confined(source)
    survey = source.survey()
    listed = survey.files
    side_files = [file for file in listed if _is_side(file.path)]
    forbidden = {file.path for file in side_files if not _may_be_read(source, file)}
    side_files = [file for file in side_files if file.path not in forbidden]
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
    found += [FoundFile(entry.path, problem=entry.reason) for entry in survey.unusable]
    found += [FoundFile(path, problem=FORBIDDEN) for path in sorted(forbidden)]
    found += [
        FoundFile(file.path, file, problem="belongs to no image that is imported")
        for file in side_files
        if file.path not in used
    ]
    return _import(source, layout, found, f"{source.url} and the folders below it")


def find_listed_images(
    lists: Storage,
    path: str,
    source: Storage,
    layout: ShardLayout | None = None,
    *,
    follow_links: bool = False,
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
        follow_links: As for :func:`find_images`.

    Raises:
        NotFoundError: There is no such list.
        InputError: It can't be read, or names no image.
    """
    source = source if follow_links else _confined(source)
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
    before = _about_plan(output)
    if tars and before.get("fingerprint") != images.fingerprint():
        raise InputError(
            f"{output.url}: {min(tars)} is not of this import: the images changed since, "
            "or it is of another one; choose an empty folder, or delete what is there"
        )
    return _write(images, output, before, on_shard)


def update_images(
    images: ImageImport, output: Storage, on_shard: OnShard | None = None
) -> tuple[ImageImport, int]:
    """Bring shards up to date with images that may have changed since.

    An image that was imported before keeps its shard and its key. New ones come after
    all those; of one that is gone the sample goes. A shard of which nothing changed is
    left alone. With another size of shards all of this begins anew.

    Args:
        images: What :func:`find_images` or :func:`find_listed_images` gave.
        output: An empty folder, or that of an earlier import.
        on_shard: Told as each shard is there.

    Returns:
        The images as they are laid out now, and how many shards were written.

    Raises:
        InputError: The folder has tars that no import made. Nothing is written.
    """
    before = _about_plan(output)
    made: Mapping[str, str] = before.get("shards", {})
    tars = [file.path for file in output.list_files(suffix=".tar")]
    for path in tars:
        if path.removesuffix(".tar") not in made:
            raise InputError(
                f"{output.url}: {path} is not of this import; move it elsewhere, or "
                "choose an empty folder"
            )
    if before.get("samples_per_shard") == images.layout.samples_per_shard:
        plan = read_table(output, PLAN_NAME, IMPORTED_IMAGES, ["path", "key"])
        images = _in_their_places(images, plan)
    wanted = set(images.shards)
    for path in tars:
        if path.removesuffix(".tar") not in wanted:
            output.delete(path)
    return images, _write(images, output, before, on_shard)


def _in_their_places(images: ImageImport, before: pa.Table) -> ImageImport:
    """Give the images that a plan has the numbers that they have there."""
    numbers: dict[str, deque[int]] = defaultdict(deque)  # a list may name a file twice
    for row in before.filter(before["key"].is_valid()).to_pylist():
        numbers[row["path"]].append(images.layout.sample(row["key"]))
    end = 1 + max((number for each in numbers.values() for number in each), default=-1)
    found: list[FoundFile | None] = [None] * end
    for one in images.found:
        if one and (own := numbers[shown_name(one.path)]):
            found[own.popleft()] = one
        else:
            found.append(one)
    while found[-1] is None:
        found.pop()
    return replace(images, found=found)


def _write(
    images: ImageImport,
    output: Storage,
    before: Mapping[str, Any],
    on_shard: OnShard | None,
) -> int:
    """Write the plan, and the shards that are not there or were of another plan.

    Those are named in the plan until they are written: what is interrupted is known.
    """
    now, made = images.shard_fingerprints(), before.get("shards", {})
    tars = {file.path for file in output.list_files(suffix=".tar")}
    changed = {shard for shard in now if made.get(shard) != now[shard]}
    there = {shard for shard in now if f"{shard}.tar" in tars}
    outdated = there & {*changed, *before.get("outdated", ())}

    def write_plan(outdated: Collection[str]) -> None:
        write_table(
            output,
            PLAN_NAME,
            IMPORTED_IMAGES,
            images.table(),
            fingerprint=images.fingerprint(),
            samples_per_shard=images.layout.samples_per_shard,
            shards=now,
            outdated=sorted(outdated),
        )

    write_plan(outdated)
    written = 0
    for shard in now:
        number = images.layout.number(shard)
        if shard not in there or shard in outdated:
            write_shard(output, f"{shard}.tar", images.samples(number))
            written += 1
        if on_shard:
            on_shard(shard, sum(one is not None for one in images.of(number)))
    if outdated:
        write_plan(())
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
    made.layout.num_shards(len(made.found))
    return made


def _confined(source: Storage) -> Storage:
    """Give a folder of which no link leads out; on servers there are none."""
    if isinstance(source, LocalStorage):
        return replace(source, follows_links=False)
    return source


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


def _may_be_read(source: Storage, file: StoredFile) -> bool:
    """Tell beforehand: a caption that can't be read would end the writing of its shard."""
    place = source.local_path(file.path)
    as_it_runs = os.access in os.supports_effective_ids
    return place is None or os.access(place, os.R_OK, effective_ids=as_it_runs)


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


def _identities(found: Sequence[FoundFile | None]) -> list[Any]:
    return [one.identity if one else None for one in found]


def _identity(content: StoredFile | bytes | None) -> list[Any] | str | None:
    if isinstance(content, StoredFile):
        return [content.path, content.size, content.version]
    return content.decode() if content is not None else None


def _shown_path(content: StoredFile | bytes | None) -> str | None:
    return shown_name(content.path) if isinstance(content, StoredFile) else None


def _about_plan(output: Storage) -> Mapping[str, Any]:
    """Read what the plan that is there says of itself; nothing if there is none."""
    return read_about(output, PLAN_NAME) if output.exists(PLAN_NAME) else {}

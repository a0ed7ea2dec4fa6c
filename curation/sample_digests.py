"""Are the bytes of a tar's samples those that are on record?

On record is the ``sha256`` of each image, since it was embedded, and of the other files of
a kept sample a CRC-32, since they were copied into a filtered shard: against damage, not
against forgery. Captions and metadata that are copied are compared with their text on
record. A sample's files have no other protection in a tar, whose checksums are of headers
alone.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from curation.errors import SampleError
from curation.index import ShardIndex
from curation.recipe import TextSettings
from curation.samples import PassingSamples, Sample, find_component, read_samples
from curation.storage.base import Buffer, Storage
from curation.texts import decode_text

COMPONENT_CRC32 = "component_crc32"
"""Column of filtered shards: lists of uint32, a number for each component in the order of
the tar, null for those that are protected otherwise or are too large to be read."""
ON_RECORD = ("key", "image_extension", "sha256", "caption", "metadata")
"""Columns of an embeddings table that samples are compared with."""

HASH_BLOCK = 1 << 20  # bytes; few enough to be in the processor's cache for the second hash


Crcs = list[list[int | None] | None]
"""For each sample the CRC-32 of each component, as far as they are on record."""


class Recorded(NamedTuple):
    """What is on record of one component in a tar."""

    start: int
    """First byte of its data."""
    size: int
    key: str
    """Of its sample."""
    extension: str
    sha256: str | None
    crc32: int | None


@dataclass(frozen=True)
class Changed:
    """A component whose bytes are not those that are on record."""

    key: str
    """Of its sample."""
    extension: str
    found: str
    """What it is instead: ``sha256 … is on record, found …``."""


@dataclass(frozen=True)
class TarDigest:
    """What reading a whole tar came to."""

    num_bytes: int
    sha256: str
    changed: tuple[Changed, ...]


def recorded_components(index: ShardIndex, table: pa.Table, crcs: Crcs) -> list[Recorded]:
    """Give what is on record of a tar's components, by where they lie.

    Args:
        index: Of the tar.
        table: A row for each of its samples, in their order; what it lacks of
            ``image_extension`` and ``sha256`` is on record of none.
        crcs: For each sample the CRC-32 of each component; None where there are none.
    """
    there = {"image_extension", "sha256"} <= {*table.column_names}
    nothing: list[str | None] = [None] * len(index)
    images = table["image_extension"].to_pylist() if there else nothing
    hashes = table["sha256"].to_pylist() if there else nothing
    rows, keys = index.components, index.keys
    names = ("sample", "extension", "data_start", "size")
    found, last, place = [], -1, 0
    for sample, extension, start, size in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        place = place + 1 if sample == last else 0
        last = sample
        sha256 = hashes[sample] if extension == images[sample] else None
        crc = crcs[sample]
        crc32 = crc[place] if crc and sha256 is None else None
        if sha256 is not None or crc32 is not None:
            found.append(Recorded(start, size, keys[sample], extension, sha256, crc32))
    return sorted(found)


def part_crcs(table: pa.Table) -> tuple[pa.Table, Crcs]:
    """Take the column ``component_crc32`` out of a table, if it has one."""
    if COMPONENT_CRC32 not in table.column_names:
        return table, [None] * len(table)
    crcs: Crcs = table[COMPONENT_CRC32].to_pylist()
    return table.drop_columns([COMPONENT_CRC32]), crcs


def read_tar_digest(
    storage: Storage, path: str, recorded: Sequence[Recorded] = ()
) -> TarDigest:
    """Read a tar once, for its own sha256 and those of what is on record.

    Args:
        storage: Where it is.
        path: Its path there; any file will do if nothing is on record.
        recorded: What to compare, by place.

    Raises:
        NotFoundError: There is no such file.
    """
    whole, num_bytes = hashlib.sha256(), 0
    changed: list[Changed] = []
    waiting = iter(recorded)
    part = next(waiting, None)
    digest = _digest_of(part)
    with storage.open_reader(path) as file:
        while block := file.read(HASH_BLOCK):
            whole.update(block)
            view, start = memoryview(block), num_bytes
            num_bytes += len(block)
            while part is not None and part.start < num_bytes:
                stop = part.start + part.size
                digest.update(view[max(part.start - start, 0) : stop - start])
                if stop > num_bytes:
                    break
                changed += _compared(part, digest.hexdigest())
                part = next(waiting, None)
                digest = _digest_of(part)
    if part is not None:
        changed.append(Changed(part.key, part.extension, "the tar ends before it does"))
    return TarDigest(num_bytes, whole.hexdigest(), tuple(changed))


class _Digest(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Crc32:
    """CRC-32, used as ``hashlib``'s digests are."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _digest_of(part: Recorded | None) -> _Digest:
    return hashlib.sha256() if part and part.sha256 is not None else _Crc32()


def _compared(part: Recorded, found: str) -> Iterator[Changed]:
    kind = "CRC-32" if part.sha256 is None else "sha256"
    expected = f"{part.crc32:08x}" if part.sha256 is None else part.sha256
    if found != expected:
        text = f"{kind} {expected} is on record, found {found}"
        yield Changed(part.key, part.extension, text)


class Comparison:
    """Samples of a tar, compared with what was recorded when they were embedded.

    Args:
        texts: Say which components became the caption and the metadata.
    """

    def __init__(self, texts: TextSettings) -> None:
        self.changed: list[Changed] = []
        """What is not as recorded."""
        self._texts = texts
        self._crcs: list[list[int | None]] = []

    @property
    def crcs(self) -> pa.Array:
        """The column ``component_crc32``, of the samples that were compared so far."""
        return pa.array(self._crcs, pa.list_(pa.uint32()))

    def compare(self, sample: Sample, row: Mapping[str, Any]) -> None:
        """Compare the next sample with its row of the columns ``ON_RECORD``."""
        image, expected = row["image_extension"], row["sha256"]
        if expected is not None and (data := sample.contents.get(image)) is not None:
            found = hashlib.sha256(data).hexdigest()
            if found != expected:
                text = f"sha256 {expected} is on record, found {found}"
                self.changed.append(Changed(sample.key, image, text))
        for column, wanted in (
            ("caption", self._texts.caption_extensions),
            ("metadata", self._texts.metadata_extensions),
        ):
            part = find_component(sample.components, wanted)
            data = sample.contents.get(part.extension) if part else None
            if part and data is not None and row[column] not in _readings(data):
                text = f"its text is not the {column} on record"
                self.changed.append(Changed(sample.key, part.extension, text))
        protected = None if expected is None else image
        self._crcs.append(
            [
                zlib.crc32(sample.contents[part.extension])
                if part.extension in sample.contents and part.extension != protected
                else None
                for part in sample.components
            ]
        )


def compare_samples(
    storage: Storage, path: str, index: ShardIndex, table: pa.Table, texts: TextSettings
) -> Comparison:
    """Read samples, and compare them with what was recorded when they were embedded.

    Args:
        storage: Where the tar is.
        path: Its path there.
        index: Of the tar, or of some of its samples.
        table: With the columns ``ON_RECORD``, a row for each sample, in their order.
        texts: As for :class:`Comparison`.

    Raises:
        NotFoundError: The tar is gone.
        StaleError: It is another one than was indexed.
    """
    comparison = Comparison(texts)
    extensions = index.components["extension"].unique().to_pylist()
    samples = read_samples(storage, path, index, extensions)
    for sample, row in zip(samples, table.to_pylist(), strict=True):
        comparison.compare(sample, row)
    return comparison


def comparing(
    comparison: Comparison, index: ShardIndex, table: pa.Table
) -> Callable[[Buffer], None]:
    """Give what compares samples as the bytes of their tar go by, block after block.

    Args:
        comparison: What is added to.
        index: Of the tar.
        table: As for :func:`compare_samples`.
    """
    passing, rows = PassingSamples(index), iter(table.to_pylist())

    def see(block: Buffer) -> None:
        for sample in passing.see(block):
            comparison.compare(sample, next(rows))

    return see


def _readings(data: bytes) -> Iterable[str | None]:
    """Give all texts that tables have of some bytes; 0.1.0 read all of them as UTF-8."""
    return decode_text(data), data.decode("utf-8", errors="replace"), None


def damaged(where: str, changed: Sequence[Changed], shard: str, mend: str) -> SampleError:
    """Say that samples are not as recorded.

    Args:
        where: The tar, as a person would write it.
        changed: What is not, at least one.
        shard: For whoever catches it.
        mend: What to do.
    """
    first = changed[0]
    more = f", and {len(changed) - 1} more file(s) of samples" if changed[1:] else ""
    return SampleError(
        f"{where}: the {first.extension} of sample {first.key!r} is damaged{more}: "
        f"{first.found}. {mend}",
        shard=shard,
        key=first.key,
    )

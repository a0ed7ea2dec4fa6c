"""Which sample goes into which shard under which key, and the bytes of a new shard.

Keys are numbers: five digits of the shard, then as many of the row in it as the size of a
shard needs. That is img2dataset's rule, so everything that reads its shards reads these,
and whatever a file or a URL is called, two samples never share a key, and no key has a
dot, a slash or a line break in it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from curation.errors import InputError
from curation.reshard import END_OF_ARCHIVE
from curation.storage import Part, Storage
from curation.storage.base import part_size
from curation.tar_header import format_header, padded

SHARD_DIGITS = 5
MOST_SHARDS = 10**SHARD_DIGITS
"""As many as five digits name; also what Dagster advises as the most partitions."""

SAMPLES_PER_SHARD = 1000


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """The numbers of samples, as shards and keys.

    Raises:
        InputError: A shard is to hold no samples.
    """

    samples_per_shard: int = SAMPLES_PER_SHARD
    """Of every shard but the last."""

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise InputError(
                f"samples_per_shard={self.samples_per_shard}; expected at least 1"
            )

    def num_shards(self, num_samples: int) -> int:
        """Count the shards of so many samples.

        Raises:
            InputError: They are more than can be named.
        """
        count = -(-num_samples // self.samples_per_shard)
        if count > MOST_SHARDS:
            raise InputError(
                f"{num_samples:,} samples make {count:,} shards of "
                f"{self.samples_per_shard:,}; there can be {MOST_SHARDS:,}: choose a "
                "larger samples_per_shard"
            )
        return count

    def shard(self, number: int) -> str:
        """Name a shard."""
        return str(number).zfill(SHARD_DIGITS)

    def number(self, shard: str) -> int:
        """Give the number of a shard by its name."""
        return int(shard)

    def key(self, sample: int) -> str:
        """Name a sample by its number among all."""
        shard, row = divmod(sample, self.samples_per_shard)
        width = len(str(self.samples_per_shard - 1))
        return f"{self.shard(shard)}{row:0{width}d}"

    def sample(self, key: str) -> int:
        """Give the number of a sample among all by its key."""
        shard, row = key[:SHARD_DIGITS], key[SHARD_DIGITS:]
        return self.number(shard) * self.samples_per_shard + int(row)

    def rows(self, shard: int, num_samples: int) -> range:
        """Give the numbers of a shard's samples, of so many in all."""
        first = shard * self.samples_per_shard
        return range(first, min(first + self.samples_per_shard, num_samples))


@dataclass(frozen=True, slots=True)
class NewSample:
    """A sample that is to be written."""

    key: str
    components: tuple[tuple[str, Part], ...]
    """Extension and content of each file, in order."""


def write_shard(output: Storage, path: str, samples: Iterable[NewSample]) -> None:
    """Write a tar of samples; the same samples give the same bytes.

    Files that are elsewhere are copied as they are, by range.
    """
    output.write_parts(path, _parts(samples))


def _parts(samples: Iterable[NewSample]) -> Iterator[Part]:
    for sample in samples:
        for extension, content in sample.components:
            size = part_size(content)
            yield format_header(f"{sample.key}.{extension}", size)
            if size:
                yield content
            yield bytes(padded(size) - size)
    yield END_OF_ARCHIVE

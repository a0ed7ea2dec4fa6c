"""What is known of the vectors of all shards, on storage, so that new shards cost little.

Under one folder, for one encoder and one fit of centroids:

- ``centroids.parquet``: cells and their bins, and the settings of the state
- ``batches/<batch>.parquet``: shards that came together, with their ordinals
- ``rows/<bin>/<part>.parquet``: vectors with a cell in the bin, of some shards
- ``parts/<part>.parquet``: which shards those files are of; written after them
- ``pairs/<bin>/<n>.parquet``: similar pairs of some parts with each other and all before

Files are only ever added, and each is written whole, the one that vouches for others last:
a step that was interrupted is done again, and one that is done is skipped. A shard that was
replaced gets a new ordinal in a new batch; its old rows stay in the files and are left out
when deciding. What samples are preferred by, and from which similarity they are copies, is
not in the state: it can be decided again with others at no cost.

Belongs here: the layout, the settings, batches. The three steps are in ``assignment.py``,
``bins.py`` and ``incremental.py``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from curation.dedup.centroids import Centroids, read_centroids, write_centroids
from curation.dedup.comparison import Thresholds
from curation.errors import InputError, StaleError
from curation.fingerprint import fingerprint
from curation.storage.base import Storage
from curation.tables import BATCH, read_about, read_table, write_table

SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What all vectors of a state have in common, and how they are compared."""

    encoder: str
    """Fingerprint of the model that made the vectors; others are refused."""
    similarity_floor: float = 0.9
    """The lowest ``min_similarity`` that can be decided with; pairs down to it are kept.
    Lower costs storage."""
    leader_similarity: float = 0.98
    """From which a vector is not compared with further ones until deciding shows that it
    must be. Higher costs comparisons and spares some while deciding."""
    max_pairs: int = 64
    """Pairs kept per row and cell."""

    def __post_init__(self) -> None:
        if not 0 < self.similarity_floor <= self.leader_similarity <= 1:
            raise InputError(
                f"similarity_floor is {self.similarity_floor} and leader_similarity "
                f"{self.leader_similarity}; expected 0 < floor <= leader <= 1"
            )
        if self.max_pairs < 1:
            raise InputError(f"max_pairs is {self.max_pairs}; expected at least 1")

    @property
    def thresholds(self) -> Thresholds:
        """At which pairs are listed."""
        return Thresholds(self.similarity_floor, self.leader_similarity, self.max_pairs)


@dataclass(frozen=True, slots=True)
class Batch:
    """Shards that came together."""

    number: int
    shards: Mapping[int, tuple[str, str]]
    """Ordinal to name and fingerprint, in order."""


@dataclass(frozen=True, slots=True)
class Part:
    """Shards whose vectors were written together."""

    name: str
    """Of its files."""
    ordinals: tuple[int, ...]
    bins: frozenset[int]
    """Those that got any vector."""
    length_error: float
    """The most that a vector's length differs from 1."""
    unusable: Mapping[str, int]
    """How many vectors take part in no comparison, by reason."""


@dataclass(frozen=True)
class State:
    """A folder with all that is known, opened."""

    storage: Storage
    folder: str
    settings: StateSettings
    centroids: Centroids

    def path(self, *parts: str) -> str:
        """Give the path of a file of the state, without ``.parquet``."""
        return "/".join([self.folder, *parts]) + ".parquet"

    def rows_path(self, bin_: int, part: str) -> str:
        """Where a bin's vectors of some shards are."""
        return self.path("rows", f"{bin_:05d}", part)

    def part_path(self, part: str) -> str:
        """Where the record of some shards is."""
        return self.path("parts", part)

    def pairs_paths(self, bin_: int) -> list[str]:
        """Where the pairs that a bin has found are, in the order they were found."""
        return _paths(self, f"pairs/{bin_:05d}")

    def next_pairs_path(self, bin_: int) -> str:
        """Where the pairs that a bin finds next go."""
        return self.path("pairs", f"{bin_:05d}", f"{len(self.pairs_paths(bin_)):05d}")

    @cached_property
    def fingerprint(self) -> str:
        """The hash of everything that decides which pairs are found."""
        made_from = self.centroids.fingerprint, asdict(self.settings)
        return fingerprint("duplicate_state", *made_from)


def create_state(
    storage: Storage, folder: str, settings: StateSettings, centroids: Centroids
) -> State:
    """Begin a state in an empty folder; nothing is done if the same is there already.

    Raises:
        InputError: Another state is there.
    """
    state = State(storage, folder, settings, centroids)
    path = state.path("centroids")
    if storage.exists(path):
        there = open_state(storage, folder)
        if there.fingerprint != state.fingerprint:
            raise InputError(
                f"{storage.url}/{folder}: another state of duplicates is there, of other "
                "settings or centroids; choose another folder, or delete that one"
            )
        return there
    write_centroids(storage, path, centroids, **{SETTINGS: asdict(settings)})
    return state


def open_state(storage: Storage, folder: str) -> State:
    """Open a state.

    Raises:
        NotFoundError: There is none in that folder.
        TableError: It was written by another program.
    """
    path = f"{folder}/centroids.parquet"
    centroids = read_centroids(storage, path)
    settings = StateSettings(**read_about(storage, path)[SETTINGS])
    return State(storage, folder, settings, centroids)


def begin_batch(state: State, shards: Mapping[str, str]) -> Batch | None:
    """Give ordinals to the shards that the state doesn't know yet.

    Only one process may do this at a time.

    Args:
        state: Gets a new batch, if there are any.
        shards: Name to fingerprint of its vectors; those known by both are left out.

    Returns:
        The new batch; None if all shards are known.
    """
    batches = read_batches(state)
    known = {shard for batch in batches for shard in batch.shards.values()}
    new = sorted(set(shards.items()) - known)
    if not new:
        return None
    first = sum(len(batch.shards) for batch in batches)
    names, fingerprints = zip(*new, strict=True)
    table = pa.table(
        {
            "ordinal": np.arange(first, first + len(new)),
            "shard": pa.array(names),
            "fingerprint": pa.array(fingerprints),
        }
    )
    path = state.path("batches", f"{len(batches):05d}")
    write_table(state.storage, path, BATCH, table, fingerprint=state.fingerprint)
    return Batch(len(batches), dict(enumerate(new, start=first)))


def read_batches(state: State) -> list[Batch]:
    """Read all batches, in order."""
    batches = []
    for number, path in enumerate(_paths(state, "batches")):
        table = read_table(state.storage, path, BATCH)
        shards = zip(
            table["shard"].to_pylist(), table["fingerprint"].to_pylist(), strict=True
        )
        listed = dict(zip(table["ordinal"].to_pylist(), shards, strict=True))
        batches.append(Batch(number, listed))
    return batches


def read_parts(state: State) -> list[Part]:
    """Read which shards' vectors are in the state, in order of their names."""
    parts = []
    for path in _paths(state, "parts"):
        about = read_about(state.storage, path)
        name = path.rpartition("/")[2].removesuffix(".parquet")
        bins, ordinals = frozenset(about["bins"]), tuple(about["ordinals"])
        error, unusable = about["length_error"], about["unusable"]
        parts.append(Part(name, ordinals, bins, error, unusable))
    return parts


def current_ordinals(state: State, shards: Iterable[tuple[str, str]]) -> list[int]:
    """Give the ordinals of shards as they are now.

    Args:
        state: Knows them.
        shards: Names, and the fingerprints of their vectors.

    Raises:
        StaleError: The vectors of a shard are not in the state.
    """
    there = {ordinal for part in read_parts(state) for ordinal in part.ordinals}
    known = {
        shard: ordinal
        for batch in read_batches(state)
        for ordinal, shard in batch.shards.items()
        if ordinal in there
    }
    listed = list(shards)
    missing = [shard for shard in listed if shard not in known]
    if missing:
        raise StaleError(
            f"{state.folder}: {len(missing)} shards have no vectors in the state, or were "
            f"replaced since, such as {missing[0][0]}; add them first"
        )
    return [known[shard] for shard in listed]


def _paths(state: State, folder: str) -> list[str]:
    files = state.storage.list_files(f"{state.folder}/{folder}", ".parquet")
    return [file.path for file in files]

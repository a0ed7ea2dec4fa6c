"""What is known of the vectors of all shards, on storage, so that new shards cost little.

Under one folder, for one encoder and one fit of centroids:

- ``centroids.parquet``: cells and their bins, and the settings of the state
- ``batches/<batch>.parquet``: shards that came together, with their ordinals
- ``rows/<bin>/<part>.parquet``: vectors with a cell in the bin, of some shards
- ``parts/<part>.parquet``: which shards those files are of; written after them
- ``pairs/<bin>/<batch>.parquet``: similar pairs of a batch's vectors with all before
- ``decisions/<n>/``: samples removed, and pairs and checked samples found while deciding

Files are only ever added, and each is written whole, the one that vouches for others last:
a step that was interrupted is done again, and one that is done is skipped. A shard that was
replaced gets a new ordinal in a new batch; its old rows stay in the files and are left out
when deciding. Earlier batches are preferred, so that a new shard never takes a place that
was given.

Belongs here: the layout, the settings, batches. The three steps are in ``assignment.py``,
``bins.py`` and ``incremental.py``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from curation.dedup.centroids import Centroids, read_centroids, write_centroids
from curation.dedup.comparison import Thresholds
from curation.dedup.preference import Preference, parse_preferences
from curation.errors import InputError, StaleError
from curation.fingerprint import fingerprint
from curation.storage.base import Storage
from curation.tables import BATCH, PART, read_about, read_table, write_table

SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What all vectors of a state have in common, and how they are compared."""

    encoder: str
    """Fingerprint of the model that made the vectors; others are refused."""
    prefer: tuple[str, ...] = ()
    """Which of two similar samples stays, after the one of the earlier batch: columns
    with ``asc`` or ``desc``. ``centroid_similarity`` and ``random`` can be named too."""
    similarity_floor: float = 0.9
    """The lowest ``min_similarity`` that can be decided with; pairs down to it are kept.
    Lower costs storage."""
    leader_similarity: float = 0.98
    """From which a row is taken for a copy while comparing. Higher costs comparisons
    and spares some while deciding."""
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
        parse_preferences(self.prefer)

    @property
    def preferences(self) -> tuple[Preference, ...]:
        """What ``prefer`` says."""
        return parse_preferences(self.prefer)

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

    batch: int
    name: str
    """Of its files."""
    ordinals: tuple[int, ...]
    bins: frozenset[int]
    """Those that got any vector."""
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

    def pairs_path(self, bin_: int, batch: int) -> str:
        """Where the pairs of a batch that a bin has found are."""
        return self.path("pairs", f"{bin_:05d}", f"{batch:05d}")

    @cached_property
    def fingerprint(self) -> str:
        """The hash of everything that decides which pairs are found."""
        settings = {name: _json(value) for name, value in asdict(self.settings).items()}
        return fingerprint("duplicate_state", self.centroids.fingerprint, settings)


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
    about = {name: _json(value) for name, value in asdict(settings).items()}
    write_centroids(storage, path, centroids, **{SETTINGS: about})
    return state


def open_state(storage: Storage, folder: str) -> State:
    """Open a state.

    Raises:
        NotFoundError: There is none in that folder.
        TableError: It was written by another program.
    """
    path = f"{folder}/centroids.parquet"
    centroids = read_centroids(storage, path)
    about = read_about(storage, path)[SETTINGS]
    settings = StateSettings(**(about | {"prefer": tuple(about["prefer"])}))
    return State(storage, folder, settings, centroids)


def begin_batch(state: State, shards: Mapping[str, str]) -> Batch | None:
    """Give ordinals to the shards that the state doesn't know yet.

    Args:
        state: Gets a new batch, if there are any.
        shards: Name to fingerprint of its vectors and of the columns that rank them; those
            known by both are left out.

    Returns:
        The new batch; None if all shards are known.
    """
    known = {pair for batch in read_batches(state) for pair in batch.shards.values()}
    new = sorted(set(shards.items()) - known)
    if not new:
        return None
    batches = read_batches(state)
    first = sum(len(batch.shards) for batch in batches)
    number = len(batches)
    names, fingerprints = zip(*new, strict=True)
    table = pa.table(
        {
            "ordinal": np.arange(first, first + len(new)),
            "shard": pa.array(names),
            "fingerprint": pa.array(fingerprints),
        }
    )
    path = state.path("batches", f"{number:05d}")
    write_table(state.storage, path, BATCH, table, fingerprint=state.fingerprint)
    return Batch(number, dict(enumerate(new, start=first)))


def read_batches(state: State) -> list[Batch]:
    """Read all batches, in order."""
    batches = []
    for number, path in enumerate(_paths(state, "batches")):
        table = read_table(state.storage, path, BATCH)
        pairs = zip(
            table["shard"].to_pylist(), table["fingerprint"].to_pylist(), strict=True
        )
        batches.append(
            Batch(number, dict(zip(table["ordinal"].to_pylist(), pairs, strict=True)))
        )
    return batches


def read_parts(state: State) -> list[Part]:
    """Read which shards' vectors are in the state, in order of batch and ordinal."""
    parts = []
    for path in _paths(state, "parts"):
        about = read_about(state.storage, path)
        bins = read_table(state.storage, path, PART, ["bin"])["bin"].to_pylist()
        parts.append(
            Part(
                about["batch"],
                path.rpartition("/")[2].removesuffix(".parquet"),
                tuple(about["ordinals"]),
                frozenset(bins),
                about["unusable"],
            )
        )
    return parts


def missing_shards(batches: Iterable[Batch], parts: Iterable[Part]) -> dict[int, str]:
    """Give ordinal and name of the shards whose vectors are not in the state yet."""
    there = {ordinal for part in parts for ordinal in part.ordinals}
    return {
        ordinal: name
        for batch in batches
        for ordinal, (name, _) in batch.shards.items()
        if ordinal not in there
    }


def current_ordinals(state: State, shards: Mapping[str, str]) -> dict[str, int]:
    """Give the ordinal of each shard as it is now.

    Args:
        state: Knows them.
        shards: Name to fingerprint.

    Raises:
        StaleError: A shard isn't in any batch.
    """
    known = {
        pair: ordinal
        for batch in read_batches(state)
        for ordinal, pair in batch.shards.items()
    }
    for name, made_from in shards.items():
        if (name, made_from) not in known:
            raise StaleError(
                f"{name} is not among the compared shards, or was replaced since; add the "
                "new shards to the state first"
            )
    return {name: known[name, made_from] for name, made_from in shards.items()}


def _paths(state: State, folder: str) -> list[str]:
    files = state.storage.list_files(f"{state.folder}/{folder}", ".parquet")
    return [file.path for file in files]


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

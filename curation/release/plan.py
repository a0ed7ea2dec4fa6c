"""Which sample goes into which tar of a release, and under which key.

Belongs here: planning, over keys and sizes alone; nothing is read or written. A plan is a
function of its arguments, so that it can be made again after a crash and be the same.

A sample that an earlier release has keeps its tar and its key; what is new fills up the
last tar and then goes to new ones. So a release after some new raw shards shares all
other tars with the one before it, and a key never means another picture: the number of a
sample that is gone stays unused. Whoever wants dense tars again packs anew.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import InputError
from curation.fingerprint import Json, fingerprint
from curation.recipe import ReleaseSettings
from curation.release.sources import FilteredShard

FORMAT = 2
"""Raised when the same plan starts to give other bytes: no tar is then shared with
earlier releases."""

SHARD_DIGITS = 5
LEAST_INDEX_DIGITS = 4

PLACES = pa.schema(
    [
        ("number", pa.int64()),
        ("position", pa.int64()),
        ("source_shard", pa.string()),
        ("source_key", pa.string()),
    ]
)
"""Where the samples of a release are: the number of the tar, the place in it that its key
has, and the sample of the raw shards. Places that lost their samples leave holes."""


@dataclass(frozen=True)
class Placed:
    """Where an earlier release has its samples."""

    places: pa.Table
    """A ``PLACES`` table."""
    next_number: int
    """The tar that was filled last."""
    next_position: int
    """The first place of it that no sample ever had."""


NOTHING_PLACED = Placed(PLACES.empty_table(), 0, 0)


@dataclass(frozen=True)
class PlannedShard:
    """One tar of a release that is to be."""

    number: int
    samples: pa.Table
    """``key``, ``position``, ``source_shard``, ``source_key``, and ``row`` of the filtered
    shard; in the order of the tar."""
    rows: Mapping[str, str]
    """For each source shard, the fingerprint of what its rows hold."""
    fingerprint: str
    """Of all that decides its bytes."""

    @property
    def name(self) -> str:
        """Its files' name, without a suffix."""
        return shard_name(self.number)


@dataclass(frozen=True)
class Plan:
    """A release that is to be."""

    shards: tuple[PlannedShard, ...]
    next_number: int
    next_position: int

    @property
    def num_samples(self) -> int:
        """Samples of all tars."""
        return sum(shard.samples.num_rows for shard in self.shards)


def plan_release(
    filtered: Sequence[FilteredShard],
    settings: ReleaseSettings,
    *,
    earlier: Placed = NOTHING_PLACED,
    excluded: Sequence[np.ndarray] | None = None,
) -> Plan:
    """Plan the tars of a release.

    Args:
        filtered: Whose samples are released, in this order unless they are shuffled.
        settings: How they are packed.
        earlier: Where a release of the same packing has samples, which stay there.
        excluded: For each filtered shard ``(N,)`` bool: True for samples to leave out.

    Raises:
        InputError: Two samples have the same key, which is to be preserved.
    """
    samples = _samples(filtered, excluded)
    samples = _shuffled(samples, settings.shuffle_seed)
    number, position = _old_places(samples, earlier.places)
    new = np.flatnonzero(number < 0)
    sizes = samples["num_bytes"].to_numpy()
    start = _start(earlier, number, sizes)
    number[new], position[new], end = _pack(sizes[new], settings, start)
    samples = samples.append_column("number", pa.array(number))
    samples = samples.append_column("position", pa.array(position))
    samples = samples.append_column("key", _keys(samples, settings))
    samples = samples.take(np.lexsort((position, number)))
    rows = {shard.shard: shard.rows for shard in filtered}
    return Plan(tuple(_shards(samples, settings, rows)), end.number, end.position)


def plan_fingerprint(tars: Mapping[int, str]) -> str:
    """Give the fingerprint of a release's content: of its tars, not its name or date."""
    return fingerprint("release", [[number, made_of] for number, made_of in tars.items()])


def shard_name(number: int) -> str:
    """Give the name of a tar without its suffix: ``00042``."""
    return f"{number:0{SHARD_DIGITS}d}"


def plan_shard(
    number: int, samples: pa.Table, rows: Mapping[str, str], settings: ReleaseSettings
) -> PlannedShard:
    """Plan one tar, of samples that have their places.

    Args:
        number: Its own.
        samples: ``key``, ``position``, ``source_shard``, ``source_key`` and what else is
            known of them, in the order of the tar.
        rows: For each source shard, the fingerprint of what its rows hold.
        settings: What decides the bytes beside the samples.
    """
    digest = hashlib.sha256()
    for name in ("key", "position", "source_shard", "source_key"):
        for value in samples[name].to_pylist():
            digest.update(b"%d:" % len(data := str(value).encode()) + data)
    used = {s: rows[s] for s in pc.unique(samples["source_shard"]).to_pylist()}
    form: dict[str, Json] = {"keys": settings.keys, "npy": settings.npy}
    if settings.extensions != "keep":  # so that others keep the fingerprint that they had
        form["extensions"] = settings.extensions
    made_of = fingerprint("release_shard", FORMAT, form, digest.hexdigest(), used)
    return PlannedShard(number, samples, used, made_of)


def packing(settings: ReleaseSettings) -> dict[str, Json]:
    """Give the settings under which places can be kept from one release to the next."""
    names = {"samples_per_shard", "bytes_per_shard", "keys", "shuffle_seed"}
    return settings.model_dump(mode="json", include=names)


def _samples(
    filtered: Sequence[FilteredShard], excluded: Sequence[np.ndarray] | None
) -> pa.Table:
    tables = [_NO_SAMPLES]
    for at, shard in enumerate(filtered):
        copies = np.ones(len(shard), np.int64) if shard.copies is None else shard.copies
        if excluded:
            copies = np.where(excluded[at], 0, copies)
        rows = np.repeat(np.arange(len(shard)), copies)
        first = np.repeat(np.cumsum(copies) - copies, copies)
        table = pa.table(
            {
                "source_shard": pa.repeat(pa.scalar(shard.shard), len(rows)),
                "source_key": shard.keys.take(pa.array(rows)),
                "row": pa.array(rows),
                "copy": pa.array(np.arange(len(rows)) - first),
                "num_bytes": pa.array(shard.num_bytes[rows]),
            }
        )
        tables.append(table)
    return pa.concat_tables(tables).combine_chunks()


_NO_SAMPLES = pa.schema(
    [
        ("source_shard", pa.string()),
        ("source_key", pa.string()),
        ("row", pa.int64()),
        ("copy", pa.int64()),
        ("num_bytes", pa.int64()),
    ]
).empty_table()


def _identities(table: pa.Table) -> pa.Array:
    """Give one string for each sample of the raw shards, and one for each further copy."""
    joined = pc.binary_join_element_wise(table["source_shard"], table["source_key"], "\0")
    joined = joined.combine_chunks()
    copies = table["copy"].to_numpy()
    if not copies.any():
        return joined
    numbers = pa.array([f"\0{copy}" if copy else "" for copy in copies.tolist()])
    return pc.binary_join_element_wise(joined, numbers, "")


def _with_copies(places: pa.Table) -> pa.Table:
    """Number the places that one sample has, in their order."""
    none = pa.array(np.zeros(len(places), np.int64))
    places = places.append_column("copy", none)
    codes = _identities(places).dictionary_encode().indices.to_numpy()
    order = np.lexsort((places["position"], places["number"], codes))
    starts = np.append(True, np.diff(codes[order]) != 0)[: len(order)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    copies = np.empty(len(order), np.int64)
    copies[order] = np.arange(len(order)) - first
    return places.set_column(places.num_columns - 1, "copy", pa.array(copies))


def _shuffled(samples: pa.Table, seed: int | None) -> pa.Table:
    """Order samples by a hash of each, the same on every machine and NumPy."""
    if seed is None:
        return samples
    drawn = [
        hashlib.blake2b(f"{seed}\0{identity}".encode(), digest_size=8).digest()
        for identity in _identities(samples).to_pylist()
    ]
    order = np.argsort(np.frombuffer(b"".join(drawn), ">u8"), kind="stable")
    return samples.take(order)


def _old_places(samples: pa.Table, places: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Give the number and the position that samples had, -1 where they had none."""
    if not places.num_rows:
        none = np.full(samples.num_rows, -1, np.int64)
        return none, none.copy()
    known = _identities(_with_copies(places))
    found = pc.index_in(_identities(samples), value_set=known)
    number, position = (
        places[name].take(found).fill_null(-1).to_numpy().astype(np.int64)
        for name in ("number", "position")
    )
    return number, position


@dataclass
class _End:
    """Where the next new sample goes."""

    number: int
    position: int
    num_bytes: int = 0


def _start(earlier: Placed, number: np.ndarray, sizes: np.ndarray) -> _End:
    here = int(sizes[number == earlier.next_number].sum())
    return _End(earlier.next_number, earlier.next_position, here)


def _pack(
    sizes: np.ndarray, settings: ReleaseSettings, end: _End
) -> tuple[np.ndarray, np.ndarray, _End]:
    """Place samples one behind the other."""
    most_samples, most_bytes = settings.samples_per_shard, settings.bytes_per_shard
    if most_bytes is None:
        places = end.number * most_samples + end.position + np.arange(len(sizes))
        last = end.number * most_samples + end.position + len(sizes)
        number, position = last // most_samples, last % most_samples
        return places // most_samples, places % most_samples, _End(number, position)
    places = np.empty((2, len(sizes)), np.int64)
    for at, size in enumerate(sizes.tolist()):
        too_large = end.position and end.num_bytes + size > most_bytes
        if too_large or end.position == most_samples:
            end = _End(end.number + 1, 0)
        places[:, at] = end.number, end.position
        end.position += 1
        end.num_bytes += size
    return places[0], places[1], end


def _keys(samples: pa.Table, settings: ReleaseSettings) -> pa.Array:
    if settings.keys == "preserve":
        _refuse_collisions(samples)
        return samples["source_key"].combine_chunks()
    digits = max(LEAST_INDEX_DIGITS, len(str(settings.samples_per_shard - 1)))
    number, position = samples["number"].to_pylist(), samples["position"].to_pylist()
    keys = [f"{shard_name(n)}{p:0{digits}d}" for n, p in zip(number, position, strict=True)]
    return pa.array(keys, pa.string())


def _refuse_collisions(samples: pa.Table) -> None:
    """Refuse keys that two samples have.

    Raises:
        InputError: One is there twice; the message names both.
    """
    counts = samples.group_by("source_key").aggregate([("row", "count")])
    twice = counts.filter(pc.greater(counts["row_count"], 1))["source_key"]
    if not len(twice):
        return
    key = min(twice.to_pylist())
    same = samples.filter(pc.equal(samples["source_key"], key))
    shards = sorted(same["source_shard"].to_pylist())
    raise InputError(
        f"release.keys: preserve: {len(twice)} keys are those of several samples; "
        f"{key!r} is in {shards[0]} and in {shards[1]}; use keys: renumber, which keeps "
        "old keys in the table"
    )


def _shards(
    samples: pa.Table, settings: ReleaseSettings, rows: Mapping[str, str]
) -> list[PlannedShard]:
    number = samples["number"].to_numpy()
    columns = ["key", "position", "source_shard", "source_key", "row"]
    samples = samples.select(columns).combine_chunks()
    cuts = [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), len(number)]
    planned = []
    for start, stop in pairwise(cuts):
        part = samples.slice(start, stop - start)
        planned.append(plan_shard(int(number[start]), part, rows, settings))
    return planned

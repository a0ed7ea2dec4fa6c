"""A small raw dataset in which it is known what every sample is and should become.

The shards are made on the spot from photographs inside installed packages
(``demo_pictures.py``), the same bytes for the same seed and package versions. Among
ordinary samples lie those that real crawls have (``demo_plan.py``): copies, blurred and
tiny images, files cut short, pages of HTML named ``.jpg``, every common format, odd names.
The table ``planted.parquet`` beside the shards says of each what it is and what a correct
run makes of it, so that the demo's last screen, and tests, can compare.

Belongs here: writing the dataset, and reading and comparing its truth.
"""

import io
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from curation.errors import InputError
from curation.fingerprint import fingerprint
from curation.ingest.demo_pictures import distinct_regions, open_photographs
from curation.ingest.demo_plan import (
    KINDS,
    MIN_SHARDS,
    NEAR_COPIES,
    STRAYS,
    min_samples_per_shard,
    plan_samples,
)
from curation.ingest.demo_samples import DemoSample, make_sample
from curation.storage.base import Storage
from curation.tables import PLANTED, read_about, read_table, write_table

VERSION = 2  # of what is planted and how; raised when the same seed gives other bytes
PLANTED_NAME = "planted.parquet"

_TAR_FORMATS = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)
_TIME = 1_700_000_000.5  # seconds; half a second makes pax write a header per member
_PACKAGES = ("numpy", "pillow", "pyarrow", "scikit-image", "scikit-learn")
_STRAY_FILES = {"hidden_file": "._cover.jpg", "readme": "README"}
_FOLDER_ENTRY = "album.v1.0"


@dataclass(frozen=True, slots=True)
class DemoDataset:
    """Where the demo dataset lies and how large it is."""

    folder: str
    """Under the storage's root; empty for the root itself."""
    shards: tuple[str, ...]
    """Paths of the tars under ``folder``, without ``.tar``, sorted: some at the top,
    some in a sub-folder."""
    num_samples: int
    num_bytes: int
    """Of all the tars together."""
    made: bool
    """False if the dataset was there already, and nothing was written."""

    @property
    def planted_path(self) -> str:
        """Where the planted truth is, under the storage's root."""
        return _joined(self.folder, PLANTED_NAME)


@dataclass(frozen=True, slots=True)
class FoundCopies:
    """How what was taken for copies fares against those that were planted."""

    near: int
    """Near copies that were planted."""
    near_found: int
    """Of them, those that went for their original, or their original for them."""
    wrong: int
    """Samples that went for one that they are no copy of."""


def make_demo_dataset(
    storage: Storage,
    folder: str = "",
    *,
    num_shards: int = 8,
    samples_per_shard: int = 100,
    seed: int = 0,
) -> DemoDataset:
    """Make the demo dataset, unless the same one is there already.

    The first half of the shards are ``00000.tar`` …, the others ``train/00004.tar`` ….
    Their tars are of the GNU, pax and ustar formats in turn. Samples that can be decoded
    show regions of photographs that overlap by a quarter at most
    (``demo_pictures.MAX_OVERLAP``), save for planted copies. The truth is written last:
    where it is, the shards are whole.

    Args:
        storage: Where to.
        folder: Under which path of it.
        num_shards: At least 3, for copies of copies to lie in others.
        samples_per_shard: At least 77, for every planted kind to have its place.
        seed: What everything is drawn from, from 0.

    Raises:
        InputError: A number is out of range, the photographs have too few distinct
            regions for so many samples, or the folder holds tars that are not these.
        NotFoundError: A package that carries the photographs is missing.
    """
    _check_numbers(num_shards, samples_per_shard, seed)
    made_from = fingerprint(
        "demo", VERSION, num_shards, samples_per_shard, seed, _package_versions()
    )
    shards = _shard_names(num_shards)
    _check_folder(storage, folder, shards)
    made = not _is_there(storage, folder, shards, made_from)
    if made:
        truth = _joined(folder, PLANTED_NAME)
        storage.delete(truth)  # until it is written again, the shards are of two minds
        planted = _write(storage, folder, shards, samples_per_shard, seed)
        write_table(storage, truth, PLANTED, planted, fingerprint=made_from)
    sizes = [storage.stat(_joined(folder, f"{shard}.tar")).size for shard in shards]
    return DemoDataset(folder, shards, num_shards * samples_per_shard, sum(sizes), made)


def read_planted(storage: Storage, folder: str = "") -> pa.Table:
    """Read the truth of a demo dataset: a ``PLANTED`` table of ``curation/tables.py``.

    Raises:
        NotFoundError: There is no demo dataset in that folder.
    """
    return read_table(storage, _joined(folder, PLANTED_NAME), PLANTED)


def compare_with_planted(planted: pa.Table, found: pa.Table) -> pa.Table:
    """Count, per kind, how many planted samples became what they should.

    Args:
        planted: What :func:`read_planted` gives.
        found: One row per sample: ``shard``, ``key``, and ``outcome``, which is
            ``kept``, ``dropped`` or ``quarantined``. A sample without a row was ignored.

    Returns:
        In the order of ``KINDS``, one row per kind that is planted: ``kind``,
        ``expected``, ``decided_by`` (strings), ``planted`` and ``as_expected`` (int64).
    """
    places = zip(found["shard"].to_pylist(), found["key"].to_pylist(), strict=True)
    outcomes = dict(zip(places, found["outcome"].to_pylist(), strict=True))
    counts = {kind: [0, 0] for kind in KINDS}
    for row in planted.select(["shard", "key", "kind", "expected"]).to_pylist():
        outcome = outcomes.get((row["shard"], row["key"]), "ignored")
        counts[row["kind"]][0] += 1
        counts[row["kind"]][1] += outcome == row["expected"]
    rows = [
        {"kind": name, "expected": kind.expected, "decided_by": kind.decided_by}
        | {"planted": counts[name][0], "as_expected": counts[name][1]}
        for name, kind in KINDS.items()
        if counts[name][0]
    ]
    return pa.Table.from_pylist(rows)


def count_found_copies(planted: pa.Table, removed: pa.Table) -> FoundCopies:
    """Compare samples that were removed as copies with the copies that were planted.

    Args:
        planted: What :func:`read_planted` gives.
        removed: One row per removed sample: ``shard``, ``key``, and ``survivor_shard``,
            ``survivor_key`` of the one that stays for it.
    """
    original, near = {}, set()
    for row in planted.to_pylist():
        place = row["shard"], row["key"]
        original[place] = (row["twin_shard"] or place[0], row["twin_key"] or place[1])
        if row["kind"] in NEAR_COPIES:
            near.add(place)
    right, wrong = set(), 0
    for row in removed.to_pylist():
        place = row["shard"], row["key"]
        survivor = row["survivor_shard"], row["survivor_key"]
        if original[place] == original[survivor]:
            right |= {place, survivor}
        else:
            wrong += 1
    return FoundCopies(len(near), len(near & right), wrong)


def _check_numbers(num_shards: int, samples_per_shard: int, seed: int) -> None:
    for name, value, least in (
        ("num_shards", num_shards, MIN_SHARDS),
        ("samples_per_shard", samples_per_shard, min_samples_per_shard()),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; expected at least {least}")


def _check_folder(storage: Storage, folder: str, shards: Iterable[str]) -> None:
    ours = {_tar_path(folder, shard) for shard in shards}
    others = [f.path for f in storage.list_files(folder, ".tar") if f.path not in ours]
    if others:
        raise InputError(
            f"{storage.url}: {others[0]} is no shard of this demo dataset; choose an "
            "empty folder, or delete what is there"
        )


def _is_there(storage: Storage, folder: str, shards: Iterable[str], made_from: str) -> bool:
    path = _joined(folder, PLANTED_NAME)
    return (
        storage.exists(path)
        and read_about(storage, path).get("fingerprint") == made_from
        and all(storage.exists(_tar_path(folder, shard)) for shard in shards)
    )


def _package_versions() -> dict[str, Any]:
    return {package: version(package) for package in _PACKAGES}


def _shard_names(num_shards: int) -> tuple[str, ...]:
    at_the_top = num_shards // 2
    return tuple(
        f"{number:05d}" if number < at_the_top else f"train/{number:05d}"
        for number in range(num_shards)
    )


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name


def _tar_path(folder: str, shard: str) -> str:
    return _joined(folder, f"{shard}.tar")


def _write(
    storage: Storage,
    folder: str,
    shards: Sequence[str],
    samples_per_shard: int,
    seed: int,
) -> pa.Table:
    """Write the shards, and give the truth about them."""
    photographs = open_photographs()
    regions = distinct_regions(photographs)
    originals: dict[tuple[int, int], DemoSample] = {}
    rows = []
    plan = plan_samples(len(shards), samples_per_shard, regions, seed)
    for number, slots in enumerate(plan):
        samples = []
        for slot in slots:
            sample = make_sample(slot, photographs, originals, seed)
            if slot.has_copies:
                originals[slot.shard, slot.number] = sample
            samples.append(sample)
        tar_format = _TAR_FORMATS[number % len(_TAR_FORMATS)]
        storage.write(_tar_path(folder, shards[number]), _tar(samples, tar_format))
        rows += [_row(sample, shards) for sample in samples]
        rows += [_stray_row(shards[number], kind) for kind in STRAYS]
    return pa.Table.from_pylist(rows, schema=pa.schema(PLANTED.columns))


def _tar(samples: Iterable[DemoSample], tar_format: int) -> memoryview:
    buffer = io.BytesIO()
    late = []
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        folder = _header(_FOLDER_ENTRY, 0)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name in _STRAY_FILES.values():
            _add(tar, name, b"This file belongs to no sample.\n")
        for sample in samples:
            for extension, data in sample.files.items():
                member = f"{sample.slot.key}.{extension}", data
                if sample.slot.kind == "not_adjacent" and extension == "json":
                    late.append(member)
                else:
                    _add(tar, *member)
        for member in late:
            _add(tar, *member)
    return buffer.getbuffer()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_header(name, len(data)), io.BytesIO(data))


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mtime = size, _TIME
    return header


def _row(sample: DemoSample, shards: Sequence[str]) -> dict[str, Any]:
    slot, region = sample.slot, sample.slot.region
    row = _stray_row(shards[slot.shard], slot.kind) | {"key": slot.key}
    row["edit"] = sample.edit
    if slot.original:
        row["twin_shard"] = shards[slot.original.shard]
        row["twin_key"] = slot.original.key
    if slot.sharpness_label:
        row["sharpness_label"] = slot.sharpness_label
        row["split"] = "train" if 2 * slot.shard < len(shards) else "test"
    if region:
        row["photograph"] = region.photograph
        row["region"] = region.box
    return row


def _stray_row(shard: str, kind: str) -> dict[str, Any]:
    """Say what is known of a kind alone; of a stray member, that is all."""
    member = _STRAY_FILES.get(kind, _FOLDER_ENTRY)
    row = {"shard": shard, "key": member, "kind": kind, "edit": ""}
    return row | {"expected": KINDS[kind].expected, "decided_by": KINDS[kind].decided_by}

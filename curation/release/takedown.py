"""Taking samples down: a release without them, and none that has them ever after.

Belongs here: which samples are meant, and the release that follows the last one. Only the
tars that hold them are written, by copying all other members of the release's own tar;
whatever became of the filtered shards since plays no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import (
    InputError,
    ReleaseMismatchError,
    UnknownNameError,
)
from curation.index import build_index
from curation.recipe import Recipe, ReleaseSettings
from curation.release.claims import claimed
from curation.release.manifest import (
    Manifest,
    last_release,
    list_releases,
    published_recipe,
    table_path,
    without_places,
    write_manifest,
)
from curation.release.plan import PlannedShard, plan_shard
from curation.release.publish import (
    ReleaseOptions,
    WantedShard,
    bring_shards,
    count_repeats,
    next_name,
    open_target,
    share_shard,
    software,
    utc_now,
)
from curation.release.shard import ReleaseShard, Target, finish_shard
from curation.release.takedowns import (
    count_takedowns,
    mask_rows,
    read_takedowns,
    taken_down_table,
    write_takedown,
)
from curation.reshard import reshard
from curation.storage.base import Storage
from curation.tables import FILTERED, read_about, read_table
from curation.tar import read_members

TAKING_DOWN = "a takedown"
"""What others are told that is under way."""

Line = tuple[str | None, str]
"""What names a sample: a shard, or a tar, if that is said, and a key."""

_COLUMNS = ["key", "position", "source_shard", "source_key", "sha256"]


@dataclass(frozen=True)
class Takedown:
    """What a takedown did."""

    release: Manifest
    """The release without the samples."""
    keys: tuple[str, ...]
    """Of the samples that are gone, as the release before had them."""
    rewritten: int
    """Tars that held them."""
    record: str | None
    """Path of the table that keeps them away; None if all were taken down before."""


def take_down(
    output: Storage,
    recipe: Recipe,
    lines: Sequence[str],
    options: ReleaseOptions | None = None,
) -> Takedown:
    """Make a release without some samples, which no later release will have again.

    Args:
        output: Where the releases are.
        recipe: Whose last release is meant.
        lines: A key of that release, or a sample's key in the raw shards, each also as
            ``<shard>TAB<key>``; what is still ambiguous as ``<release>/<tar>TAB<key>``.
            Samples with the same image go with those named. What was taken down before
            is found where it was taken from, so that a call that was killed when it had
            published is given again like any other.
        options: For the release that is made.

    Raises:
        InputError: There is no release yet, no line, or a key is that of several samples.
        UnknownNameError: No sample has a key. Nothing is written.
        ReleaseExistsError: There is a release of the chosen name, and something to take
            down.
        ReleaseMismatchError: A sample is still there afterwards.
        ReleaseClaimedError: Another process makes a release meanwhile. What was named is
            recorded, and no later release has it.
    """
    options = options or ReleaseOptions()
    releases = list_releases(output)
    series = recipe.release.name or recipe.name
    previous = last_release(releases, series)
    if previous is None:
        raise InputError(f"{output.url}: there is no release of {series} to take from")
    tables = _read_tables(output, previous)
    named, others = _named_samples(_wanted(lines), tables, previous)
    if others:
        _check_taken_before(output, others, releases, previous)
    record = None
    if len(named):
        next_name(releases, series, options.name)  # else it is refused when recorded
        record = write_takedown(output, named)
    with claimed(output, "series", series, TAKING_DOWN) as claim:
        while True:
            planned = _plan(output, recipe, series, options, {previous.name: tables})
            if not planned.keys:  # a release that was under way has none of them
                return Takedown(planned.previous, (), 0, record)
            manifest = planned.manifest
            with open_target(claim, manifest, planned.settings, TAKING_DOWN) as target:
                wanted = _wanted_shards(target, planned)
                manifest = bring_shards(target, manifest, wanted, options)
                _prove(output, manifest, planned.taken_down)
                if count_takedowns(output) == manifest.taken_down:
                    write_manifest(target, manifest)
                    return Takedown(manifest, planned.keys, planned.rewritten, record)


@dataclass(frozen=True)
class _Planned:
    """A release without what was taken down."""

    previous: Manifest
    tables: dict[int, pa.Table]
    """Of the previous release, by tar."""
    gone: dict[int, np.ndarray]
    """Which of their rows were taken down: ``(N,)`` bool."""
    taken_down: pa.Table
    settings: ReleaseSettings
    manifest: Manifest
    """Without tars and documents yet."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the samples that go."""
        return tuple(
            key
            for number, mask in self.gone.items()
            for key in self.tables[number]["key"].filter(pa.array(mask)).to_pylist()
        )

    @property
    def rewritten(self) -> int:
        """Count the tars that hold them."""
        return sum(bool(mask.any()) for mask in self.gone.values())


def _plan(
    output: Storage,
    recipe: Recipe,
    series: str,
    options: ReleaseOptions,
    known: Mapping[str, dict[int, pa.Table]],
) -> _Planned:
    """Decide what the release without all that was taken down is to be.

    Args:
        output: Where the releases are.
        recipe: Whose last release is meant.
        series: Of its releases.
        options: For the release that is made.
        known: Tables of releases, which never change, by name.
    """
    releases = list_releases(output)
    previous = last_release(releases, series)
    assert previous is not None  # it was there, and none is ever deleted by this program
    tables = known.get(previous.name) or _read_tables(output, previous)
    taken_down = read_takedowns(output)
    gone = {n: mask_rows(table, taken_down) for n, table in tables.items()}
    settings = recipe.release.model_copy(
        update={
            **previous.packing,
            "npy": bool(previous.recipe["release"]["npy"]),
            # the tars are copied, with the names that they have
            "extensions": previous.recipe["release"].get("extensions", "keep"),
        }
    )
    is_new = any(mask.any() for mask in gone.values())
    name = next_name(releases, series, options.name) if is_new else previous.name
    staying = [table.filter(pa.array(~gone[n])) for n, table in tables.items()]
    manifest = replace(
        _without(previous, name, gone, taken_down), num_repeats=count_repeats(staying)
    )
    return _Planned(previous, tables, gone, taken_down, settings, manifest)


def _read_tables(output: Storage, release: Manifest) -> dict[int, pa.Table]:
    """Read which samples a release has, by tar."""
    return {
        shard.number: read_table(output, table_path(release, shard), FILTERED, _COLUMNS)
        for shard in release.shards
    }


def _wanted(lines: Sequence[str]) -> list[Line]:
    """Read lines as a shard, if there is one, and a key."""
    found: list[Line] = []
    for line in lines:
        text = line.rstrip("\r\n")
        if text.strip():
            shard, tab, key = text.partition("\t")
            found.append((shard, key) if tab else (None, text))
    if not found:
        raise InputError("there is no key to take down; expected one per line")
    return found


def _named_samples(
    wanted: Sequence[Line], tables: dict[int, pa.Table], last: Manifest
) -> tuple[pa.Table, list[Line]]:
    """Find the samples that are meant.

    Returns:
        A ``TAKEN_DOWN`` table, and the lines of which the release has no sample.
    """
    candidates = _candidates(wanted, tables, last)
    rows: dict[str, dict[str, str]] = {}
    others = []
    for line in wanted:
        if row := _only(line, candidates, last):
            rows[row["key"]] = row
        else:
            others.append(line)
    found = taken_down_table(
        [
            {
                "source_shard": row["source_shard"],
                "source_key": row["source_key"],
                "sha256": row["sha256"],
                "release": last.name,
                "release_key": key,
            }
            for key, row in sorted(rows.items())
        ]
    )
    return found, others


def _check_taken_before(
    output: Storage, lines: Sequence[Line], releases: Sequence[Manifest], last: Manifest
) -> None:
    """Make sure that samples which the last release has not were taken from earlier ones.

    Raises:
        UnknownNameError: One was not.
        InputError: A key is that of several samples.
    """
    taken_down = read_takedowns(output)
    concerned = set(taken_down["release"].to_pylist())
    for release in sorted(releases, key=lambda release: release.number, reverse=True):
        if not lines or release.series != last.series or release.name not in concerned:
            continue
        candidates = _candidates(lines, _read_tables(output, release), release)
        others = []
        for line in lines:
            row = _only(line, candidates, release)
            if row is None:
                others.append(line)
            elif not mask_rows(pa.Table.from_pylist([row]), taken_down).all():
                raise _unknown(line, last)
        lines = others
    if lines:
        raise _unknown(lines[0], last)


def _candidates(
    wanted: Sequence[Line], tables: dict[int, pa.Table], release: Manifest
) -> dict[str, list[dict[str, str]]]:
    """Find the rows of a release that have the keys of lines, by key."""
    names = {
        shard.number: shard.files[0].path.removesuffix(".tar") for shard in release.shards
    }
    asked = pa.array({key for _, key in wanted}, pa.string())
    candidates: dict[str, list[dict[str, str]]] = {}
    for number, table in tables.items():
        meant = pc.or_(
            pc.is_in(table["key"], value_set=asked),
            pc.is_in(table["source_key"], value_set=asked),
        )
        for row in table.filter(meant).to_pylist():
            row["tar"] = names[number]
            for key in {row["key"], row["source_key"]}:
                candidates.setdefault(key, []).append(row)
    return candidates


def _only(
    line: Line, candidates: Mapping[str, list[dict[str, str]]], release: Manifest
) -> dict[str, str] | None:
    """Give the row that a line means; None if the release has no such sample."""
    shard, key = line
    rows = [
        row
        for row in candidates.get(key, [])
        if shard is None
        or (shard, key) == (row["source_shard"], row["source_key"])
        or (shard in (row["tar"], f"{release.name}/{row['tar']}") and key == row["key"])
    ]
    if len({(row["source_shard"], row["source_key"]) for row in rows}) > 1:
        places = " or ".join(
            f"{release.name}/{row['tar']}\\t{row['key']} for the one that was "
            f"{row['source_shard']}\\t{row['source_key']}"
            for row in rows[:2]
        )
        raise InputError(
            f"{key!r} is the key of {len(rows)} samples of {release.name}; write the tar, "
            f"a tab and the key there: {places}"
        )
    return rows[0] if rows else None


def _unknown(line: Line, last: Manifest) -> UnknownNameError:
    shard, key = line
    where = f" of shard {shard!r}" if shard is not None else ""
    return UnknownNameError(
        f"The release {last.name} has no sample {key!r}{where}, by its key there or in "
        "the raw shards, and none was taken down before. Nothing was taken down; `curate "
        "explain KEY` tells what became of a sample."
    )


def _without(
    previous: Manifest, name: str, gone: dict[int, np.ndarray], taken_down: pa.Table
) -> Manifest:
    """Give the manifest of the release that follows, without tars yet."""
    taken = sum(int(mask.sum()) for mask in gone.values())
    if taken == previous.num_samples:
        raise InputError(
            f"the takedown leaves nothing of {previous.name}; it is recorded, and no "
            "release is made: delete the releases that there are"
        )
    return replace(
        previous,
        name=name,
        number=previous.number + 1,
        previous=previous.name,
        created=utc_now(),
        software=software(),
        recipe=published_recipe(previous.recipe),  # of 0.1.0, which published paths
        encoder=without_places(previous.encoder),
        funnel=without_places(previous.funnel),
        taken_down=len(taken_down),
        num_samples=previous.num_samples - taken,
        shards=(),
        documents=(),
    )


def _wanted_shards(target: Target, plan: _Planned) -> list[WantedShard]:
    """Choose which tars are shared with the release before, and which written anew."""
    wanted, previous = [], plan.previous
    for shard in previous.shards:
        mask = plan.gone[shard.number]
        if not mask.any():
            share = partial(share_shard, previous, shard)
            wanted.append(WantedShard(shard.number, shard.fingerprint, share))
        elif not mask.all():
            rows = read_about(target.storage, table_path(previous, shard))["rows"]
            samples = plan.tables[shard.number].filter(pa.array(~mask)).combine_chunks()
            samples = samples.replace_schema_metadata()
            planned = plan_shard(shard.number, samples, rows, target.settings)
            write = partial(_write_without, previous, planned, ~mask)
            wanted.append(WantedShard(shard.number, planned.fingerprint, write))
    return wanted


def _write_without(
    previous: Manifest, planned: PlannedShard, stays: np.ndarray, target: Target
) -> ReleaseShard:
    """Write a tar of the release before without some of its samples."""
    output, stem = target.storage, f"{previous.folder}/{planned.name}"
    index = build_index(read_members(output, f"{stem}.tar"))
    target.check()
    reshard(output, index, stays, output, target.path(f"{planned.name}.tar"))
    table = read_table(output, f"{stem}.parquet", FILTERED)
    table = table.filter(pa.array(stays)).replace_schema_metadata()
    nothing = [None] * len(table)  # but the images' sha256, which are in the table
    return finish_shard(
        planned, table.combine_chunks(), target, lambda _: f"{stem}.tar", [*nothing]
    )


def _prove(output: Storage, release: Manifest, taken_down: pa.Table) -> None:
    """Make sure, from the files themselves, that nothing that was taken down is there.

    Raises:
        ReleaseMismatchError: A tar or a table holds it.
    """
    for shard in release.shards:
        table = read_table(output, table_path(release, shard), FILTERED, _COLUMNS)
        tar = shard.files[0].path
        keys = build_index(read_members(output, f"{release.folder}/{tar}")).keys
        if keys != table["key"].to_pylist() or mask_rows(table, taken_down).any():
            raise ReleaseMismatchError(
                f"{release.folder}/{tar}: it still holds a sample that was taken down; "
                "the release is not published: report this as a fault of this program",
                path=tar,
            )

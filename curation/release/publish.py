"""Making a release: plan it, write its tars, describe it, publish it by its manifest.

Belongs here: the order in which things are done, so that an interrupted run leaves no
release, and the next one goes on with the tars that are whole. A tar whose content an
earlier release has is linked, or copied by the storage's server, and not written again.
"""

import hashlib
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    ReleaseMismatchError,
    StaleError,
    TableError,
)
from curation.filters import make_filter
from curation.funnel import Funnel
from curation.recipe import Recipe, ReleaseSettings
from curation.release.card import fixed_part, format_card
from curation.release.claims import Claim, claimed, plan_token
from curation.release.croissant import format_croissant
from curation.release.distributions import read_distributions
from curation.release.manifest import (
    CARD,
    Manifest,
    last_release,
    list_releases,
    published_recipe,
    read_placed,
    refuse_published,
    release_exists,
    release_folder,
    without_places,
    write_manifest,
)
from curation.release.plan import (
    NOTHING_PLACED,
    Placed,
    PlannedShard,
    packing,
    plan_fingerprint,
    plan_release,
)
from curation.release.readers import find_unreadable
from curation.release.shard import (
    ReleaseShard,
    Target,
    describe_file,
    find_shard,
    write_shard,
)
from curation.release.sources import (
    FilteredReader,
    FilteredShard,
    read_filtered_shards,
)
from curation.release.takedowns import (
    count_takedowns,
    mask_taken_down,
    read_takedowns,
)
from curation.storage.base import Storage

CROISSANT = "croissant.json"

RELEASING = "a release"
"""What others are told that is under way."""

_SOFTWARE = (
    "image-text-curation",
    "numpy",
    "pyarrow",
    "timm",
    "torch",
    "nvidia-dali-cuda120",
)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _tell_nobody(_: object) -> None:
    """Stand in where nobody waits to be told."""


@dataclass(frozen=True)
class ReleaseOptions:
    """What is chosen for one release rather than for all of them."""

    name: str | None = None
    """By default the series and the next number, such as ``mine-0002``."""
    anew: bool = False
    """Pack all tars anew: samples don't keep the places that they had."""
    threads: int = 4
    """Tars written at once."""
    funnel: Funnel | None = None
    """What to say of how the samples were selected."""
    made_of: Mapping[str, str] | None = None
    """The fingerprint that each filtered shard must have; None if any will do."""
    started: Callable[[int], object] = _tell_nobody
    """Is told how many tars there are."""
    finished: Callable[[ReleaseShard], object] = _tell_nobody
    """Is told of each that is there."""


@dataclass(frozen=True)
class WantedShard:
    """One tar that a release is to have."""

    number: int
    fingerprint: str
    make: Callable[[Target], ReleaseShard]
    """Brings it there, if nobody did yet."""


@dataclass(frozen=True)
class PlannedRelease:
    """A release that is to be: everything but bytes."""

    manifest: Manifest
    """Without tars and documents yet."""
    shards: tuple[PlannedShard, ...]
    previous: Manifest | None
    """The release that it continues, and shares tars with."""
    is_new: bool = True
    """False if the last release has exactly this content; then this is that one."""

    @property
    def fingerprint(self) -> str:
        """Of the content that it is to have."""
        return plan_fingerprint({shard.number: shard.fingerprint for shard in self.shards})


def publish_release(
    output: Storage,
    recipe: Recipe,
    filtered_folder: str,
    shards: Sequence[str],
    options: ReleaseOptions | None = None,
) -> Manifest | None:
    """Make the next release of a recipe's filtered shards.

    Args:
        output: Where the filtered shards are, and where the release goes:
            ``releases/<name>/``.
        recipe: Says how it is packed.
        filtered_folder: Above the filtered shards.
        shards: Their ids, in the order in which they are packed.
        options: For this release.

    Returns:
        What was published; None if the last release has exactly this content.

    Raises:
        InputError: There is nothing to release, or keys collide that are to be preserved.
        ReleaseExistsError: There is a release of that name, with other content.
        ReleaseClaimedError: Another process makes a release of the recipe, or the name.
        StaleError: A filtered shard is made of something else than expected, or changes
            while it is released; or different filters chose them.
        TableError: The filtered shards' vectors are of different encoders.
    """
    options = options or ReleaseOptions()
    series = recipe.release.name or recipe.name
    reader = FilteredReader(output, filtered_folder, recipe.texts.metadata_extensions)
    with claimed(output, "series", series, RELEASING) as claim:
        while True:
            planned = plan_next_release(output, recipe, filtered_folder, shards, options)
            if not planned.is_new:
                return None
            wanted = list(map(wanted_by(planned.previous, reader), planned.shards))
            manifest, content = planned.manifest, planned.fingerprint
            with open_target(claim, manifest, recipe.release, RELEASING, content) as target:
                manifest = bring_shards(target, manifest, wanted, options)
                if count_takedowns(output) == manifest.taken_down:
                    write_manifest(target, manifest)
                    return manifest


@contextmanager
def open_target(
    series: Claim,
    manifest: Manifest,
    settings: ReleaseSettings,
    work: str,
    content: str | None = None,
) -> Iterator[Target]:
    """Claim the name of a release that is to be made, until the block ends.

    Args:
        series: The claim of its series.
        manifest: Of the release.
        settings: How it is packed.
        work: What is done, for others to be told.
        content: The fingerprint of its plan, if others may be writing its tars.

    Yields:
        Where it goes, as long as it is claimed and not published.

    Raises:
        ReleaseClaimedError: Another process is making a release of that name.
        ReleaseExistsError: There is one.
    """
    output, name = series.storage, manifest.name
    target = Target(output, release_folder(name), settings)
    with claimed(output, "names", name, work, takes=plan_token(content or "")) as claim:
        refuse_published(output, name)
        yield guarded(target, name, series, claim)


def guarded(target: Target, name: str, *claims: Claim) -> Target:
    """Give a target that is written to as long as it is claimed, and not published."""

    def check() -> None:
        for claim in claims:
            claim.check()
        refuse_published(target.storage, name)

    return replace(target, check=check)


def plan_next_release(
    output: Storage,
    recipe: Recipe,
    filtered_folder: str,
    shards: Sequence[str],
    options: ReleaseOptions,
) -> PlannedRelease:
    """Decide what the next release of a recipe is to be; nothing is written.

    The same inputs give the same plan, on every machine.

    Args:
        output: As for :func:`publish_release`.
        recipe: As for :func:`publish_release`.
        filtered_folder: As for :func:`publish_release`.
        shards: As for :func:`publish_release`.
        options: As for :func:`publish_release`.

    Raises:
        InputError, ReleaseExistsError, TableError: As :func:`publish_release`.
    """
    settings = recipe.release
    releases = list_releases(output)
    series = settings.name or recipe.name
    previous = last_release(releases, series)
    filtered = read_filtered_shards(
        output, filtered_folder, shards, settings, options.made_of
    )
    encoder = _only_encoder(filtered)
    chosen_by = _chosen_by(filtered, recipe)
    taken_down = read_takedowns(output)
    plan = plan_release(
        filtered,
        settings,
        earlier=_kept_places(output, previous, settings, anew=options.anew),
        excluded=[mask_taken_down(shard, taken_down) for shard in filtered],
    )
    if not plan.shards:
        raise InputError(
            f"{output.url}/{filtered_folder}: there is no sample to release; `curate "
            "preview` shows what keeps them out"
        )
    if previous and _has_all(previous, plan.shards):
        # also if it has the name that is asked for: a killed run may have come so far
        return PlannedRelease(previous, plan.shards, None, is_new=False)
    name = next_name(releases, series, options.name)
    used = {shard for planned in plan.shards for shard in planned.rows}
    manifest = Manifest(
        name=name,
        series=series,
        number=previous.number + 1 if previous else 1,
        previous=previous.name if previous else None,
        created=utc_now(),
        recipe=published_recipe(recipe.model_dump(mode="json") | {"filter": chosen_by}),
        packing=packing(settings),
        encoder=without_places(encoder),
        sources={s.shard: s.source_version for s in filtered if s.shard in used},
        software=software(),
        funnel=_funnel_of(options.funnel, filtered),
        taken_down=len(taken_down),
        num_samples=plan.num_samples,
        num_repeats=count_repeats(one.samples for one in plan.shards),
        next_number=plan.next_number,
        next_position=plan.next_position,
    )
    return PlannedRelease(manifest, plan.shards, previous)


def wanted_by(
    previous: Manifest | None, reader: FilteredReader
) -> Callable[[PlannedShard], WantedShard]:
    """Give what tells how a planned tar comes to be: shared with the last release, or new.

    Args:
        previous: The release before, if there is one.
        reader: Of the filtered shards that the others are written from.
    """
    shared = {}
    if previous:
        shared = {
            (shard.number, shard.fingerprint): partial(share_shard, previous, shard)
            for shard in previous.shards
        }

    def wanted(planned: PlannedShard) -> WantedShard:
        write = partial(write_shard, reader, planned)
        share = shared.get((planned.number, planned.fingerprint))
        make = partial(_share_or_write, share, write) if share else write
        return WantedShard(planned.number, planned.fingerprint, make)

    return wanted


def _share_or_write(
    share: Callable[[Target], ReleaseShard],
    write: Callable[[Target], ReleaseShard],
    target: Target,
) -> ReleaseShard:
    """Share a tar, but write it if the one there is is not whole any more."""
    try:
        return share(target)
    except (ReleaseMismatchError, NotFoundError):
        return write(target)


def count_repeats(tars: Iterable[pa.Table]) -> int:
    """Count the samples of a release's tars that are there again under another key."""
    columns = ["source_shard", "source_key"]
    samples = pa.concat_tables(
        [tar.select(columns).replace_schema_metadata() for tar in tars],
        promote_options="permissive",
    )
    return int(len(samples) - len(samples.group_by(columns).aggregate([])))


def _kept_places(
    output: Storage, previous: Manifest | None, settings: ReleaseSettings, *, anew: bool
) -> Placed:
    """Look up where samples stay: nowhere, if they are packed in another way."""
    if previous is None or anew or previous.packing != packing(settings):
        return NOTHING_PLACED
    return read_placed(output, previous)


def next_name(releases: Sequence[Manifest], series: str, name: str | None) -> str:
    """Choose the name of the next release of a series, or check the one that is given.

    Raises:
        ReleaseExistsError: There is a release of that name.
        InputError: It can't be the name of a folder.
    """
    taken = {manifest.name for manifest in releases}
    last = last_release(list(releases), series)
    if name is None:
        name = f"{series}-{last.number + 1 if last else 1:04d}"
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} can't be the name of a release; use at most 100 letters, digits, "
            "'-', '_' and '.', and begin with a letter or digit"
        )
    if name in taken:
        raise release_exists(name)
    return name


def share_shard(of: Manifest, shard: ReleaseShard, target: Target) -> ReleaseShard:
    """Bring a tar of an earlier release into another one without writing it again.

    Its bytes are not read: ``curate verify`` does that.

    Raises:
        ReleaseMismatchError: A file of it has another size than its manifest says.
        NotFoundError: A file of it is gone.
    """
    for file in shard.files:
        path = f"{of.folder}/{file.path}"
        size = target.storage.stat(path).size
        if size != file.num_bytes:
            raise ReleaseMismatchError(
                f"{target.storage.url}/{path}: it has {size} bytes, and the manifest of "
                f"{of.name} promises {file.num_bytes}; restore it from a copy",
                path=file.path,
            )
    for file in shard.files:
        target.check()
        target.storage.copy(f"{of.folder}/{file.path}", target.path(file.path))
    return shard


def bring_shards(
    target: Target,
    manifest: Manifest,
    wanted: Sequence[WantedShard],
    options: ReleaseOptions,
) -> Manifest:
    """Bring all tars there and describe them: all that a release needs but its manifest.

    Args:
        target: Where to.
        manifest: Without tars and documents yet.
        wanted: The tars.
        options: How many at once, and who is told.

    Returns:
        The manifest, to be written.

    Raises:
        ReleaseClaimedError, ReleaseExistsError: It may not be written any more.
    """
    options.started(len(wanted))
    with ThreadPoolExecutor(options.threads) as threads:
        shards = []
        for shard in threads.map(partial(bring_shard, target), wanted):
            options.finished(shard)
            shards.append(shard)
    manifest = replace(manifest, shards=tuple(shards))
    manifest = replace(manifest, warnings=find_unreadable(target.storage, manifest))
    manifest = _described(target, manifest)
    _delete_strays(target, manifest)
    num_bytes = sum(file.num_bytes for file in manifest.files)
    return replace(manifest, num_bytes=num_bytes)


def bring_shard(target: Target, wanted: WantedShard) -> ReleaseShard:
    """Bring one tar there, unless it is.

    Raises:
        ReleaseClaimedError, ReleaseExistsError: It may not be written any more.
    """
    if found := find_shard(wanted.number, wanted.fingerprint, target):
        return found
    target.check()
    return wanted.make(target)


def software() -> dict[str, str]:
    """Give the versions of what decides about a release's bytes."""
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # not every machine that releases also embeds
            continue
    return found


def utc_now() -> str:
    """Give the time as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _only_encoder(filtered: Sequence[FilteredShard]) -> Any:
    encoder = None
    for shard in filtered:
        if shard.encoder != filtered[0].encoder:
            raise TableError(
                f"{shard.shard} was embedded by {shard.encoder}, {filtered[0].shard} by "
                f"{filtered[0].encoder}; make all filtered shards by one recipe: curate run"
            )
        encoder = shard.encoder
    return encoder


def _chosen_by(filtered: Sequence[FilteredShard], recipe: Recipe) -> str:
    """Give the filter that chose the samples, for the manifest to name.

    It is the recipe's, but where what there is was released as it is, by an earlier one.

    Raises:
        StaleError: Several filters did; the message names two shards and theirs.
    """
    found = {shard.filter or recipe.filter: shard.shard for shard in filtered}
    first, *others = found or {recipe.filter: ""}
    for other in others:
        if not _is_same(first, other):
            raise StaleError(
                f"the filtered shards of {recipe.name} were chosen by several filters, of "
                f"which a release can name one: {found[first]} by {first.strip()!r}, "
                f"{found[other]} by {other.strip()!r}; run `curate run` first"
            )
    return recipe.filter if _is_same(first, recipe.filter) else first


def _is_same(text: str, other: str) -> bool:
    """Tell whether two filters say the same; one that can't be read any more does not."""
    if text == other:
        return True
    try:
        return make_filter(text).fingerprint() == make_filter(other).fingerprint()
    except CurationError:
        return False


def _funnel_of(
    funnel: Funnel | None, filtered: Sequence[FilteredShard]
) -> dict[str, Any] | None:
    """Give the funnel if it is of these samples; decisions may be newer than they are."""
    if funnel is None or funnel.kept != sum(map(len, filtered)):
        return None
    told: dict[str, Any] = without_places(asdict(funnel))
    return told


def _has_all(previous: Manifest, planned: Sequence[PlannedShard]) -> bool:
    """Tell whether a release consists of exactly these tars."""
    there = [(shard.number, shard.fingerprint) for shard in previous.shards]
    return there == [(shard.number, shard.fingerprint) for shard in planned]


def _described(target: Target, manifest: Manifest) -> Manifest:
    """Write the documents for people and for machines that load datasets."""
    storage = target.storage
    found = read_distributions(storage, manifest)
    card = format_card(manifest, found)
    target.check()
    storage.write(target.path(CARD), card.encode())
    storage.write(target.path(CROISSANT), format_croissant(manifest))
    return replace(
        manifest,
        documents=tuple(describe_file(target, name) for name in (CARD, CROISSANT)),
        card_sha256=hashlib.sha256(fixed_part(card).encode()).hexdigest(),
    )


def _delete_strays(target: Target, manifest: Manifest) -> None:
    """Delete what an interrupted run with another plan left."""
    own = {target.path(file.path) for file in manifest.files}
    for file in target.storage.list_files(target.folder):
        if file.path not in own:
            target.check()
            target.storage.delete(file.path)
    for file in target.storage.unfinished(target.folder):
        target.check()
        target.storage.discard(file)

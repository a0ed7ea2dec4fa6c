"""The plan of a release as a file, so that many machines can write its tars.

A plan is made of the small tables of all filtered shards, which nobody needs to read
again: each tar's rows are a group of the file, and whoever writes that tar reads these
alone. Where a tar goes and what it must become is decided here once; whether it came to
be so is told by its fingerprint.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from curation.errors import StaleError
from curation.recipe import ReleaseSettings
from curation.release.claims import claimed, plan_token
from curation.release.plan import PlannedShard, plan_fingerprint, plan_shard
from curation.release.publish import PlannedRelease, guarded
from curation.release.shard import Target
from curation.storage.base import Storage
from curation.tables import RELEASE_PLAN, read_about, read_table, write_table


@dataclass(frozen=True)
class FrozenPlan:
    """What the file says of the whole release."""

    path: str
    release: str
    """Its name."""
    previous: str | None
    """The release that it shares tars with."""
    tars: Mapping[int, str]
    """Number of each tar to its fingerprint, in the order of the groups."""
    rows: Mapping[str, str]
    """For each source shard, the fingerprint of what its rows hold."""

    @property
    def fingerprint(self) -> str:
        """Of the content that the release is to have."""
        return plan_fingerprint(self.tars)


def write_plan(output: Storage, path: str, planned: PlannedRelease) -> FrozenPlan:
    """Write a plan, in place of one that is there.

    Args:
        output: Where the release is to be.
        path: Of the file.
        planned: What is to be published.
    """
    tars = {shard.number: shard.fingerprint for shard in planned.shards}
    rows = {name: made for shard in planned.shards for name, made in shard.rows.items()}
    tables = [shard.samples.select(_COLUMNS) for shard in planned.shards]
    plan = FrozenPlan(
        path,
        planned.manifest.name,
        planned.previous.name if planned.previous else None,
        tars,
        rows,
    )
    write_table(
        output,
        path,
        RELEASE_PLAN,
        pa.concat_tables(tables),
        fingerprint=plan.fingerprint,
        row_groups=[len(table) for table in tables],
        release=plan.release,
        previous=plan.previous,
        tars=list(tars.items()),
        rows=rows,
    )
    return plan


_COLUMNS = [field.name for field in RELEASE_PLAN.columns]


def read_plan(output: Storage, path: str) -> FrozenPlan:
    """Read what a plan says of the whole release.

    Raises:
        NotFoundError: There is none.
        TableError: It can't be read.
    """
    about = read_about(output, path)
    tars = dict(about["tars"])
    return FrozenPlan(path, about["release"], about["previous"], tars, about["rows"])


def read_planned_shard(
    output: Storage, plan: FrozenPlan, number: int, settings: ReleaseSettings
) -> PlannedShard:
    """Read what one tar is to hold.

    Args:
        output: Where the plan is.
        plan: What was read of it.
        number: Of a tar that it has.
        settings: What decides the bytes beside the samples.

    Raises:
        StaleError: The plan was made with other settings, or anew since it was read.
        NotFoundError: It is gone.
        TableError: It can't be read.
    """
    if read_plan(output, plan.path) != plan:
        raise StaleError(f"{output.url}/{plan.path}: it was made anew; run this again")
    group = list(plan.tars).index(number)
    samples = read_table(output, plan.path, RELEASE_PLAN, row_group=group)
    samples = samples.replace_schema_metadata().combine_chunks()
    planned = plan_shard(number, samples, plan.rows, settings)
    if planned.fingerprint != plan.tars[number]:
        raise StaleError(
            f"{output.url}/{plan.path}: the tar {planned.name} was planned with other "
            "settings; make the plan again"
        )
    return planned


@contextmanager
def open_planned(target: Target, plan: FrozenPlan) -> Iterator[Target]:
    """Claim the name of a planned release, with all others who write its tars.

    Args:
        target: Where they go.
        plan: The plan that all of them go by.

    Yields:
        The same, as long as it is claimed and not published.

    Raises:
        ReleaseClaimedError: A release of that name, or of another plan, is under way.
    """
    with claimed(
        target.storage,
        "names",
        plan.release,
        "writing tars of a planned release",
        shared=plan_token(plan.fingerprint),
    ) as claim:
        yield guarded(target, plan.release, claim)

"""Which runs to start next, given what is due.

Shards are embedded and scored each on their own; then all are compared, and the cuts of
the filter found; then each is decided on. A run takes a stretch of partitions, because
that is what Dagster can give a run, and of those only shards that begin at the same asset.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation_assets.lineage import DECISION_ASSETS, IMAGE_ASSETS
from jobs.plan import Causes, Plan

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class NextRun:
    """One run: these assets, for these shards."""

    assets: tuple[str, ...]
    """In the order in which they are made."""
    shards: tuple[str, ...] = ()
    """Neighbours in the order of partitions; none for assets over all shards."""

    @property
    def tags(self) -> dict[str, str]:
        """What tells Dagster the range."""
        if not self.shards:
            return {}
        return {RANGE_START: self.shards[0], RANGE_END: self.shards[-1]}


def next_runs(
    plan: Plan,
    partitions: Sequence[str],
    *,
    shards_per_run: int,
    busy: Collection[str] = (),
    put_off: Collection[str] = (),
) -> list[NextRun]:
    """Choose the runs of the next phase; none if there is nothing to do, or to wait for.

    Args:
        plan: What is due.
        partitions: All shards in Dagster's order.
        shards_per_run: How many one run may take.
        busy: Shards in runs that are queued or under way. While there are any, shards
            are not compared with each other.
        put_off: Shards that are not to be tried now, since they failed or their tar is not
            complete. The others go on without them.
    """
    left_out = set(busy) | set(put_off)
    runs = _per_shard(plan, IMAGE_ASSETS, partitions, left_out, shards_per_run)
    if runs or busy or left_out.issuperset(partitions):
        return runs
    for asset in plan.global_due:
        return [NextRun((asset,))]
    return _per_shard(plan, DECISION_ASSETS, partitions, left_out, shards_per_run)


def _per_shard(
    plan: Plan,
    assets: Sequence[str],
    partitions: Sequence[str],
    left_out: Collection[str],
    shards_per_run: int,
) -> list[NextRun]:
    assets = [asset for asset in assets if asset in plan.due]
    due = {asset: plan.due[asset] for asset in assets}
    starts = {
        shard: start
        for shard in partitions
        if shard not in left_out and (start := _first_due(shard, due)) is not None
    }
    return [
        NextRun(tuple(assets[assets.index(start) :]), stretch)
        for start, stretch in _stretches(starts, partitions, shards_per_run)
    ]


def _first_due(shard: str, due: Mapping[str, Causes]) -> str | None:
    return next((asset for asset, causes in due.items() if shard in causes), None)


def _stretches(
    starts: Mapping[str, str], partitions: Sequence[str], longest: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Cut partitions into neighbours that begin at the same asset."""
    start: str | None = None
    stretch: list[str] = []
    for shard in partitions:
        if stretch and (starts.get(shard) != start or len(stretch) == longest):
            yield start or "", tuple(stretch)
            stretch = []
        start = starts.get(shard)
        if start is not None:
            stretch.append(shard)
    if stretch:
        yield start or "", tuple(stretch)

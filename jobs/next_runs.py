"""Which runs to start next, given what is due.

Shards are embedded and scored each on their own; then all are compared, and the cuts of
the filter found; then each is decided on. A run takes a stretch of partitions, because
that is what Dagster can give a run, and of those only shards that begin at the same asset.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation_assets.lineage import DECISION_ASSETS, IMAGE_ASSETS
from jobs.attempts import RANGE_END, RANGE_START
from jobs.plan import Plan


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
    at_once: Mapping[str, int] | None = None,
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
        at_once: Of shards that failed in company, how many a run may take. They come after
            those that did not fail.
    """
    left_out = set(busy) | set(put_off)
    longest = {shard: (at_once or {}).get(shard, shards_per_run) for shard in partitions}
    runs = _per_shard(plan, IMAGE_ASSETS, longest, left_out)
    if runs or busy or left_out.issuperset(partitions):
        return runs
    for asset in plan.global_due:
        return [NextRun((asset,))]
    return _per_shard(plan, DECISION_ASSETS, longest, left_out)


def first_due(plan: Plan) -> dict[str, str]:
    """Give, for each shard of which anything is due, the first asset that is."""
    starts: dict[str, str] = {}
    for asset in (*IMAGE_ASSETS, *DECISION_ASSETS):
        for shard in plan.due.get(asset, ()):
            starts.setdefault(shard, asset)
    return starts


def _per_shard(
    plan: Plan,
    assets: Sequence[str],
    longest: Mapping[str, int],
    left_out: Collection[str],
) -> list[NextRun]:
    assets = [asset for asset in assets if asset in plan.due]
    starts = first_due(Plan({asset: plan.due[asset] for asset in assets}, {}))
    kinds = {s: (starts[s], longest[s]) for s in longest if s in starts.keys() - left_out}
    stretches = sorted(_stretches(kinds, list(longest)), key=lambda one: -one[0][1])
    return [
        NextRun(tuple(assets[assets.index(start) :]), stretch)
        for (start, _), stretch in stretches
    ]


def _stretches(
    kinds: Mapping[str, tuple[str, int]], partitions: Sequence[str]
) -> Iterator[tuple[tuple[str, int], tuple[str, ...]]]:
    """Cut partitions into neighbours that begin at the same asset.

    Args:
        kinds: For each shard that is to be taken, where it begins, and the length of the
            longest stretch that it may be in.
        partitions: All shards in Dagster's order.
    """
    kind: tuple[str, int] | None = None
    stretch: list[str] = []
    for shard in partitions:
        if kind and stretch and (kinds.get(shard) != kind or len(stretch) == kind[1]):
            yield kind, tuple(stretch)
            stretch = []
        kind = kinds.get(shard)
        if kind is not None:
            stretch.append(shard)
    if kind and stretch:
        yield kind, tuple(stretch)

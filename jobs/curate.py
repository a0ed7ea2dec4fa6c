"""Bring everything up to date, from a terminal: the same assets, instance and records.

Runs are executed in this process, one after the other, so that no daemon is needed and
the model stays loaded; each is recorded like any other, and shows in the UI.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from curation import errors
from curation.errors import (
    CurationError,
    InputError,
    ReleaseClaimedError,
    StaleError,
    StorageError,
    UnknownNameError,
)
from curation.filtered_folder import SET_ASIDE, settle_folder
from curation.recipe import Recipe
from curation.storage import open_storage
from curation_assets.lineage import VERSIONS, Lineage
from curation_assets.ownership import check_owner, claim_output
from curation_assets.partitions import SHARDS
from curation_assets.records_owner import take_records
from curation_assets.run_tags import launch_tags
from jobs.arrivals import Arrivals, find_arrivals
from jobs.asset_definitions import asset_definitions
from jobs.dead_runs import end_dead_runs, process_tag, signs_of_life
from jobs.due_checks import CheckRun, due_checks
from jobs.failure_causes import tell_cause
from jobs.instance import open_instance, set_shards
from jobs.interruptions import Interrupted, noted_signals, nothing_printed
from jobs.next_runs import NextRun, next_runs
from jobs.output_files import output_files
from jobs.plan import Plan, make_plan
from jobs.recipe_check import check_ready, check_recipe
from resources.progress import Progress
from resources.recipe_resources import recipe_objects

ORDER = tuple(VERSIONS)
"""Every asset, in the order in which they are made. A recipe may lack some."""


MOST_NAMED = 5
"""Shards that a message lists."""

_KEEPS_CHANGING = (
    "{} of shard {} was made, and is to be made again: its source changes while it is "
    "curated; wait until the tars are complete"
)


@dataclass
class CurateResult:
    """What a call of :func:`curate` did."""

    num_runs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by asset."""
    failed: dict[str, str] = field(default_factory=dict)
    """Shard to the reason why it could not be made."""
    waiting: tuple[str, ...] = ()
    """Shards of which nothing new was made, since their tar is not complete yet."""
    set_aside: tuple[str, ...] = ()
    """Shards that are gone from the source, and whose filtered shards were set aside."""
    taken_over: str | None = None
    """What is to be told where the records were those of another recipe."""

    def __add__(self, later: "CurateResult") -> "CurateResult":
        """Put two calls together."""
        seconds = dict(self.seconds)
        for asset, spent in later.seconds.items():
            seconds[asset] = seconds.get(asset, 0) + spent
        runs = self.num_runs + later.num_runs
        failed, aside = self.failed | later.failed, self.set_aside + later.set_aside
        taken = self.taken_over or later.taken_over
        return CurateResult(runs, seconds, failed, later.waiting, aside, taken)

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def curate(
    recipe: Recipe,
    progress: Progress,
    *,
    shards: Sequence[str] | None = None,
    until: str = ORDER[-1],
    instance: dg.DagsterInstance | None = None,
) -> CurateResult:
    """Make whatever is missing or stale.

    Args:
        recipe: What to make.
        progress: Who is told.
        shards: Only these; by default all that are complete at the source.
        until: The last asset to make.
        instance: Holds the records; by default the recipe's own.

    Raises:
        InputError: Something that a person must change stands in the way.
        StorageError: Storage failed, and kept failing.
        CurationError: A run ended for a reason that is none of one shard.
    """
    check_recipe(recipe)
    if until not in (assets := Lineage(recipe).assets):
        raise UnknownNameError.among("asset", until, assets)
    with open_runner(recipe, progress, instance) as runner:
        instance, result = runner.instance, runner.result
        arrivals = find_arrivals(instance, recipe)
        chosen = set(arrivals.versions if shards is None else shards)
        result.waiting = arrivals.waiting
        lineage, output = Lineage(recipe), open_storage(recipe.output, recipe.s3)
        check_owner(instance, output, lineage)
        set_shards(instance, arrivals.versions)
        # first: what is gone may not wait for what is new, which may fail
        result.set_aside = _settle(recipe, arrivals)
        executed: set[NextRun] = set()
        while True:
            plan = _plan(instance, recipe, arrivals, chosen, until)
            put_off = {*result.failed, *arrivals.waiting}
            if not (runs := _next(instance, recipe, plan, put_off)):
                break
            if not executed:
                # whatever is made of the first runs' shards will be due after them
                first = min(ORDER.index(asset) for run in runs for asset in run.assets)
                check_ready(recipe, ORDER[first : ORDER.index(until) + 1])
                claim_output(instance, output, lineage)
            for run in runs:
                if run in executed:
                    raise StaleError(_KEEPS_CHANGING.format(run.assets[0], run.shards[:1]))
                executed.add(run)
                runner.execute(run)
        claim_output(instance, output, lineage)
        # what a run that ended meanwhile left, or a folder that was made anew
        result.set_aside += _settle(recipe, arrivals)
        for checks in due_checks(instance, lineage, chosen, plan.due):
            runner.execute_checks(checks)
    return runner.result


def _settle(recipe: Recipe, arrivals: Arrivals) -> tuple[str, ...]:
    output = open_storage(recipe.output, recipe.s3)
    folder = Lineage(recipe).artifacts.filtered_folder
    return tuple(settle_folder(output, folder, arrivals.tars, arrivals.unseen))


def tell_set_aside(recipe: Recipe, shards: Sequence[str]) -> str:
    """Say what became of filtered shards whose raw shard is gone; there is at least one."""
    more = f" and {len(shards) - MOST_NAMED} more" if len(shards) > MOST_NAMED else ""
    return (
        f"{len(shards)} shard(s) are no longer in {recipe.shown_source}: "
        f"{', '.join(shards[:MOST_NAMED])}{more}. Their filtered shards were moved to "
        f"{recipe.output}/{SET_ASIDE}/{recipe.name}, which `curate prune` deletes"
    )


def _next(
    instance: dg.DagsterInstance, recipe: Recipe, plan: Plan, put_off: Collection[str]
) -> list[NextRun]:
    return next_runs(
        plan,
        instance.get_dynamic_partitions(SHARDS.name or ""),
        shards_per_run=recipe.machine.shards_per_run,
        put_off=put_off,
    )


def _plan(
    instance: dg.DagsterInstance,
    recipe: Recipe,
    arrivals: Arrivals,
    chosen: Collection[str],
    until: str,
) -> Plan:
    """Plan what is to be made of the chosen shards, up to the last asset."""
    lineage = Lineage(recipe)
    plan = make_plan(instance, lineage, arrivals.versions, output_files(lineage, instance))
    wanted = ORDER[: ORDER.index(until) + 1]
    return Plan(
        {
            asset: {shard: cause for shard, cause in causes.items() if shard in chosen}
            for asset, causes in plan.due.items()
            if asset in wanted
        },
        {asset: cause for asset, cause in plan.global_due.items() if asset in wanted},
    )


@dataclass(frozen=True)
class Runner:
    """Executes runs in this process, and notes what came of them."""

    job: dg.JobDefinition
    instance: dg.DagsterInstance
    tags: Mapping[str, str]
    """Of every run."""
    result: CurateResult

    def execute(self, run: NextRun) -> None:
        """Execute one run; partitions that fail are noted, anything else is raised."""
        before = len(self.result.failed)
        assets = [dg.AssetKey(asset) for asset in run.assets]
        done = self._execute(self.job, run.tags, assets)
        if done.success:
            for partition in run.shards:  # perhaps it failed, and Dagster tried it again
                self.result.failed.pop(partition, None)
            return
        tell_cause(self.instance, done.dagster_run)
        if len(self.result.failed) == before:
            raise run_error(done)

    def execute_checks(self, run: CheckRun) -> None:
        """Execute a run of checks alone."""
        job = self.job.get_subset(
            asset_selection=set(), asset_check_selection={*run.checks}
        )
        done = self._execute(job, run.tags)
        if not done.success:
            tell_cause(self.instance, done.dagster_run)
            raise run_error(done)

    def _execute(
        self,
        job: dg.JobDefinition,
        tags: Mapping[str, str],
        assets: Sequence[dg.AssetKey] | None = None,
    ) -> dg.ExecuteInProcessResult:
        with nothing_printed(), noted_signals() as signals:
            done = job.execute_in_process(
                instance=self.instance,
                asset_selection=assets,
                tags={**tags, **self.tags},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        self._note(done)
        if signals:
            raise Interrupted(signals[0])
        return done

    def _note(self, done: dg.ExecuteInProcessResult) -> None:
        result = self.result
        result.num_runs += 1
        for event in done.all_events:
            if event.is_step_success and event.step_key:
                spent = event.step_success_data.duration_ms / 1000
                step = event.step_key if event.step_key in VERSIONS else "checks"
                result.seconds[step] = result.seconds.get(step, 0) + spent


@contextmanager
def open_runner(
    recipe: Recipe, progress: Progress, instance: dg.DagsterInstance | None = None
) -> Iterator[Runner]:
    """Make ready to execute runs over the assets of a recipe.

    Args:
        recipe: Whose assets.
        progress: Who is told.
        instance: Holds the records; by default the recipe's own.
    """
    result = CurateResult()
    handed = {**recipe_objects(recipe), "progress": _Watcher(progress, result.failed)}
    definitions = asset_definitions(recipe, **handed)  # checked by whoever plans the runs
    job = definitions.resolve_implicit_global_asset_job_def()
    with nullcontext(instance) if instance else open_instance(recipe) as instance:
        result.taken_over = take_records(instance, recipe)
        tags = launch_tags(Lineage(recipe)) | process_tag()
        end_dead_runs(instance)
        with signs_of_life(instance):
            yield Runner(job, instance, tags, result)


class _Watcher(Progress):
    """Passes progress on, and notes which shards failed and why."""

    def __init__(self, progress: Progress, failed: dict[str, str]) -> None:
        self._progress = progress
        self.failed = failed

    def start(self, asset: str, num_shards: int) -> None:
        self._progress.start(asset, num_shards)

    def move(self, shard: str, num_samples: int, total: int) -> None:
        self._progress.move(shard, num_samples, total)

    def advance(self, shard: str, num_samples: int) -> None:
        self._progress.advance(shard, num_samples)

    def fail(self, shard: str, reason: str) -> None:
        self.failed[shard] = reason
        self._progress.fail(shard, reason)


def run_error(done: dg.ExecuteInProcessResult) -> CurationError:
    """Give the error that ended a run, of its own class if it is one of this package."""
    failures = [
        event.step_failure_data for event in done.all_events if event.is_step_failure
    ]
    if not failures:
        return CurationError("the run ended early; the Dagster UI has its log")
    told = failures[0].user_failure_data
    error = failures[0].error
    while error is not None:
        kind = getattr(errors, error.cls_name or "", None)
        if isinstance(kind, type) and issubclass(kind, CurationError):
            text = error.message.partition(": ")[2].strip()
            return _OF_CLASS.get(kind, CurationError)(text)
        error = error.cause
    text = (told.description if told else None) or failures[0].error_display_string
    return CurationError(text)


_OF_CLASS: dict[type[CurationError], type[CurationError]] = {
    kind: kind
    for kind in (
        InputError,
        UnknownNameError,
        StorageError,
        StaleError,
        ReleaseClaimedError,
    )
}
"""Classes that decide about the exit code, and can be made of a message alone."""

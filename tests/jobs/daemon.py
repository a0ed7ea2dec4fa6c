"""Dagster's daemon in miniature: what a tick asks for is done at once, in this process."""

from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.run_request import RunRequest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from curation.recipe import Recipe
from jobs.definitions import build_definitions

SENSOR = "new_shards"
FIRST = "dagster/asset_partition_range_start"

RunDone = tuple[str, list[str]]
"""The first of a run's shards, ``all`` where it has none, and the assets that it made."""


@dataclass
class Daemon:
    """Ticks of the sensor ``new_shards`` and of schedules, evaluated as Dagster does."""

    instance: dg.DagsterInstance
    recipe: Recipe
    cursor: str | None = None
    keys: set[str] = field(default_factory=set)
    """Of all runs that the sensor asked for: none is started twice."""

    def __post_init__(self) -> None:
        self.load(self.recipe)

    def load(self, recipe: Recipe) -> None:
        """Load the code location, at first or for a recipe that was edited."""
        self.recipe = recipe
        self.code = build_definitions(recipe).get_repository_def()

    def tick(self) -> SensorExecutionData:
        """Evaluate the sensor; keep its cursor, and change partitions as it says."""
        context = dg.build_sensor_context(
            self.instance, self.cursor, repository_def=self.code, sensor_name=SENSOR
        )
        result = self.code.get_sensor_def(SENSOR).evaluate_tick(context)
        self.cursor = result.cursor
        for change in result.dynamic_partitions_requests or []:
            name, keys = change.partitions_def_name, list(change.partition_keys)
            if isinstance(change, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(name, keys)
            else:
                for key in keys:
                    self.instance.delete_dynamic_partition(name, key)
        return result

    def run(self) -> list[RunDone]:
        """Tick, and execute what is new."""
        new = [r for r in self.tick().run_requests or [] if r.run_key not in self.keys]
        for request in new:
            self.keys.add(request.run_key or "")
            self.execute(request, request.job_name)
        return [(r.tags.get(FIRST, "all"), assets_of(r)) for r in new]

    def schedule(self, name: str) -> None:
        """Evaluate a schedule, and execute what it asks for."""
        schedule = self.code.get_schedule_def(name)
        context = dg.build_schedule_context(self.instance, repository_def=self.code)
        for request in schedule.evaluate_tick(context).run_requests or []:
            self.execute(request, schedule.job_name)

    def execute(self, request: RunRequest, job: str | None) -> None:
        """Execute a run; one that fails is on record as such."""
        self.code.get_job(job or "__ASSET_JOB").execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or []) or None,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def create(self, request: RunRequest) -> dg.DagsterRun:
        """Put a run on record that does not get as far as its first step."""
        job = self.code.get_job("__ASSET_JOB")
        selection = frozenset(request.asset_selection or [])
        return self.instance.create_run_for_job(
            job.get_subset(asset_selection=selection),
            asset_selection=selection,
            tags=dict(request.tags),
            status=dg.DagsterRunStatus.STARTING,
        )


def assets_of(request: RunRequest) -> list[str]:
    """Name the assets of a run that was asked for, in order."""
    return [key.to_user_string() for key in request.asset_selection or []]

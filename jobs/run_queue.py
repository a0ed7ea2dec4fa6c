"""The order of queued runs, and what each asks of the cluster.

Whoever starts a run (a click, a sensor, a backfill, a retry) passes through the instance's
run coordinator. So that is the place that puts what a person waits for first, the one that
can ask for a GPU for exactly those runs that embed, and the one that no run of a process
that is gone may hold up. What is asked for, and in the words of which cluster, is the
instance's setting (``deploy/*/dagster.yaml``); the code location knows nothing of it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._serdes import ConfigurableClassData

from curation_assets.run_tags import PRIORITY
from jobs.dead_runs import end_dead_runs

BACKFILL = "dagster/backfill"
BACKFILL_PRIORITY = "-2"
"""After the sensor's runs, of which there are few at a time."""

Tags = Mapping[str, Any]


class RunQueue(QueuedRunCoordinator[dg.DagsterInstance]):
    """Dagster's queue, which tags a run for where it comes from and for its steps.

    A backfill's runs are made by Dagster's daemon, and come last unless the backfill was
    launched with a priority; the sensor and the schedules tag their runs themselves. Tags
    that a run has already stay as they are.

    Args:
        tags_of_steps: Name of a step, which is its asset's, to the tags of runs with it. A
            value that is no text is written as JSON, as launchers expect it.
        inst_data: How Dagster writes this object down.
        queue: What :class:`dagster.QueuedRunCoordinator` takes.

    Source:
        https://docs.dagster.io/deployment/execution/customizing-run-queue-priority, for
        the place at which a queue may be changed.
    """

    def __init__(
        self,
        tags_of_steps: Mapping[str, Tags] | None = None,
        inst_data: ConfigurableClassData | None = None,
        **queue: Any,
    ) -> None:
        super().__init__(inst_data=inst_data, **queue)
        self.tags_of_steps = tags_of_steps or {}

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        queue: Any = super().config_type()
        return {**queue, "tags_of_steps": dg.Field(dict, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(inst_data=inst_data, **config_value)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        end_dead_runs(
            self._instance
        )  # they would count as under way, and keep this waiting
        tags = step_tags(self.tags_of_steps, _steps_to_execute(self._instance, run))
        if BACKFILL in run.tags:
            tags[PRIORITY] = BACKFILL_PRIORITY
        added = {name: value for name, value in tags.items() if name not in run.tags}
        if added:
            self._instance.add_run_tags(run.run_id, added)
        return super().submit_run(context)


def step_tags(tags_of_steps: Mapping[str, Tags], steps: Iterable[str]) -> dict[str, str]:
    """Put together the tags of a run from those of its steps, as text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for step in steps
        for name, value in tags_of_steps.get(step, {}).items()
    }


def _steps_to_execute(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """List the steps of a run; a retry has only those that failed, and what follows."""
    if run.execution_plan_snapshot_id is None:
        return list(run.step_keys_to_execute or ())
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    return list(plan.step_keys_to_execute)

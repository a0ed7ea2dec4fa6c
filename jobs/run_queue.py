"""The order of queued runs: what someone launched and waits for comes first.

The sensor and the schedules tag their runs themselves. A backfill's runs are made by
Dagster's daemon, with the tags of whoever launched it, so they are tagged when they are
put in the queue. ``dagster.yaml`` names this queue.
"""

from dagster import DagsterRun
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

from curation_assets.run_tags import PRIORITY

BACKFILL = "dagster/backfill"
BACKFILL_PRIORITY = "-2"
"""After the sensor's runs, of which there are few at a time."""


class InteractiveFirst(QueuedRunCoordinator):
    """Dagster's queue, with backfills last unless they were launched with a priority."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Put a run in the queue."""
        run = context.dagster_run
        if BACKFILL in run.tags and PRIORITY not in run.tags:
            self._instance.add_run_tags(run.run_id, {PRIORITY: BACKFILL_PRIORITY})
        return super().submit_run(context)

"""Why a run failed, in one paragraph on its page: which shards, why, and what to do.

Dagster shows stack traces, and of a run whose process was killed nothing at all. So each
failed run gets an event in its log, and a tag for lists of runs. A sensor does it for runs
that Dagster executes, whatever ended them, and ``jobs/curate.py`` for its own.
"""

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.plan.objects import StepFailureData

CAUSE = "curation/cause"
MOST_TOLD = 5  # shards, or steps
MOST_CHARACTERS = 100  # of the tag

_AGAIN = (
    "What was recorded before is kept. Mend what is named here, then launch the run again, "
    "or `curate run`: only what is missing is made."
)
_REPORT = "This is a fault of the program: please report it with the step's log."
_ENDED = (
    "No step failed: the run's process did not start, was killed, or ran out of memory. "
    "Look at its last lines under Compute logs, and at the machine's memory; fewer "
    "`machine.workers` or a smaller `machine.batch_size` need less."
)


def failure_causes_sensor() -> dg.SensorDefinition:
    """Define the sensor ``failure_causes``. It is on wherever Dagster's daemon is."""

    @dg.run_failure_sensor(
        name="failure_causes",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes into the log of each failed run which shards failed, why, and "
        f"what to do, and the start of that into its tag `{CAUSE}`.",
    )
    def failure_causes(context: dg.RunFailureSensorContext) -> None:
        tell_cause(context.instance, context.dagster_run)

    return failure_causes


def tell_cause(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Write down why a run failed: into its log, and the start of it into a tag."""
    cause = failure_cause(instance, run)
    instance.report_engine_event(cause, run)
    instance.add_run_tags(run.run_id, {CAUSE: cause[:MOST_CHARACTERS]})


def failure_cause(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Put what ended a run, and what to do about it, into one paragraph."""
    failures = _events(instance, run, DagsterEventType.STEP_FAILURE)
    if not failures:
        ends = _events(instance, run, DagsterEventType.RUN_FAILURE)
        return " ".join([_ENDED, *(end.message or "" for end in ends), _AGAIN])
    told = [
        f"{event.step_key}: {_reason(event.step_failure_data)}"
        for event in failures[:MOST_TOLD]
    ]
    if any(_is_a_fault(event.step_failure_data) for event in failures):
        told.append(_REPORT)
    return " ".join([*told, _AGAIN])


def _events(
    instance: dg.DagsterInstance, run: dg.DagsterRun, kind: DagsterEventType
) -> list[DagsterEvent]:
    records = instance.get_records_for_run(run.run_id, of_type=kind).records
    events = [record.event_log_entry.dagster_event for record in records]
    return [event for event in events if event is not None]


def _reason(failure: StepFailureData) -> str:
    """Give the innermost error's message on one line, with the first of its shards."""
    told = failure.user_failure_data
    text = told.description if told else None
    if text is None:
        error = failure.error
        while error and error.cause:
            error = error.cause
        text = error.message if error else failure.error_display_string
        text = text if _is_a_fault(failure) else text.partition(": ")[2]  # the class
    head, *shards = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if len(shards) > MOST_TOLD:
        shards[MOST_TOLD:] = [f"and {len(shards) - MOST_TOLD} more"]
    end = "" if text.rstrip().endswith(".") else "."
    return f"{head} {'; '.join(shards)}".strip() + end


def _is_a_fault(failure: StepFailureData) -> bool:
    """Tell whether a step ended otherwise than ``curation_assets/failures.py`` ends one."""
    tried_enough = failure.error and failure.error.cls_name == "RetryRequested"
    return failure.user_failure_data is None and not tried_enough

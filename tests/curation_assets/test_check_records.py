"""What checks found is known of every shard in the version that it has."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from curation.recipe import Recipe
from curation_assets.check_records import (
    RECORDS_AT_ONCE,
    Check,
    check_result,
    found_before,
    read_record,
)
from curation_assets.lineage import Lineage

CHECK = Check("scores", "are_good", "Scores are good.", "make them good", bound="max_drift")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def lineage(max_drift: float = 0.25) -> Lineage:
    checks = {"max_drift": max_drift}
    settings = {"name": "n", "source": "/s", "output": "/o", "checks": checks}
    return Lineage(Recipe.model_validate(settings))


def evaluate(
    instance: dg.DagsterInstance,
    check: Check,
    versions: dict[str, str],
    found: dict[str, list[str]],
) -> dg.AssetCheckResult:
    """Record a result as a run would."""
    marks = check.marks(lineage(), versions)
    result = check_result(check, marks, found, {}, {})
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(check.asset),
            check_name=check.name,
            passed=bool(result.passed),
            metadata=result.metadata,
        )
    )
    return result


def known(
    instance: dg.DagsterInstance,
    check: Check,
    versions: dict[str, str],
    drift: float = 0.25,
) -> tuple[dict[str, list[str]], set[str]]:
    record = read_record(instance, check.key, check.marks(lineage(drift), versions))
    return record.found, record.unchecked


def test_the_newest_result_of_each_shard_counts_whichever_run_made_it(
    instance: dg.DagsterInstance,
) -> None:
    check = replace(CHECK, name="newest")
    evaluate(instance, check, {"a": "1", "b": "1"}, {"a": ["bad"], "b": ["bad"]})
    evaluate(instance, check, {"b": "1", "c": "1"}, {"b": [], "c": ["worse"]})
    versions = {"a": "1", "b": "1", "c": "1"}
    assert known(instance, check, versions) == ({"a": ["bad"], "c": ["worse"]}, set())
    assert found_before(instance, lineage(), check, versions, ["c"]) == {"a": ["bad"]}


def test_another_version_or_another_bound_was_not_looked_at(
    instance: dg.DagsterInstance,
) -> None:
    check = replace(CHECK, name="versions")
    evaluate(instance, check, {"a": "1"}, {"a": ["bad"]})
    assert known(instance, check, {"a": "2", "b": "1"}) == ({}, {"a", "b"})
    assert known(instance, check, {"a": "1"}, drift=0.5) == ({}, {"a"})
    evaluate(instance, check, {"a": "2"}, {})
    assert known(instance, check, {"a": "1"}) == ({"a": ["bad"]}, set())  # as it was


def test_results_are_looked_through_to_the_first(instance: dg.DagsterInstance) -> None:
    check = replace(CHECK, name="many")
    evaluate(instance, check, {"first": "1"}, {"first": ["bad"]})
    for number in range(RECORDS_AT_ONCE + 1):
        evaluate(instance, check, {str(number): "1"}, {})
    assert known(instance, check, {"first": "1"}) == ({"first": ["bad"]}, set())
    assert known(instance, check, {"never": "1"}) == ({}, {"never"})


def test_results_of_before_there_were_such_records_tell_nothing(
    instance: dg.DagsterInstance,
) -> None:
    check = replace(CHECK, name="old")
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("scores"), check_name="old", passed=True
        )
    )
    assert known(instance, check, {"a": "1"}) == ({}, {"a"})


def test_a_result_tells_its_own_first_then_what_is_known_of_others() -> None:
    result = check_result(CHECK, {}, {"b": ["bad"], "c": []}, {"a": ["worse"]}, {})
    assert not result.passed
    assert (result.description or "").splitlines() == [
        "b: bad",
        "a: worse",
        "What to do: make them good",
    ]
    assert check_result(CHECK, {}, {"c": []}, {}, {}).passed

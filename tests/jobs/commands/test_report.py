"""``curate report``."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from jobs.instance import open_instance
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_the_page_lies_under_the_output(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    told = run_json("report", "--recipe", curated.recipe_file)
    page = curated.output.read("reports/small.html")
    assert told["bytes"] == len(page)
    assert told["url"].endswith("/reports/small.html")
    assert page.startswith(b"<!doctype html>")


def test_the_asset_leads_to_it_and_is_no_staler_for_it(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    told = run_json("report", "--recipe", curated.recipe_file)
    with open_instance(curated.recipe) as instance:
        seen = instance.fetch_observations(dg.AssetKey("selection"), limit=1)
    observed = seen.records[0].asset_observation
    assert observed is not None
    assert observed.metadata["report"] == dg.MetadataValue.path(told["url"])
    status = run_json("status", "--recipe", curated.recipe_file)
    assert not any(status["due"].values())


def test_people_are_told_where_it_is(curated: Curated, run: Run) -> None:
    code, out = run("report", "--recipe", curated.recipe_file)
    assert (code, "reports/small.html" in out) == (0, True)

"""``curate report``: a selection as one HTML page."""

from pathlib import Path

import dagster as dg

from curation.recipe import load_recipe
from curation.report import format_report
from curation.storage import open_storage
from curation_assets.lineage import Lineage
from jobs.console import print_json, print_result
from jobs.instance import open_instance
from jobs.options import JsonOption, RecipeOption
from jobs.report import make_report


def report(recipe: RecipeOption = Path("recipe.yaml"), as_json: JsonOption = False) -> None:
    """Write a page with what is selected: funnel, histograms, pictures, copies."""
    settings = load_recipe(recipe)
    page = format_report(make_report(settings)).encode()
    output = open_storage(settings.output, settings.s3)
    path = Lineage(settings).artifacts.report
    output.write(path, page)
    url = f"{output.url}/{path}"
    with open_instance(settings) as instance:  # so that the asset's page leads to it
        instance.report_runless_asset_event(
            dg.AssetObservation("selection", metadata={"report": _link(url)})
        )
    if as_json:
        print_json({"url": url, "bytes": len(page)})
    else:
        print_result(f"written to {url}")


def _link(url: str) -> dg.MetadataValue:
    if "://" in url:
        return dg.MetadataValue.url(url)
    return dg.MetadataValue.path(url)

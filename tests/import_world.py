"""A recipe that imports a folder of images and a list of URLs of a real web server."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.event_api import AssetRecordsFilter

from jobs.asset_definitions import asset_definitions
from jobs.curate import CurateResult, curate
from jobs.imports import bring_imports
from jobs.next_runs import NextRun
from resources.progress import LineProgress
from tests.conftest import Curated
from tests.curation.ingest.web_server import WebServer, photograph

RECIPE = """\
name: importing
source: raw
output: curated
imports:
  images:
    photos: {folder: photos, samples_per_shard: 2}
  urls:
    web: {list: list.csv, samples_per_shard: 2, allow_private_addresses: true}
encoder: {precision: fp32}
duplicates: {exact: false}
machine: {device: cpu, workers: 1}
"""


@dataclass(frozen=True)
class ImportWorld(Curated):
    """A folder with that recipe, and the server that its list is of."""

    server: WebServer

    def list_urls(self, *paths: str) -> None:
        """Write the list anew."""
        urls = "".join(f"{self.server.url}{path},of {path}\n" for path in paths)
        (self.folder / "list.csv").write_text(f"url,caption\n{urls}")

    def add_photos(self, *numbers: int) -> None:
        """Put images into the folder."""
        (self.folder / "photos").mkdir(exist_ok=True)
        for number in numbers:
            (self.folder / "photos" / f"{number}.jpg").write_bytes(photograph(number))

    def bring(self, instance: dg.DagsterInstance, *, retry: bool = False) -> CurateResult:
        """Import what is due, and record the shards."""
        result = bring_imports(
            self.recipe, LineProgress(print), retry_urls=retry, instance=instance
        )
        return result + curate(
            self.recipe, LineProgress(print), until="raw_shard", instance=instance
        )


def materialize(
    world: ImportWorld, instance: dg.DagsterInstance, asset: str, *partitions: str
) -> dg.ExecuteInProcessResult:
    """Make partitions of one asset, with its checks."""
    definitions = asset_definitions(world.recipe, progress=LineProgress(print))
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        tags=NextRun((asset,), partitions).tags,
        raise_on_error=False,
    )


def materialized(instance: dg.DagsterInstance, *assets: str) -> Sequence[str]:
    """Name the partitions of all materializations of assets, in their order."""
    records = [
        record
        for asset in assets
        for record in instance.fetch_materializations(
            AssetRecordsFilter(dg.AssetKey(asset)), limit=1000
        ).records
    ]
    ordered = sorted(records, key=lambda record: record.storage_id)
    return [record.partition_key or "" for record in ordered]

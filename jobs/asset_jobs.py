"""Jobs with names: the stretches of the graph that people launch for chosen shards.

What is in a job is a matter of a recipe's assets. Bringing everything up to date, in the
order that a new shard's copies in other shards ask for, is ``jobs/curate.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from curation.recipe import Recipe
from curation_assets.lineage import IMPORT_ASSETS, Lineage
from curation_assets.release import RELEASE
from curation_assets.run_tags import launch_tags

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

_WITH_A_MODEL = ("raw_shard", "shard_index", "embeddings", "caption_embeddings")
_BEFORE_SCORES = (*IMPORT_ASSETS, *_WITH_A_MODEL)


@dataclass(frozen=True)
class AssetJob:
    """A job over some assets of a recipe."""

    assets: Callable[[Sequence[str]], Sequence[str]]
    """Chooses among the recipe's assets; if there is none of them, nor is the job."""
    description: str


IMPORT_JOBS = {"imported_images": "import_images", "imported_urls": "import_urls"}
"""Each import asset's job, of its own since their partitions differ."""

ASSET_JOBS = {
    "import_images": AssetJob(
        lambda assets: [asset for asset in assets if asset == "imported_images"],
        "Raw shards of the chosen folders and lists of images. Shards that are there are "
        "brought up to date.",
    ),
    "import_urls": AssetJob(
        lambda assets: [asset for asset in assets if asset == "imported_urls"],
        "Raw shards of the chosen lists of URLs. Of what is there already, URLs that "
        "failed are fetched again.",
    ),
    "curate_shards": AssetJob(
        lambda assets: [asset for asset in assets if asset not in IMPORT_ASSETS],
        "From raw shard to filtered shard for the chosen partitions. Each run compares "
        "all shards that are embedded by then, so that of several runs the last one may "
        "change the duplicates of shards that an earlier one decided on: they become "
        "stale, and `curate run`, `nightly_curation` or the sensor decides them anew.",
    ),
    "embed_only": AssetJob(
        lambda assets: [asset for asset in assets if asset in _WITH_A_MODEL],
        "Everything that opens images and runs a model: index and embeddings, of captions "
        "too where the recipe has them. Nothing is scored or decided. For a machine with "
        "GPUs; the rest can follow on another.",
    ),
    "rescore": AssetJob(
        lambda assets: [asset for asset in assets if asset not in _BEFORE_SCORES],
        "Scores, duplicates, selection and filtered shards of what is embedded. Opens no "
        "image and runs no encoder: for other classifiers, thresholds or filters.",
    ),
    RELEASE: AssetJob(
        lambda _: [RELEASE],
        "Publishes the filtered shards of all partitions as the next release. Its config "
        "says under which name, and whether all tars are packed anew.",
    ),
}
"""By name, what is in each."""


def asset_jobs(recipe: Recipe) -> "list[UnresolvedAssetJobDefinition]":
    """Define the named jobs of a recipe."""
    lineage = Lineage(recipe)
    chosen = {
        name: job.assets((*lineage.imports, *lineage.assets))
        for name, job in ASSET_JOBS.items()
    }
    return [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*assets),
            description=ASSET_JOBS[name].description,
            tags=launch_tags(lineage),
        )
        for name, assets in chosen.items()
        if assets
    ]

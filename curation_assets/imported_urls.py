"""Raw shards from the web: a partition for each list of URLs that the recipe names.

Materializing a partition again fetches those URLs that failed, and no others.
"""

import dagster as dg

from curation.ingest.shard_layout import ShardLayout
from curation.ingest.urls import add_up, import_urls, read_urls
from curation.storage import Storage, open_stored_file
from curation_assets.imports import (
    import_options,
    reason_table,
    record_imports,
    recorded_number,
)
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import AssetEvents, Metadata, recorded_versions
from resources.progress import Progress

FAILED = "failed"
"""Metadata entry: how many URLs of the list have no image."""
ADVICE = (
    "look at the reasons in the import's metadata; `curate run --retry-urls`, or "
    "materializing it again, fetches those that failed once more. Raise "
    "checks.max_failed_urls if that many are known to be gone."
)


def imported_urls_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``imported_urls`` for a recipe that names lists of URLs."""
    recipe = lineage.recipe

    @dg.asset(
        **import_options(lineage, "imported_urls"),
        kinds={"webdataset", "parquet"},
        description="The images of a list of URLs as raw shards, and a table beside each "
        "that says what became of every URL. Its data version is the list's file with the "
        "settings. Made again, it fetches only what failed.",
    )
    def imported_urls(
        context: dg.AssetExecutionContext, progress: dg.ResourceParam[Progress]
    ) -> AssetEvents:
        def bring(name: str, folder: Storage) -> Metadata:
            settings = recipe.imports.urls[name]
            lists, path = open_stored_file(settings.list, recipe.s3)
            urls = read_urls(lists, path, ShardLayout(settings.samples_per_shard))
            progress.start(f"imported_urls {name}", len(urls.shards))
            done = import_urls(
                urls, folder, settings, lambda of: progress.advance(of.shard, of.num_images)
            )
            whole = add_up(done)
            return {
                "samples": whole.num_images,
                "bytes": whole.num_bytes,
                "list": settings.list,
                "urls": whole.num_urls,
                "fetched": whole.num_fetched,
                FAILED: whole.num_urls - whole.num_images,
                "failed_for": reason_table(whole.errors),
            }

        yield from record_imports(context, lineage, progress, bring)

    return imported_urls


def few_urls_failed_check(lineage: Lineage) -> dg.AssetChecksDefinition:
    """Define the check of how many URLs failed."""
    bound = lineage.recipe.checks.max_failed_urls

    @dg.asset_check(
        asset="imported_urls",
        name="few_urls_failed",
        description="No more of a list's URLs failed than checks.max_failed_urls of the "
        f"recipe allows. If not: {ADVICE}",
    )
    def few_urls_failed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        if context.has_partition_key or context.has_partition_key_range:
            names = list(context.partition_keys)
        else:
            recorded = recorded_versions(context.instance, "imported_urls")
            names = [name for name in lineage.recipe.imports.urls if name in recorded]
        failed = {n: failed_urls(context.instance, n) for n in names}
        urls = {
            n: recorded_number(context.instance, "imported_urls", n, "urls") for n in names
        }
        told = [
            f"{n}: {failed[n]:,} of {urls[n]:,} URLs failed ({failed[n] / urls[n]:.0%})"
            for n in names
            if failed[n] > bound * urls[n]
        ]
        return dg.AssetCheckResult(
            passed=not told,
            severity=dg.AssetCheckSeverity.WARN,
            description="\n".join([*told, f"What to do: {ADVICE}"]) if told else None,
            metadata={"urls": sum(urls.values()), "failed": sum(failed.values())},
        )

    return few_urls_failed


def failed_urls(instance: dg.DagsterInstance, name: str) -> int:
    """Look up how many URLs of a list had no image when it was last imported."""
    return recorded_number(instance, "imported_urls", name, FAILED)

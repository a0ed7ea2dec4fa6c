"""Raw shards from the web: a partition for each list of URLs that the recipe names.

Materializing a partition again fetches those URLs that failed, and no others.
"""

import dagster as dg

from curation.ingest.shard_layout import ShardLayout
from curation.ingest.urls import add_up, import_urls, read_urls
from curation.public_urls import without_secrets
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
                "list": without_secrets(settings.list),
                "urls": whole.num_urls,
                "fetched": whole.num_fetched,
                FAILED: whole.num_urls - whole.num_images,
                "failed_for": reason_table(whole.errors),
            }

        yield from record_imports(context, lineage, progress, bring)

    return imported_urls


def few_urls_failed_check(lineage: Lineage) -> dg.AssetChecksDefinition:
    """Define the check of how many URLs failed."""

    @dg.asset_check(
        asset="imported_urls",
        name="few_urls_failed",
        description="No more of a list's URLs failed than checks.max_failed_urls of the "
        f"recipe allows. If not: {ADVICE}",
    )
    def few_urls_failed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        told = failed_url_faults(context.instance, lineage)
        lines = [f"{name}: {fault}" for name, fault in told.items()]
        return dg.AssetCheckResult(
            passed=not told,
            severity=dg.AssetCheckSeverity.WARN,
            description="\n".join([*lines, f"What to do: {ADVICE}"]) if told else None,
            metadata={"lists": len(lineage.recipe.imports.urls), "faults": len(told)},
        )

    return few_urls_failed


def failed_url_faults(instance: dg.DagsterInstance, lineage: Lineage) -> dict[str, str]:
    """Tell of which lists too many URLs failed when they were last imported.

    Args:
        instance: Holds the records.
        lineage: Of a recipe that names lists of URLs.

    Returns:
        Name to what is wrong; only of lists that were imported.
    """
    bound = lineage.recipe.checks.max_failed_urls
    recorded = recorded_versions(instance, "imported_urls")
    told = {}
    for name in lineage.recipe.imports.urls:
        if name not in recorded:
            continue
        failed = failed_urls(instance, name)
        urls = recorded_number(instance, "imported_urls", name, "urls")
        if not urls:
            told[name] = "the list has no URLs"
        elif failed > bound * urls:
            told[name] = f"{failed:,} of {urls:,} URLs failed ({failed / urls:.0%})"
    return told


def failed_urls(instance: dg.DagsterInstance, name: str) -> int:
    """Look up how many URLs of a list had no image when it was last imported."""
    return recorded_number(instance, "imported_urls", name, FAILED)

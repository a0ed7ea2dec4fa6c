"""Raw shards from image files: a partition for each folder or list that the recipe names.

Shards follow their images: what changed, came or went is found by the listing, and only
the shards concerned are rewritten.
"""

from collections import Counter

import dagster as dg

from curation.ingest.images import (
    ImageImport,
    find_images,
    find_listed_images,
    update_images,
)
from curation.ingest.shard_layout import ShardLayout
from curation.recipe import ImageInput
from curation.storage import S3Settings, Storage, open_storage, open_stored_file
from curation_assets.imports import (
    import_options,
    reason_table,
    record_imports,
)
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import AssetEvents, Metadata
from resources.progress import Progress


def imported_images_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``imported_images`` for a recipe that names image inputs."""
    recipe = lineage.recipe

    @dg.asset(
        **import_options(lineage, "imported_images"),
        kinds={"webdataset", "parquet"},
        description="Image files as raw shards, byte for byte. Its data version is the "
        "listing of the folder, or the list's file, with the settings.",
    )
    def imported_images(
        context: dg.AssetExecutionContext, progress: dg.ResourceParam[Progress]
    ) -> AssetEvents:
        def bring(name: str, folder: Storage) -> Metadata:
            images = _found(recipe.imports.images[name], recipe.s3)
            progress.start(f"imported_images {name}", len(images.shards))
            images, written = update_images(images, folder, progress.advance)
            return {
                "samples": images.num_samples,
                "shards_written": written,
                "bytes": images.num_bytes,
                "refused": len(images.problems),
                "refused_for": reason_table(Counter(why for _, why in images.problems)),
            }

        yield from record_imports(context, lineage, progress, bring)

    return imported_images


def _found(settings: ImageInput, s3: S3Settings) -> ImageImport:
    layout = ShardLayout(settings.samples_per_shard)
    folder = open_storage(settings.folder, s3) if settings.folder else None
    if settings.list:
        lists, path = open_stored_file(settings.list, s3)
        return find_listed_images(
            lists, path, folder or lists, layout, follow_links=settings.follow_links
        )
    assert folder is not None  # the recipe names one of them
    return find_images(folder, layout, follow_links=settings.follow_links)

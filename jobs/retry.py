"""Trying quarantined images again, after whatever spoiled them was mended.

Belongs here: which tables are to be made again when an image was recovered. How a shard's
images are tried belongs in ``curation/shard_embedding.py``.
"""

from collections.abc import Sequence

from curation.errors import CurationError
from curation.recipe import Recipe
from curation.recipe_tools import embedding_tools, embedding_workers
from curation.shard_embedding import EmbedShard, retry_shard
from curation.storage import Storage, open_storage
from curation_assets.file_sizes import record_sizes
from curation_assets.lineage import VERSIONS, Lineage
from jobs.instance import open_instance
from resources.progress import Progress

MADE_OF_EMBEDDINGS = list(VERSIONS)[list(VERSIONS).index("embeddings") + 1 :]


def retry(recipe: Recipe, progress: Progress, shards: Sequence[str]) -> int:
    """Try the quarantined images of some shards again.

    Of a shard that got one back, everything that is made of its embeddings is deleted, so
    that the next :func:`jobs.curate.curate` makes it again.

    Returns:
        The number of images that have a vector now.

    Raises:
        CurationError: A fault of this program, or no device is there. What is wrong with
            one shard is told to ``progress``, and the others go on.
    """
    lineage = Lineage(recipe)
    output, artifacts = open_storage(recipe.output, recipe.s3), lineage.artifacts
    tasks = {
        EmbedShard(
            source=open_storage(recipe.source, recipe.s3),
            output=output,
            catalog=artifacts.catalog(shard),
            path=artifacts.embeddings(shard),
            fingerprint="",  # the table keeps its own
            images=recipe.images,
            texts=recipe.texts,
        ): shard
        for shard in shards
        if output.exists(artifacts.embeddings(shard))
    }
    progress.start("quarantined images", len(tasks))
    recovered = 0
    workers = embedding_workers(recipe)

    def move(task: EmbedShard, num_tried: int, total: int) -> None:
        progress.move(tasks[task], num_tried, total)

    for done in workers.embed(tasks, retry_shard, embedding_tools(recipe), moved=move):
        shard = tasks[done.task]
        if done.result is not None:
            progress.advance(shard, done.result.num_tried)
            recovered += done.result.num_recovered
            if done.result.num_recovered:
                _forget(output, lineage, shard)
                with open_instance(recipe) as instance:
                    record_sizes(instance, "embeddings", shard, output, [done.task.path])
        elif isinstance(done.error, CurationError):
            progress.fail(shard, str(done.error))
        else:
            raise done.error or CurationError(f"{shard}: no result and no error")
    return recovered


def _forget(output: Storage, lineage: Lineage, shard: str) -> None:
    for asset in MADE_OF_EMBEDDINGS:
        for path in lineage.artifacts.of(asset, shard):
            output.delete(path)

"""One whole shard, from its tar to its embeddings table: what an embedding worker does."""

from dataclasses import dataclass

from curation.embedders.base import Embedder
from curation.embedding import embed_samples
from curation.image_loaders.base import ImageLoader
from curation.index import read_catalog
from curation.recipe import ImageSettings
from curation.samples import read_samples
from curation.storage.base import Storage
from curation.tables import EMBEDDINGS, write_table
from curation.tar import check_unchanged

TEXT_EXTENSIONS = ("txt", "json")


@dataclass(frozen=True)
class EmbedShard:
    """Which shard to embed, and where its table goes. Can be sent to another process."""

    source: Storage
    output: Storage
    catalog: str
    """Path of the shard's catalog in the output; it knows the tar's path."""
    path: str
    """Path of the table to write in the output."""
    fingerprint: str
    """What the table will say that it was made from."""
    images: ImageSettings


def embed_shard(task: EmbedShard, loader: ImageLoader, embedder: Embedder) -> int:
    """Embed the samples of one shard and write the table.

    Returns:
        The number of samples, those without a vector included.

    Raises:
        StaleError: The tar was replaced since it was indexed, or while it was read.
            Nothing is written.
        NotFoundError: The tar or the catalog is gone.
    """
    index = read_catalog(task.output, task.catalog)
    check_unchanged(task.source, index.file)
    wanted = (*task.images.extensions, *TEXT_EXTENSIONS)
    samples = read_samples(task.source, index.file.path, index, wanted)
    table = embed_samples(samples, loader, embedder, task.images)
    check_unchanged(task.source, index.file)
    write_table(
        task.output,
        task.path,
        EMBEDDINGS,
        table,
        fingerprint=task.fingerprint,
        encoder=embedder.encoder(),
    )
    num_rows: int = table.num_rows
    return num_rows

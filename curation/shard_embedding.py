"""One whole shard, from its tar to its embeddings table: what an embedding worker does."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embedders.base import Embedder
from curation.embedding import CORRUPTION, embed_samples
from curation.errors import StaleError
from curation.image_decoding import JUDGED_BY_PILLOW
from curation.image_loaders.base import ImageLoader
from curation.index import ShardIndex, read_catalog
from curation.recipe import DEFAULT_TEXTS, ImageSettings, TextSettings
from curation.samples import read_samples
from curation.storage import LocalCopies, Storage
from curation.storage.base import check_unchanged
from curation.tables import EMBEDDINGS, read_about, read_table, with_about, write_table


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
    copies: LocalCopies | None = None
    """Of tars, on the machine that embeds; None reads the tar where it is."""

    texts: TextSettings = DEFAULT_TEXTS

    @property
    def extensions(self) -> tuple[str, ...]:
        """Of all components that are read."""
        texts = self.texts.caption_extensions + self.texts.metadata_extensions
        return self.images.extensions + texts

    def __str__(self) -> str:
        return f"{self.output.url}/{self.path}"


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
    tar, copies = index.file.path, task.copies
    source = copies.fetch(task.source, tar) if copies else task.source
    samples = read_samples(source, tar, index, task.extensions)
    table = embed_samples(
        samples, loader, embedder, task.images, task.texts, num_samples=len(index)
    )
    check_unchanged(task.source, index.file)
    if copies:
        copies.drop(source)
    table = with_about(table, **unreadable_texts(table), **JUDGED_BY_PILLOW)
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


def unreadable_texts(table: pa.Table) -> dict[str, dict[str, int]]:
    """Count the captions and metadata with U+FFFD, which stands for what can't be read.

    Returns:
        The counts under ``unreadable_texts``, to be remembered with the table; empty if
        there are none.
    """
    counts = {
        name: pc.sum(pc.match_substring(table[name], "\ufffd")).as_py() or 0
        for name in ("caption", "metadata")
    }
    found = {name: int(count) for name, count in counts.items() if count}
    return {"unreadable_texts": found} if found else {}


@dataclass(frozen=True)
class Retried:
    """What trying the quarantined samples of a shard again came to."""

    num_tried: int
    num_recovered: int
    """Those that have a vector now; the table holds them, the others are as they were."""


def retry_shard(task: EmbedShard, loader: ImageLoader, embedder: Embedder) -> Retried:
    """Embed again those samples of a shard that have an image and no vector.

    The table is written anew if any has one now, under the fingerprint that it had: it is
    what it would have been, had nothing gone wrong.

    Raises:
        StaleError: The tar was replaced, or the table is of another encoder.
        NotFoundError: The tar, the catalog or the table is gone.
    """
    table = read_table(task.output, task.path, EMBEDDINGS)
    about = read_about(task.output, task.path)
    if about["encoder"] != embedder.encoder():
        raise StaleError(
            f"{task.output.url}/{task.path}: embedded by another encoder than the "
            "recipe's; run `curate run` first"
        )
    if (CORRUPTION in table.column_names) != (task.images.on_corruption == "keep"):
        raise StaleError(
            f"{task.output.url}/{task.path}: embedded under another images.on_corruption "
            "than the recipe's; run `curate run` first"
        )
    failed = pc.and_(pc.is_valid(table["error"]), pc.is_valid(table["image_extension"]))
    index = _only(read_catalog(task.output, task.catalog), table["key"].filter(failed))
    check_unchanged(task.source, index.file)
    samples = read_samples(task.source, index.file.path, index, task.extensions)
    again = embed_samples(
        samples, loader, embedder, task.images, task.texts, num_samples=len(index)
    )
    good = again.filter(again["error"].is_null())
    if good.num_rows:
        check_unchanged(task.source, index.file)
        write_table(
            task.output,
            task.path,
            EMBEDDINGS,
            # which keeps what the table says of itself
            with_about(_replaced(table, good), **unreadable_texts(table)),
            fingerprint=about["fingerprint"],
            encoder=about["encoder"],
        )
    return Retried(again.num_rows, good.num_rows)


def _only(index: ShardIndex, keys: pa.ChunkedArray) -> ShardIndex:
    """Leave only some samples in an index."""
    rows = pc.is_in(index.catalog["key"], value_set=keys.combine_chunks())
    return ShardIndex(index.file, index.catalog.filter(rows), index.global_headers)


def _replaced(table: pa.Table, rows: pa.Table) -> pa.Table:
    """Put rows in the place of those with the same key."""
    both = pa.concat_tables([table, rows.select(table.column_names).cast(table.schema)])
    found = pc.index_in(table["key"], value_set=rows["key"].combine_chunks()).to_numpy()
    place = np.arange(table.num_rows)
    return both.take(np.where(np.isnan(found), place, found + table.num_rows).astype(int))

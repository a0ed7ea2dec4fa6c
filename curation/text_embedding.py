"""Step: captions to caption embeddings, once per shard, for scores and for exports."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.storage import Storage
from curation.tables import (
    CAPTIONS,
    EMBEDDINGS,
    TEXT_EMBEDDING,
    embedding_column,
    read_table,
    with_about,
    write_table,
)
from curation.text_embedders.base import TextEmbedder


@dataclass(frozen=True)
class EmbedCaptions:
    """Whose captions to embed, and where. Can be sent to another process."""

    output: Storage
    embeddings: str
    """Path of the shard's embeddings table, which has the captions."""
    path: str
    """Path of the table to write."""
    fingerprint: str
    """What the table will say that it was made from."""

    def __str__(self) -> str:
        return f"{self.output.url}/{self.path}"


def embed_shard_captions(task: EmbedCaptions, embedder: TextEmbedder) -> int:
    """Embed the captions of one shard and write the table; give its number of rows.

    Raises:
        NotFoundError: The embeddings table is gone.
    """
    columns = ["key", "error", "caption"]
    facts = read_table(task.output, task.embeddings, EMBEDDINGS, columns)
    table = embed_captions(facts, embedder)
    write_table(task.output, task.path, CAPTIONS, table, fingerprint=task.fingerprint)
    num_rows: int = table.num_rows
    return num_rows


def embed_captions(facts: pa.Table, embedder: TextEmbedder) -> pa.Table:
    """Embed the captions of one shard.

    Captions that are equal are computed once.

    Args:
        facts: ``key``, ``error`` and ``caption`` of the shard's embeddings table.
        embedder: What to embed with.

    Returns:
        A table of :data:`curation.tables.CAPTIONS`, one row per row of ``facts``, in its
        order; null where there is no caption, an empty one, or no image to go with it.
        It says of itself which encoder made it.
    """
    captions = facts["caption"].to_pylist()
    worded = np.array([bool((text or "").strip()) for text in captions], bool)
    valid = worded & facts["error"].is_null().to_numpy()
    texts = sorted({captions[row] for row in np.flatnonzero(valid)})
    vectors = embedder.embed(texts)
    place = {text: number for number, text in enumerate(texts)}
    rows = np.zeros((len(captions), embedder.dim), np.float16)
    for row in np.flatnonzero(valid):
        rows[row] = vectors[place[captions[row]]]
    column = embedding_column(rows, valid)
    table = pa.table({"key": facts["key"], TEXT_EMBEDDING: column})
    return with_about(table, encoder=embedder.encoder())

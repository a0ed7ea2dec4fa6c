"""Step: captions to caption embeddings, once per shard, for scores and for exports."""

import numpy as np
import pyarrow as pa

from curation.tables import TEXT_EMBEDDING, embedding_column, with_about
from curation.text_embedders.base import TextEmbedder


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

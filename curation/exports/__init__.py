"""Curated vectors for other programs, and other programs' vectors for curated shards."""

from curation.exports.matching import MatchReport, match_embeddings, read_shard_keys
from curation.exports.nemo import export_nemo
from curation.exports.vectors import (
    ExportReport,
    export_clip_retrieval,
    export_vectors,
    filtered_tables,
)

__all__ = [
    "ExportReport",
    "MatchReport",
    "export_clip_retrieval",
    "export_nemo",
    "export_vectors",
    "filtered_tables",
    "match_embeddings",
    "read_shard_keys",
]

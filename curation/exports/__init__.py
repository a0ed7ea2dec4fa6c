"""Curated vectors for other programs, and other programs' vectors for curated shards."""

from curation.exports.matching import MatchReport, match_embeddings
from curation.exports.vectors import ExportReport, export_clip_retrieval, export_vectors

__all__ = [
    "ExportReport",
    "MatchReport",
    "export_clip_retrieval",
    "export_vectors",
    "match_embeddings",
]

"""Duplicates: exact, perceptual, semantic, and one answer over all of them.

In memory, :func:`find_semantic_duplicates` takes vectors and gives pairs. For shards that
come and go, vectors are kept in a state, which is what these are called on, in turn:
:func:`create_state` once with :func:`fit_centroids`, then :func:`add_shards`,
:func:`compare_bin` for each of :func:`pending_bins`, and :func:`find_duplicates`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.dedup.assignment import ShardVectors, add_shards
    from curation.dedup.bins import compare_bin, pending_bins
    from curation.dedup.centroids import CellSettings, fit_centroids
    from curation.dedup.duplicates import ComparedShards, Rule, find_duplicates
    from curation.dedup.exact import find_exact_duplicates
    from curation.dedup.perceptual import find_perceptual_pairs
    from curation.dedup.probe import MissedEstimate, estimate_missed
    from curation.dedup.resolve import Removals, duplicate_tables
    from curation.dedup.semantic import find_semantic_duplicates
    from curation.dedup.state import (
        StateSettings,
        create_state,
        current_ordinals,
        open_state,
    )

__all__ = [
    "CellSettings",
    "ComparedShards",
    "MissedEstimate",
    "Removals",
    "Rule",
    "ShardVectors",
    "StateSettings",
    "add_shards",
    "compare_bin",
    "create_state",
    "current_ordinals",
    "duplicate_tables",
    "estimate_missed",
    "find_duplicates",
    "find_exact_duplicates",
    "find_perceptual_pairs",
    "find_semantic_duplicates",
    "fit_centroids",
    "open_state",
    "pending_bins",
]

_MODULES = {
    "CellSettings": "centroids",
    "ComparedShards": "duplicates",
    "MissedEstimate": "probe",
    "Removals": "resolve",
    "Rule": "duplicates",
    "ShardVectors": "assignment",
    "StateSettings": "state",
    "add_shards": "assignment",
    "compare_bin": "bins",
    "create_state": "state",
    "current_ordinals": "state",
    "duplicate_tables": "resolve",
    "estimate_missed": "probe",
    "find_duplicates": "duplicates",
    "find_exact_duplicates": "exact",
    "find_perceptual_pairs": "perceptual",
    "find_semantic_duplicates": "semantic",
    "fit_centroids": "centroids",
    "open_state": "state",
    "pending_bins": "bins",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

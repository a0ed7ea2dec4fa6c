"""The cells that embeddings are compared in, and the vectors of all shards, sorted by them.

Fitted once, to the shards that were there then, and frozen: that is what makes a new shard
cost no more than its own comparisons. ``duplicate_groups`` does all of this by itself where
nobody did; as an asset of its own it can be looked at, asked for anew, and followed by
``cluster_bins`` on as many machines as there are bins.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from curation.artifacts import Artifacts
from curation.dedup.duplicates import similarity_floor
from curation.errors import InputError, StaleError
from curation.fingerprint import fingerprint
from curation.storage import Storage
from curation.tables import EMBEDDING, EMBEDDINGS, embedding_matrix, read_about, read_table
from curation_assets.failures import run_failures
from curation_assets.global_asset import current_inputs, refuse_company
from curation_assets.lineage import Lineage
from curation_assets.partitions import CLUSTER_BINS, set_partitions
from curation_assets.recipe_guard import recipe_tags, refuse_another_recipe
from curation_assets.shard_asset import DATA_VERSION, Metadata

if TYPE_CHECKING:
    from curation.dedup.state import State
    from curation.dedup.upkeep import Brought, EmbeddedShards


VERSION = 1
"""Raised when the comparing steps start to make something else of the same embeddings."""


class CentroidsConfig(dg.Config):
    """What can be chosen in the launchpad."""

    refit: bool = False
    """Fit the cells anew, to the shards that there are now, and compare all of them again:
    where shards have become many times what they were when the cells were fitted."""


def centroids_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``centroids`` for a recipe that compares embeddings."""

    @dg.asset(
        name="centroids",
        deps=[dg.AssetDep("embeddings", partition_mapping=dg.AllPartitionMapping())],
        code_version=comparing_version(lineage),
        op_tags=recipe_tags(lineage),
        group_name="decision",
        kinds={"pytorch", "parquet"},
        description="The cells that embeddings are compared in, fitted once and then "
        "frozen, and the vectors of all shards sorted into them.",
    )
    def centroids(
        context: dg.AssetExecutionContext,
        config: CentroidsConfig,
        output: dg.ResourceParam[Storage],
    ) -> dg.MaterializeResult[None]:
        refuse_another_recipe(context)
        with run_failures():
            refuse_company(context)
            if config.refit:
                # torch comes with it, which only those need who compare vectors
                from curation.dedup.upkeep import forget_state

                forget_state(output, compared_folder(lineage))
            shards = current_inputs(context.instance, lineage, "duplicate_groups")
            named = sorted(shards["embeddings"])
            brought = bring_all(context.instance, output, lineage, named)
            if brought is None:
                return dg.MaterializeResult(metadata={"cells": 0, "bins": 0})
            return dg.MaterializeResult(
                data_version=dg.DataVersion(brought.state.fingerprint),
                metadata=centroids_metadata(brought),
            )

    return centroids


def compared_folder(lineage: Lineage) -> str:
    """Give the folder of what is known of which embeddings are similar.

    Raises:
        InputError: The recipe compares none.
    """
    threshold = lineage.recipe.duplicates.min_similarity
    if threshold is None:
        raise InputError("duplicates.min_similarity isn't set: no embeddings are compared")
    return lineage.artifacts.compared(similarity_floor(threshold))


def comparing_version(lineage: Lineage) -> str:
    """Give the code version of what compares: of the encoder, and down to which cosine."""
    return f"{VERSION}-{fingerprint(compared_folder(lineage))[:12]}"


def bring_all(
    instance: dg.DagsterInstance,
    output: Storage,
    lineage: Lineage,
    shards: Sequence[str],
) -> "Brought | None":
    """Sort the vectors of all shards into the cells, which are fitted if there are none.

    Bins become partitions of ``cluster_bins``.

    Returns:
        None if the recipe compares no vectors, or there are none.
    """
    threshold = lineage.recipe.duplicates.min_similarity
    if threshold is None:
        return None
    from curation.dedup.upkeep import bring_shards

    embedded = _embedded(output, lineage.artifacts, shards)
    brought = bring_shards(output, compared_folder(lineage), embedded, threshold)
    if brought is not None:
        _set_bins(instance, brought.state)
    return brought


def centroids_metadata(brought: "Brought") -> Metadata:
    """Describe the cells for the UI."""
    cells = brought.state.centroids
    return {
        "cells": cells.num_cells,
        "bins": cells.num_bins,
        "halo": cells.halo,
        "new_shards": brought.num_new,
    }


def centroids_event(brought: "Brought") -> dg.AssetMaterialization:
    """Record the cells from within another asset's run."""
    return dg.AssetMaterialization(
        "centroids",
        metadata=centroids_metadata(brought),
        tags={
            DATA_VERSION: brought.state.fingerprint,
            "dagster/data_version_is_user_provided": "true",
        },
    )


def bin_key(bin_: int) -> str:
    """Give the partition key of a bin."""
    return f"{bin_:05d}"


def _set_bins(instance: dg.DagsterInstance, state: "State") -> None:
    """Make the bins that there are the partitions of ``cluster_bins``."""
    bins = [bin_key(bin_) for bin_ in range(state.centroids.num_bins)]
    set_partitions(instance, CLUSTER_BINS, bins)


def _embedded(
    output: Storage, artifacts: Artifacts, shards: Sequence[str]
) -> "EmbeddedShards":
    """Say which vectors there are: embeddings' fingerprints are of all they are made of."""
    from curation.dedup.upkeep import EmbeddedShards

    abouts = {shard: read_about(output, artifacts.embeddings(shard)) for shard in shards}
    encoders = {fingerprint(about["encoder"]) for about in abouts.values()}
    if len(encoders) > 1:
        raise StaleError(
            "the shards were embedded by different encoders; materialize embeddings again"
        )

    def read(shard: str) -> np.ndarray:
        table = read_table(output, artifacts.embeddings(shard), EMBEDDINGS, [EMBEDDING])
        return embedding_matrix(table[EMBEDDING])[0]

    return EmbeddedShards(
        encoder="".join(encoders),
        fingerprints={shard: about["fingerprint"] for shard, about in abouts.items()},
        num_rows=sum(about["num_rows"] for about in abouts.values()),
        read=read,
    )

"""Asset checks: what was written, read back and compared with what it promises.

A check of a run looks at the shards of that run, so that it costs one more read of what
was just written; launched by itself, it looks at every shard that is recorded. Checks
don't block: what is wrong is told by shard, and nothing that was made is lost.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from curation.classifiers import Classifier
from curation.errors import DataError, NotFoundError
from curation.index import read_catalog
from curation.storage import Storage
from curation.table_checks import encoder_faults, row_faults, score_faults, vector_faults
from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    SCORES,
    read_about,
    read_table,
)
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import recorded_versions

MOST_TOLD = 20  # faults that a result lists


def embeddings_check(lineage: Lineage) -> dg.AssetChecksDefinition:
    """Check rows, keys, vectors and encoder of the embeddings."""
    artifacts = lineage.artifacts

    @dg.asset_check(
        asset="embeddings",
        name="vectors_are_whole",
        description="Rows and keys are the index's; vectors are finite, of unit length and "
        "of the encoder's width, or have a reason; all shards have one encoder.",
    )
    def vectors_are_whole(
        context: dg.AssetCheckExecutionContext, output: dg.ResourceParam[Storage]
    ) -> dg.AssetCheckResult:
        def faults_of(shard: str) -> Iterator[str]:
            path, columns = artifacts.embeddings(shard), ["key", "error", EMBEDDING]
            table = read_table(output, path, EMBEDDINGS, columns)
            yield from row_faults(
                read_catalog(output, artifacts.catalog(shard)).keys, table
            )
            yield from vector_faults(table)

        recorded = sorted(recorded_versions(context.instance, "embeddings"))
        shards = _shards_to_check(context, recorded)
        faults = _faults_by_shard(shards, faults_of)
        encoders = {
            shard: read_about(output, artifacts.embeddings(shard)).get("encoder")
            for shard in dict.fromkeys([*recorded[:1], *shards])
            if shard not in faults
        }
        faults |= {"all shards": found} if (found := [*encoder_faults(encoders)]) else {}
        return _result(shards, faults, dg.AssetCheckSeverity.ERROR)

    return vectors_are_whole


def scores_check(lineage: Lineage) -> dg.AssetChecksDefinition:
    """Check rows and values of the scores."""
    artifacts = lineage.artifacts

    @dg.asset_check(
        asset="scores",
        name="scores_are_in_range",
        description="Rows and keys are the embeddings'; every classifier has a column of "
        "finite values in its documented range, or null.",
    )
    def scores_are_in_range(
        context: dg.AssetCheckExecutionContext,
        output: dg.ResourceParam[Storage],
        classifiers: dg.ResourceParam[dict[str, Classifier]],
    ) -> dg.AssetCheckResult:
        def faults_of(shard: str) -> Iterator[str]:
            path = artifacts.embeddings(shard)
            keys = read_table(output, path, EMBEDDINGS, ["key"])["key"].to_pylist()
            table = read_table(output, artifacts.scores(shard), SCORES)
            yield from row_faults(keys, table)
            yield from score_faults(table, classifiers)

        recorded = sorted(recorded_versions(context.instance, "scores"))
        shards = _shards_to_check(context, recorded)
        faults = _faults_by_shard(shards, faults_of)
        return _result(shards, faults, dg.AssetCheckSeverity.WARN)

    return scores_are_in_range


CHECKS: Sequence[Callable[[Lineage], dg.AssetChecksDefinition]] = (
    embeddings_check,
    scores_check,
)
"""What defines each check for a recipe."""


def _shards_to_check(
    context: dg.AssetCheckExecutionContext, recorded: Sequence[str]
) -> list[str]:
    if context.has_partition_key or context.has_partition_key_range:
        return list(context.partition_keys)
    return list(recorded)


def _faults_by_shard(
    shards: Sequence[str], faults_of: Callable[[str], Iterator[str]]
) -> dict[str, list[str]]:
    faults = {}
    for shard in shards:
        try:
            found = list(faults_of(shard))
        except (DataError, NotFoundError) as error:
            found = [str(error)]
        if found:
            faults[shard] = found
    return faults


def _result(
    shards: Sequence[str],
    faults: dict[str, list[str]],
    severity: dg.AssetCheckSeverity,
) -> dg.AssetCheckResult:
    told = [f"{shard}: {fault}" for shard, found in faults.items() for fault in found]
    return dg.AssetCheckResult(
        passed=not told,
        severity=severity,
        description="\n".join(told[:MOST_TOLD]) or None,
        metadata={"shards": len(shards), "faults": len(told)},
    )

"""All shards at once: which samples are copies, and which of each group stays.

Its data version says by which rule, not of which shards: shards come and go, and a new
version would make the selection of every shard stale. What it was made of is in its
metadata, which ``global_asset.py`` compares with what it should be made of. The shards
whose duplicates it changes are recorded from here, as new versions of ``duplicates``;
none is where the check of recall fails, so that nothing is ever decided by such an answer.

It is also the step that every shard that goes away leads to, whoever starts it; so what is
left of such shards among the filtered ones is set aside here, before copies are sought.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pyarrow as pa

from curation.artifacts import Artifacts
from curation.dedup.duplicates import ComparedShards, Rule, find_duplicates
from curation.dedup.resolve import Removals, duplicate_tables
from curation.dedup.rows import row_ids
from curation.errors import DataError
from curation.filtered_folder import settle_folder
from curation.filters import make_filter
from curation.release.manifest import read_samples_released
from curation.selection import (
    COLUMNS,
    PASSES_FILTER,
    needed_facts,
    needed_scores,
    passes_filter,
)
from curation.storage import Storage
from curation.tables import (
    DUPLICATES,
    EMBEDDINGS,
    SCORES,
    read_about,
    read_table,
    write_table,
)
from curation_assets.centroids import bring_all, centroids_event
from curation_assets.cluster_bins import compare_pending
from curation_assets.duplicates import described, duplicates_inputs, duplicates_version
from curation_assets.failures import run_failures
from curation_assets.global_asset import (
    MADE_OF,
    all_shard_deps,
    current_inputs,
    made_of,
    refuse_company,
)
from curation_assets.lineage import Lineage
from curation_assets.ownership import claim_output
from curation_assets.partitions import survey_source
from curation_assets.recipe_guard import recipe_tags, refuse_another_recipe
from curation_assets.release import find_last
from curation_assets.shard_asset import (
    SETTINGS,
    ShardTask,
    made_from,
    newest_event,
    partition_event,
    recorded_version,
    recorded_versions,
)

if TYPE_CHECKING:
    from curation.dedup.probe import MissedEstimate

RECALL_CHECK = "recall_is_enough"


@dataclass(frozen=True)
class Groups:
    """What was found among the samples of all shards."""

    removals: Removals
    missed: "MissedEstimate | None"
    """Of similar samples; None where no vectors were compared."""


def duplicate_groups_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``duplicate_groups`` for a recipe."""

    @dg.asset(
        name="duplicate_groups",
        deps=[*all_shard_deps(lineage, "duplicate_groups"), *_bins_dep(lineage)],
        code_version=lineage.code_version("duplicate_groups"),
        op_tags=recipe_tags(lineage),
        group_name="decision",
        kinds={"polars", "parquet"},
        check_specs=[
            dg.AssetCheckSpec(
                RECALL_CHECK,
                asset="duplicate_groups",
                blocking=True,
                description="The share of the similar copies that was found isn't below "
                "checks.min_recall for certain; if it is, nothing is recorded.",
            )
        ],
        description="Copies among the samples of all shards, and the one of each group "
        "that stays. Every removed sample has a kept one that stands for it.",
    )
    def duplicate_groups(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        refuse_another_recipe(context)
        with run_failures():
            refuse_company(context)
            claim_output(context.instance, output, lineage)
            there = survey_source(source, may_be_empty=True)
            folder = lineage.artifacts.filtered_folder
            aside = settle_folder(
                output, folder, there.tars, there.unusable, may_be_new=True
            )
            inputs = current_inputs(context.instance, lineage, "duplicate_groups")
            shards = sorted(inputs["embeddings"])
            compared = _compare(context, output, lineage, shards)
            groups = find_groups(output, lineage, shards, compared)
            fault = recall_fault(groups, lineage.recipe.checks.min_recall)
            yield dg.AssetCheckResult(
                check_name=RECALL_CHECK,
                passed=not fault,
                description=fault,
                metadata=recall_metadata(groups),
            )
            if fault:
                raise DataError(_WHAT_TO_DO.format(fault, output.url))
            tables = _tables(groups.removals, output, lineage.artifacts, shards)
            embedded = inputs["embeddings"]
            changed = list(_changed_tables(context, lineage, output, tables, embedded))
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(lineage.groups_version),
                metadata={
                    MADE_OF: made_of(lineage, "duplicate_groups", inputs),
                    SETTINGS: lineage.recipe_settings("duplicate_groups"),
                    "shards": len(shards),
                    "removed": len(groups.removals),
                    "changed_shards": len(changed),
                    **({"set_aside": sorted(aside)} if aside else {}),
                    **recall_metadata(groups),
                },
            )

    return duplicate_groups


def _bins_dep(lineage: Lineage) -> list[dg.AssetDep]:
    if lineage.recipe.duplicates.min_similarity is None:
        return []
    return [dg.AssetDep("cluster_bins", partition_mapping=dg.AllPartitionMapping())]


_WHAT_TO_DO = (
    "{}. Nothing is recorded. The cells that embeddings are compared in may have been "
    "fitted to far fewer: materialize centroids with `refit: true`, or delete {}/compared, "
    "and all are compared anew. Or lower checks.min_recall"
)


def recall_fault(groups: Groups, min_recall: float) -> str | None:
    """Say by how much too few similar copies were found; None if it may be enough."""
    if groups.missed is None:
        return None
    recall, (low, high) = groups.missed.recall(len(groups.removals))
    if high >= min_recall:
        return None
    return (
        f"about {recall:.2%} of the similar copies were found (95% interval {low:.2%} to "
        f"{high:.2%}), and checks.min_recall is {min_recall:.2%}: of "
        f"{groups.missed.num_probed:,} kept samples that were compared with all after "
        f"them, {groups.missed.num_missed:,} have a kept twin"
    )


def recall_metadata(groups: Groups) -> dict[str, float | int]:
    """Give the estimate for the UI; nothing where no vectors were compared."""
    if groups.missed is None:
        return {}
    recall, (low, high) = groups.missed.recall(len(groups.removals))
    return {
        "recall": recall,
        "recall_low": low,
        "recall_high": high,
        "probed": groups.missed.num_probed,
        "missed_of_probed": groups.missed.num_missed,
    }


def _compare(
    context: dg.AssetExecutionContext,
    output: Storage,
    lineage: Lineage,
    shards: Sequence[str],
) -> ComparedShards | None:
    """Compare the vectors that no run of ``cluster_bins`` did; None if there are none."""
    brought = bring_all(context.instance, output, lineage, shards)
    if brought is None:
        return None
    # torch comes with it, which only those need who compare vectors
    from curation.dedup.state import current_ordinals

    if brought.num_new or not recorded_version(context.instance, "centroids"):
        context.log_event(centroids_event(brought))
    compare_pending(context, lineage, brought.state)
    return ComparedShards(brought.state, current_ordinals(brought.state, brought.shards))


def find_groups(
    output: Storage,
    lineage: Lineage,
    shards: Sequence[str],
    compared: ComparedShards | None,
) -> Groups:
    """Find the copies among the samples of some shards.

    Args:
        output: Holds their embeddings and scores.
        lineage: Of the recipe.
        shards: Their order breaks ties of preference.
        compared: Where their vectors were; None if there are none to compare.
    """
    settings = lineage.recipe.duplicates

    def read(ordinal: int, columns: Sequence[str]) -> pa.Table:
        return _read_columns(output, lineage, shards[ordinal], columns)

    similarity = None if compared is None else settings.min_similarity
    rule = Rule(settings.prefer, settings.exact, settings.max_hamming, similarity)
    released = _released(output, lineage, shards)
    removals = find_duplicates(
        len(shards), read, rule, compared=compared, released=released
    )
    if compared is None or rule.min_similarity is None:
        return Groups(removals, None)
    from curation.dedup.probe import estimate_missed

    missed = estimate_missed(
        compared.state,
        compared.ordinals,
        removals,
        min_similarity=rule.min_similarity,
        released=released,
    )
    return Groups(removals, missed)


def _released(output: Storage, lineage: Lineage, shards: Sequence[str]) -> np.ndarray:
    """Give the ids of the samples in the last release, but for images replaced since."""
    found = [np.empty(0, np.uint64)]
    retract = lineage.recipe.duplicates.retract_released
    last = None if retract else find_last(output, lineage)
    if last is None:
        return found[0]
    import polars as pl

    released = pl.DataFrame(read_samples_released(output, last))
    of_shard = released.partition_by("source_shard", as_dict=True)
    for ordinal, shard in enumerate(shards):
        if (shard,) not in of_shard:
            continue
        path = lineage.artifacts.embeddings(shard)
        there = pl.DataFrame(read_table(output, path, EMBEDDINGS, ["key", "sha256"]))
        same = there.with_row_index("row").join(
            of_shard[shard,],
            left_on=["key", "sha256"],
            right_on=["source_key", "sha256"],
            how="semi",
        )
        found.append(row_ids(ordinal, same["row"].to_numpy()))
    return np.concatenate(found)


def _tables(
    removals: Removals, output: Storage, artifacts: Artifacts, shards: Sequence[str]
) -> Iterator[tuple[str, pa.Table]]:
    def read_keys(ordinal: int) -> pa.Array:
        path = artifacts.embeddings(shards[ordinal])
        return read_table(output, path, EMBEDDINGS, ["key"])["key"].combine_chunks()

    tables = duplicate_tables(removals, range(len(shards)), shards.__getitem__, read_keys)
    return ((shards[ordinal], table) for ordinal, table in tables)


_EMBEDDINGS_COLUMNS = ("error", "sha256", "perceptual_hash", "pixel_sha256")


def _read_columns(
    output: Storage, lineage: Lineage, shard: str, columns: Sequence[str]
) -> pa.Table:
    """Read facts, derived columns and scores of a shard, as a preference names them."""
    import polars as pl

    facts = {c for name in columns if name in COLUMNS for c in COLUMNS[name].reads}
    own = [name for name in columns if name in _EMBEDDINGS_COLUMNS]
    facts.update(own)
    known = {*COLUMNS, *own, PASSES_FILTER}
    scores = [name for name in columns if name not in known]
    artifacts = lineage.artifacts
    path = artifacts.embeddings(shard)
    frame = pl.DataFrame(read_table(output, path, EMBEDDINGS, sorted(facts | {"key"})))
    if scores:
        path = artifacts.scores(shard)
        found = pl.DataFrame(read_table(output, path, SCORES, ["key", *scores]))
        frame = frame.join(found, on="key", how="left", maintain_order="left")
    if PASSES_FILTER in columns:
        passing = pl.Series(PASSES_FILTER, _passing(output, lineage, shard))
        frame = frame.with_columns(passing)
    derived = {n: build() for n in columns if n in COLUMNS and (build := COLUMNS[n].build)}
    return frame.with_columns(**derived).select(columns).to_arrow()


def _passing(output: Storage, lineage: Lineage, shard: str) -> pa.ChunkedArray:
    filter_ = make_filter(lineage.recipe.filter)
    path = lineage.artifacts
    return passes_filter(
        read_table(output, path.embeddings(shard), EMBEDDINGS, needed_facts(filter_)),
        read_table(output, path.scores(shard), SCORES, needed_scores(filter_)),
        filter_,
    )


def _changed_tables(
    context: dg.AssetExecutionContext,
    lineage: Lineage,
    output: Storage,
    tables: Iterable[tuple[str, pa.Table]],
    embedded: Mapping[str, str],
) -> Iterator[str]:
    """Write and record the duplicates of the shards for which they changed; name those.

    Those of a shard that was embedded anew are written anew too, so that they count as
    made of it, though their version is the same where they are.
    """
    recorded = recorded_versions(context.instance, "duplicates")
    pointer = newest_event(context.instance)
    code_version = lineage.code_version("duplicates")
    for shard, table in tables:
        version = duplicates_version(lineage, table)
        path = lineage.artifacts.duplicates(shard)
        same = recorded.get(shard) == made_from(output, path) == version
        if same and read_about(output, path).get("embeddings") == embedded[shard]:
            continue
        write_table(
            output,
            path,
            DUPLICATES,
            table,
            fingerprint=version,
            embeddings=embedded[shard],
        )
        inputs = duplicates_inputs(lineage, embedded[shard])
        task = ShardTask(shard, version, inputs, pointer, code_version)
        context.log_event(partition_event("duplicates", task, described(table)))
        yield shard

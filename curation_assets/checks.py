"""Asset checks: what was written, read back and compared with what it promises.

A check of a run looks at the shards of that run, so that it costs one more read of what
was just written; launched by itself, it looks at every shard that is recorded. What it
found of other shards, as they are now, is told along with that, so that its last result is
of all of them. Checks don't block: what is wrong is told by shard, and nothing that was
made is lost.

A check is a function that gives the faults of one shard as sentences; a new one is added
to :data:`CHECKS`. What is compared belongs in ``curation``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from curation.classifiers import Classifier
from curation.dedup.perceptual import HASH_BYTES
from curation.drift import drift_faults
from curation.errors import DataError, NotFoundError
from curation.index import read_catalog
from curation.storage import Storage
from curation.table_checks import (
    decision_faults,
    duplicate_faults,
    encoder_faults,
    row_faults,
    score_faults,
    vector_faults,
)
from curation.tables import (
    DUPLICATES,
    EMBEDDING,
    EMBEDDINGS,
    FILTERED,
    SCORES,
    SELECTION,
    made_of_something_else,
    read_about,
    read_table,
)
from curation.troubles import (
    LOOK_AT_QUARANTINE,
    MEND_TAR,
    catalog_troubles,
    quarantine_troubles,
)
from curation.verify import verify_shard
from curation_assets.check_records import (
    Check,
    check_result,
    found_before,
    shards_to_check,
)
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import made_from

MOST_COMPARED = 64  # shards that stand for those before


@dataclass(frozen=True)
class CheckedShards:
    """What a check may look at."""

    lineage: Lineage
    output: Storage
    classifiers: Mapping[str, Classifier]
    checked: Sequence[str]
    """The shards that the check is about."""
    recorded: Sequence[str]
    """All shards that the asset is recorded for."""

    def table(self, kind: Any, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table of the output."""
        return read_table(self.output, path, kind, columns)

    def keys(self, shard: str) -> list[str]:
        """Give the keys of a shard's samples, in the order of its index."""
        return read_catalog(self.output, self.lineage.artifacts.catalog(shard)).keys

    def kept_keys(self, shard: str) -> set[str]:
        """Give the keys of a shard's samples that are no removed copies.

        A key that repeats is there as long as one of its samples is kept.
        """
        artifacts = self.lineage.artifacts
        table = self.table(EMBEDDINGS, artifacts.embeddings(shard), ["key"])
        removed = self.table(DUPLICATES, artifacts.duplicates(shard), ["key"])
        kept = Counter(table["key"].to_pylist())
        kept.subtract(removed["key"].to_pylist())
        return {key for key, count in kept.items() if count > 0}

    def encoder(self, shard: str) -> Any:
        """Give what a shard's embeddings say of their encoder."""
        path = self.lineage.artifacts.embeddings(shard)
        return read_about(self.output, path).get("encoder")

    @cached_property
    def scores_before(self) -> pa.Table | None:
        """The scores of some of the other shards; of its own, if there are no others."""
        others = sorted(set(self.recorded) - set(self.checked)) or sorted(self.checked)
        step = -(-len(others) // MOST_COMPARED)
        scores = self.lineage.artifacts.scores
        paths = [scores(shard) for shard in others[::step]]
        tables = [self.table(SCORES, path) for path in paths if self.output.exists(path)]
        return pa.concat_tables(tables) if tables else None

    @cached_property
    def first_embedded(self) -> str | None:
        """The first shard with embeddings of these settings, by which others are judged."""
        path = self.lineage.artifacts.embeddings
        return next((s for s in self.recorded if self.output.exists(path(s))), None)


@dataclass(frozen=True)
class ShardCheck(Check):
    """A rule that the artifacts of an asset keep, shard by shard."""

    faults: Callable[[CheckedShards, str], Iterator[str]] = field(kw_only=True)
    """Gives what is wrong with a shard."""


def define_checks(lineage: Lineage) -> list[dg.AssetChecksDefinition]:
    """Define every check for a recipe."""
    return [_define(check, lineage) for check in CHECKS]


def _define(check: ShardCheck, lineage: Lineage) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=check.asset,
        name=check.name,
        description=f"{check.promise} If not: {check.advice}",
    )
    def shard_check(
        context: dg.AssetCheckExecutionContext,
        output: dg.ResourceParam[Storage],
        classifiers: dg.ResourceParam[dict[str, Classifier]],
    ) -> dg.AssetCheckResult:
        checked, recorded = shards_to_check(context, check.asset)
        shards = CheckedShards(lineage, output, classifiers, checked, list(recorded))
        found = {
            shard: [
                *_foreign_file(shards, check.asset, shard, recorded),
                *_faults(check, shards, shard),
            ]
            for shard in checked
        }
        before = found_before(context.instance, lineage, check, recorded, found)
        if check.from_files:  # which may have been mended since
            before = {shard: _faults(check, shards, shard) for shard in before}
        marks = check.marks(lineage, {s: v for s, v in recorded.items() if s in found})
        return check_result(check, marks, found, before, {"shards": len(found)})

    return shard_check


def _faults(check: ShardCheck, shards: CheckedShards, shard: str) -> list[str]:
    try:
        return list(check.faults(shards, shard))
    except (DataError, NotFoundError) as error:
        return [str(error)]


def _tar_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    path = shards.lineage.artifacts.catalog(shard)
    for trouble in catalog_troubles(shards.output, path, shard):
        if trouble.severity != "note":
            yield trouble.what


def _foreign_file(
    shards: CheckedShards, asset: str, shard: str, versions: Mapping[str, str]
) -> Iterator[str]:
    path = shards.lineage.artifacts.of(asset, shard)[-1]
    if shard in versions and made_from(shards.output, path) not in (None, versions[shard]):
        yield str(made_of_something_else(shards.output, path))


def _embeddings_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    path = shards.lineage.artifacts.embeddings(shard)
    table = shards.table(EMBEDDINGS, path, ["key", "error", EMBEDDING])
    yield from row_faults(shards.keys(shard), table)
    yield from vector_faults(table)
    both = dict.fromkeys([shards.first_embedded or shard, shard])
    yield from encoder_faults({s: shards.encoder(s) for s in both})


def _quarantine_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    path = shards.lineage.artifacts.embeddings(shard)
    most = shards.lineage.recipe.checks.max_quarantined
    for trouble in quarantine_troubles(shards.output, path, shard, most):
        yield trouble.what


def _scores_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    artifacts = shards.lineage.artifacts
    keys = shards.table(EMBEDDINGS, artifacts.embeddings(shard), ["key"])["key"]
    table = shards.table(SCORES, artifacts.scores(shard))
    yield from row_faults(keys.to_pylist(), table)
    yield from score_faults(table, shards.classifiers)


def _drift_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    now = shards.table(SCORES, shards.lineage.artifacts.scores(shard))
    if (before := shards.scores_before) is not None:
        bound = shards.lineage.recipe.checks.max_drift
        yield from drift_faults(before, now, list(shards.classifiers), bound)


def _duplicates_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    table = shards.table(DUPLICATES, shards.lineage.artifacts.duplicates(shard))
    survivors = sorted(set(table["survivor_shard"].to_pylist()))
    rule = shards.lineage.recipe.duplicates
    bits = 8 * HASH_BYTES
    similarities = {
        "exact": 1.0 if rule.exact else None,
        "perceptual": None if rule.max_hamming is None else 1 - rule.max_hamming / bits,
        "semantic": rule.min_similarity,
    }
    yield from duplicate_faults(
        table,
        {survivor: shards.kept_keys(survivor) for survivor in survivors},
        {kind: bound for kind, bound in similarities.items() if bound is not None},
    )


def _selection_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    table = shards.table(SELECTION, shards.lineage.artifacts.selection(shard))
    yield from row_faults(shards.keys(shard), table)
    yield from decision_faults(table)


def _filtered_faults(shards: CheckedShards, shard: str) -> Iterator[str]:
    artifacts = shards.lineage.artifacts
    yield from (
        found.found for found in verify_shard(shards.output, artifacts.filtered_tar(shard))
    )
    selection = shards.table(SELECTION, artifacts.selection(shard), ["key", "kept"])
    kept = np.flatnonzero(selection["kept"].to_numpy())
    table = shards.table(FILTERED, artifacts.filtered_table(shard), ["key"])
    yield from row_faults(selection["key"].take(kept).to_pylist(), table)


_WARN = dg.AssetCheckSeverity.WARN

CHECKS = (
    ShardCheck(
        "shard_index",
        "tars_are_read",
        "The tar could be read to its end, and has samples.",
        f"{MEND_TAR}.",
        faults=_tar_faults,
        severity=_WARN,
        from_files=True,
    ),
    ShardCheck(
        "embeddings",
        "vectors_are_whole",
        "Rows and keys are the index's; vectors are finite, of unit length and of the "
        "encoder's width, or have a reason; all shards have one encoder.",
        "delete the shard's embeddings and run again; if it recurs, the model or the disk "
        "is at fault.",
        faults=_embeddings_faults,
    ),
    ShardCheck(
        "embeddings",
        "few_are_quarantined",
        "No more samples are quarantined than checks.max_quarantined of the recipe allows.",
        f"{LOOK_AT_QUARANTINE}.",
        faults=_quarantine_faults,
        severity=_WARN,
        bound="max_quarantined",
        from_files=True,
    ),
    ShardCheck(
        "scores",
        "scores_are_in_range",
        "Rows and keys are the embeddings'; every classifier has a column of finite values "
        "in its documented range, or null.",
        "make sure that the classifier was made for this encoder, then delete the shard's "
        "scores and run again.",
        faults=_scores_faults,
        severity=_WARN,
    ),
    ShardCheck(
        "scores",
        "scores_have_not_drifted",
        "Each score is distributed as in the shards before, by the population stability "
        "index.",
        "look at the shard's pictures: its source differs from the others', or its score "
        "means something else. Raise checks.max_drift if that is as it should be.",
        faults=_drift_faults,
        severity=_WARN,
        bound="max_drift",
    ),
    ShardCheck(
        "duplicates",
        "survivors_are_kept",
        "For every removed copy there is a sample that is kept, as near to it as the "
        "recipe says.",
        "delete the folder of duplicates and run again; if it recurs, please report it.",
        faults=_duplicates_faults,
    ),
    ShardCheck(
        "selection",
        "every_sample_is_decided",
        "Every sample of the index is kept with no reason against it, or dropped for one.",
        "delete the shard's selection and run again.",
        faults=_selection_faults,
    ),
    ShardCheck(
        "filtered_shard",
        "filtered_shards_read_back",
        "The tar, its .idx and its table have the same samples, and they are those that "
        "the selection keeps.",
        "delete the filtered shard and run again; if it recurs, the disk is at fault.",
        faults=_filtered_faults,
    ),
)
"""Every check of shards."""

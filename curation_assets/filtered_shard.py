"""The kept samples of one raw shard: tar, DALI's .idx, and a table of what is known."""

from collections.abc import Callable

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dali_index import format_index, parse_index
from curation.errors import IndexFormatError, NotFoundError, TableError
from curation.fingerprint import fingerprint
from curation.index import ShardIndex, read_catalog
from curation.reshard import END_OF_ARCHIVE, describe_kept, reshard
from curation.sample_digests import (
    COMPONENT_CRC32,
    ON_RECORD,
    Comparison,
    compare_samples,
    comparing,
    damaged,
)
from curation.storage import Storage
from curation.storage.base import Buffer, check_unchanged
from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    FILTERED,
    SCORES,
    SELECTION,
    read_about,
    read_table,
    write_table,
)
from curation.tar_header import padded
from curation_assets.lineage import Lineage, raw_version
from curation_assets.metadata import indexed_sheets
from curation_assets.shard_asset import (
    AssetEvents,
    Metadata,
    ShardTask,
    is_current,
    one_by_one,
    record_shards,
    shard_asset_options,
    shard_tasks,
)
from resources.progress import Progress

_TEXTS = ("caption", "metadata")


def filtered_shard_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``filtered_shard`` for a recipe."""
    artifacts = lineage.artifacts

    @dg.asset(
        **shard_asset_options(lineage, "filtered_shard"),
        group_name="dataset",
        kinds={"webdataset", "dali", "parquet"},
        description="The kept samples with all their components, copied byte for byte, "
        "with an index for DALI and a table: key, place in the raw shard, image facts, "
        "scores, caption, embedding. Where nothing is kept, the table alone says so.",
    )
    def filtered_shard(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        def make(task: ShardTask) -> Metadata:
            shard = task.shard
            tar, idx, about_path = artifacts.of("filtered_shard", shard)
            output.delete(about_path)  # it says that the three belong together
            raw = read_catalog(output, artifacts.catalog(shard))
            kept = _kept(raw, read_table(output, artifacts.selection(shard), SELECTION))
            digests: list[pa.Table] = []
            if kept.any():
                filtered, digests = _resharded(source, output, lineage, raw, kept, shard)
                output.write(idx, format_index(filtered))
            else:  # DALI and Hugging Face don't read a tar without members
                check_unchanged(source, raw.file)
                output.delete(tar)
                output.delete(idx)
            known = [*_known(output, lineage, shard), *digests]
            table = describe_kept(raw, kept, known, shard=shard)
            encoder = read_about(output, artifacts.embeddings(shard)).get("encoder")
            scored = read_about(output, artifacts.scores(shard))["fingerprint"]
            write_table(
                output,
                about_path,
                FILTERED,
                table,
                fingerprint=task.fingerprint,
                encoder=encoder,
                recipe=lineage.recipe.name,
                filter=lineage.recipe.filter,
                source=raw_version(raw.file),
                # of what a row holds, whichever rows are kept: tells a release what changed
                rows=fingerprint(scored, lineage.settings("filtered_shard")),
            )
            return describe(shard)

        def find(task: ShardTask) -> Metadata | None:
            tar, idx, table = artifacts.of("filtered_shard", task.shard)
            if not is_current(output, table, task):
                return None
            if num_rows := read_about(output, table)["num_rows"]:
                there = _is_whole(output, tar, idx, num_rows)
            else:
                there = not output.exists(tar) and not output.exists(idx)
            return describe(task.shard) if there else None

        def describe(shard: str) -> Metadata:
            tar, _, table = artifacts.of("filtered_shard", shard)
            images = read_table(output, table, FILTERED, ["image_start", "image_bytes"])
            sheet = {f"kept ({len(images)})": images}
            return {
                "samples": len(images),
                "bytes": output.stat(tar).size if len(images) else 0,
                "url": f"{output.url}/{tar if len(images) else table}",
                "pictures": indexed_sheets(source, output, artifacts.catalog(shard), sheet),
            }

        tasks = shard_tasks(context, lineage, output)
        yield from record_shards(context, progress, tasks, one_by_one(make), find)

    return filtered_shard


def _is_whole(output: Storage, tar: str, idx: str, num_rows: int) -> bool:
    """Tell whether a filtered tar has the length that its index says, and all its rows."""
    try:
        data, size = output.read(idx), output.stat(tar).size
        samples = parse_index(data, idx)
    except (NotFoundError, IndexFormatError):
        return False
    end = max((e.start + padded(e.size) for entries in samples for e in entries), default=0)
    whole = data.endswith(b"\n") and len(samples) == num_rows
    return whole and size == end + len(END_OF_ARCHIVE)


def _kept(index: ShardIndex, selection: pa.Table) -> np.ndarray:
    """Give ``(samples,)`` bool, in the order of the index, which samples are kept."""
    rows = pc.index_in(
        pa.array(index.keys, pa.string()), value_set=selection["key"].combine_chunks()
    )
    if rows.null_count or len(rows) != len(selection):
        raise TableError(
            f"{index.file.path}: its selection is not of the samples that it has; the next "
            "run makes it again"
        )
    kept: np.ndarray = selection["kept"].take(rows).to_numpy()
    return kept


def _known(output: Storage, lineage: Lineage, shard: str) -> list[pa.Table]:
    """Read what the table is to hold of every sample."""
    artifacts, wanted = lineage.artifacts, lineage.recipe.filtered
    left_out = {"error"} | ({EMBEDDING} if not wanted.embeddings else set())
    left_out |= set(_TEXTS) if not wanted.captions else set()
    facts = read_table(output, artifacts.embeddings(shard), EMBEDDINGS)
    facts = facts.drop_columns([n for n in facts.column_names if n in left_out])
    return [facts, read_table(output, artifacts.scores(shard), SCORES)]


_MEND = (
    "The tar was damaged, or changed without a new time or size, after it was embedded: "
    "restore it from a copy, or, if it is meant to be so, `touch` it; then run again"
)


def _resharded(
    source: Storage,
    output: Storage,
    lineage: Lineage,
    raw: ShardIndex,
    kept: np.ndarray,
    shard: str,
) -> tuple[ShardIndex, list[pa.Table]]:
    """Write the tar, and compare its samples with what was embedded.

    What is copied inside a storage without passing through this machine is not fetched
    for it: a release and ``curate verify`` compare its images.

    Returns:
        Its index, and a table of checksums of other components, if there are any.

    Raises:
        SampleError: A sample is not what was embedded. Then there is no filtered tar.
    """
    tar = lineage.artifacts.of("filtered_shard", shard)[0]
    path, texts = lineage.artifacts.embeddings(shard), lineage.recipe.texts
    comparison: Comparison | None = None

    def on_record(index: ShardIndex) -> pa.Table:
        known = read_table(output, path, EMBEDDINGS, list(ON_RECORD))
        keys = pa.array(index.keys, pa.string())
        return known.take(pc.index_in(keys, value_set=known["key"].combine_chunks()))

    def watch(index: ShardIndex) -> Callable[[Buffer], None]:
        nonlocal comparison
        comparison = Comparison(texts)
        return comparing(comparison, index, on_record(index))

    is_local = output.local_path(tar) is not None
    filtered = reshard(source, raw, kept, output, tar, None if is_local else watch)
    if is_local:
        known = on_record(filtered)
        comparison = compare_samples(output, tar, filtered, known, texts)
    if comparison is None:
        return filtered, []
    if comparison.changed:
        output.delete(tar)
        raise damaged(f"{source.url}/{raw.file.path}", comparison.changed, shard, _MEND)
    columns = {"key": filtered.keys, COMPONENT_CRC32: comparison.crcs}
    return filtered, [pa.table(columns)]

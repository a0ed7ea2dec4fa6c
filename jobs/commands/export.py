"""``curate export``: filtered shards as files that other programs read."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import StaleError
from curation.exports import (
    ExportReport,
    export_clip_retrieval,
    export_nemo,
    export_vectors,
    filtered_tables,
)
from curation.exports.vectors import OnShard
from curation.recipe import load_recipe
from curation.storage import Storage, open_storage
from curation_assets.current_tables import CurrentTables, is_made
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards
from jobs.console import print_json, print_result, result_table, terminal_progress
from jobs.options import JsonOption, RecipeOption

Export = Callable[[Storage, Storage, OnShard | None], ExportReport]

OutArgument = Annotated[str, typer.Argument(help="Folder to write to, or s3:// prefix.")]
ShardsFolderOption = Annotated[
    str | None,
    typer.Option(help="Folder of filtered shards, in place of the recipe's."),
]


def export_npy(
    out: OutArgument,
    recipe: RecipeOption = Path("recipe.yaml"),
    shards_folder: ShardsFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write `img_emb_<shard>.npy` per shard; row i is of sample i, zeros for none."""
    _export(export_vectors, out, recipe, shards_folder, as_json)


def export_for_clip_retrieval(
    out: OutArgument,
    recipe: RecipeOption = Path("recipe.yaml"),
    shards_folder: ShardsFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write clip-retrieval's folders `img_emb`, `text_emb` and `metadata`."""
    _export(export_clip_retrieval, out, recipe, shards_folder, as_json)


def export_for_nemo(
    out: OutArgument,
    recipe: RecipeOption = Path("recipe.yaml"),
    shards_folder: ShardsFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write NeMo Curator's `NNNNN.tar` with `.idx` and `.parquet`, vectors as lists."""
    _export(export_nemo, out, recipe, shards_folder, as_json)


def _export(
    export: Export, out: str, recipe: Path, shards_folder: str | None, as_json: bool
) -> None:
    source, output = _places(out, recipe, shards_folder)
    with terminal_progress() as progress:
        progress.start("export", len(filtered_tables(source)))
        report = export(source, output, progress.advance)
    if as_json:
        print_json(
            {
                "url": output.url,
                "paths": report.paths,
                "rows": report.num_rows,
                "missing": report.num_missing,
            }
        )
        return
    rows = [
        ("files", len(report.paths)),
        ("samples", report.num_rows),
        ("  of them without a vector", report.num_missing),
    ]
    print_result(result_table("", ("", "count"), rows), f"written to {output.url}")


def _check_current(lineage: Lineage) -> None:
    """Refuse filtered shards that are not what the recipe says.

    Raises:
        StaleError: There are some; the message names the first.
    """
    recipe = lineage.recipe
    output = open_storage(recipe.output, recipe.s3)
    tars = list_shards(open_storage(recipe.source, recipe.s3), may_be_empty=True)
    tables = CurrentTables(lineage, output, tars)
    paths = {shard: lineage.artifacts.filtered_table(shard) for shard in tars}
    others = [
        shard
        for shard, path in paths.items()
        if output.exists(path) and not is_made(tables, "filtered_shard", shard)
    ]
    if others:
        raise StaleError(
            f"{len(others)} filtered shard(s) of {recipe.name} are not what the recipe "
            f"says, the first {others[0]}; run `curate run`, or export what is there with "
            f"--shards-folder {output.url}/{lineage.artifacts.filtered_folder}"
        )


def _places(out: str, recipe: Path, shards_folder: str | None) -> tuple[Storage, Storage]:
    """Open the folder of filtered shards, and that to write to."""
    if shards_folder is not None:
        return open_storage(shards_folder), open_storage(out)
    settings = load_recipe(recipe)
    lineage = Lineage(settings)
    _check_current(lineage)
    folder = lineage.artifacts.filtered_folder
    source = open_storage(f"{settings.output}/{folder}", settings.s3)
    return source, open_storage(out, settings.s3)

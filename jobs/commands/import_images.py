"""``curate import images``: a folder or a list of images becomes raw shards."""

from pathlib import PurePosixPath
from typing import Annotated

import typer

from curation.ingest.images import (
    PLAN_NAME,
    ImageImport,
    find_images,
    find_listed_images,
    write_images,
)
from curation.ingest.shard_layout import SAMPLES_PER_SHARD, ShardLayout
from curation.storage import open_storage, open_stored_file
from jobs.console import (
    format_bytes,
    print_json,
    print_result,
    result_table,
    shorten,
    terminal_progress,
)
from jobs.options import JsonOption, SamplesPerShardOption

LIST_SUFFIXES = (".csv", ".parquet")
MOST_ROWS = 20  # of what is no image, in the table for people


def import_images(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of images, captions beside them as .txt and .json; or a .csv or "
            ".parquet with the columns path, caption, and any others."
        ),
    ],
    out: Annotated[str, typer.Argument(help="Folder for the shards.")],
    root: Annotated[
        str | None,
        typer.Option(help="Folder that a list's paths start from; by default its own."),
    ] = None,
    samples_per_shard: SamplesPerShardOption = SAMPLES_PER_SHARD,
    follow_links: Annotated[
        bool,
        typer.Option(
            "--follow-links", help="Also take what links out of the folder lead to."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write image files and their captions as raw shards, byte for byte."""
    images = _found(source, root, ShardLayout(samples_per_shard), follow_links)
    output = open_storage(out)
    with terminal_progress() as progress:
        progress.start("import", len(images.shards))
        written = write_images(images, output, progress.advance)
    if as_json:
        print_json(
            {
                "shards": len(images.shards),
                "written": written,
                "samples": images.num_samples,
                "bytes": images.num_bytes,
                "refused": [
                    {"path": path, "problem": problem} for path, problem in images.problems
                ],
            }
        )
        return
    _tell_refused(images)
    size = format_bytes(images.num_bytes)
    print_result(
        f"{images.num_samples:,} images, {size}, are in {len(images.shards):,} shards in "
        f"{output.url}, {written:,} of them written now; {PLAN_NAME} there says which file "
        "became which sample."
    )


def _found(
    source: str, root: str | None, layout: ShardLayout, follow_links: bool
) -> ImageImport:
    lists, name = open_stored_file(source)
    if PurePosixPath(name).suffix.lower() not in LIST_SUFFIXES:
        return find_images(open_storage(source), layout, follow_links=follow_links)
    folder = open_storage(root) if root else lists
    return find_listed_images(lists, name, folder, layout, follow_links=follow_links)


def _tell_refused(images: ImageImport) -> None:
    if not images.problems:
        return
    rows = [(shorten(path, 60), problem) for path, problem in images.problems[:MOST_ROWS]]
    title = f"Not imported: {len(images.problems):,}"
    print_result(result_table(title, ("file", "why"), rows))
    if len(images.problems) > MOST_ROWS:
        print_result(f"… and {len(images.problems) - MOST_ROWS:,} more, in {PLAN_NAME}")

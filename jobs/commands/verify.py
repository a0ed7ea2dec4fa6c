"""``curate verify``: are shards, or a release, what they say they are?"""

from dataclasses import asdict
from typing import Annotated

import typer

from curation.storage import open_storage
from curation.verify import is_release, verify_release, verify_shards
from jobs.console import format_bytes, print_json, print_result, result_table
from jobs.exit_codes import EXIT_DIFFERENCE
from jobs.options import JsonOption


def verify(
    path: Annotated[
        str, typer.Argument(help="Folder or s3:// prefix of shards or a release.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Open every tar, and compare it with its .idx and table; hash a release's files."""
    storage = open_storage(path)
    published = is_release(storage)
    done = verify_release(storage) if published else verify_shards(storage)
    if as_json:
        print_json(asdict(done))
    elif done.differences:
        rows = [(difference.path, difference.found) for difference in done.differences]
        print_result(result_table("Differences", ("file", "found"), rows))
    else:
        print_result(
            f"{done.num_shards:,} shards with {done.num_samples:,} samples, "
            f"{format_bytes(done.num_bytes)}: every tar, .idx and table agree"
            + (", and every file is what the manifest says." if published else ".")
        )
    if done.differences:
        raise typer.Exit(EXIT_DIFFERENCE)

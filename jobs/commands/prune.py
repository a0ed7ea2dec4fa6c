"""``curate prune``: delete what no recipe refers to any more."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from curation.recipe import load_recipe
from curation.storage import open_storage
from jobs.console import format_bytes, print_json, print_result, result_table
from jobs.options import JsonOption
from jobs.prune import ABANDONED_SECONDS, find_abandoned, find_unused

UNFINISHED = f"left unfinished over {ABANDONED_SECONDS // 3600} hours ago"


def prune(
    recipe: Annotated[
        list[Path],
        typer.Option("--recipe", "-r", help="Every recipe with this output; may repeat."),
    ],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete them; without it they are listed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List, or delete, what is of shards that are gone, of old settings, of killed runs."""
    recipes = [load_recipe(file) for file in recipe]
    unused = find_unused(recipes)
    output = open_storage(recipes[0].output, recipes[0].s3)
    begun, claims = find_abandoned(output)
    abandoned = [*begun, *claims]
    if delete:
        for file in [*unused, *claims]:
            output.delete(file.path)
        for file in begun:
            output.discard(file)
    if as_json:
        unfinished = [file.path for file in abandoned]
        told = {"files": [file.path for file in unused], "unfinished": unfinished}
        print_json(told | {"deleted": delete})
        return
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for file in unused:
        folder = "/".join(file.path.split("/")[:2])
        counts[folder] += 1
        sizes[folder] += file.size
    for file in abandoned:
        counts[UNFINISHED] += 1
        sizes[UNFINISHED] += file.size
    if counts:
        rows = [(name, counts[name], format_bytes(sizes[name])) for name in sorted(counts)]
        title = "Deleted" if delete else "Unused; --delete deletes it"
        print_result(result_table(title, ("folder", "files", "size"), rows))
    else:
        print_result("Everything in the output is in use.")

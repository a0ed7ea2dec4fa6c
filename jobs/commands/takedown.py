"""``curate takedown``: a release without some samples, which never come back."""

from pathlib import Path
from typing import Annotated

import typer

from curation.errors import NotFoundError
from curation.recipe import load_recipe
from curation.storage import open_storage
from jobs.commands.release import ReleaseNameOption
from jobs.console import print_json, print_result, terminal_progress
from jobs.options import JsonOption, RecipeOption
from jobs.release import make_takedown


def takedown(
    keys: Annotated[
        Path,
        typer.Argument(help="A file of keys, one a line, or `<shard><TAB><key>`."),
    ],
    recipe: RecipeOption = Path("recipe.yaml"),
    name: ReleaseNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the last release without some samples; no later one has them again.

    A key is that of the release or of the raw shards. Only the tars that held the samples
    are written; samples with the same image go too.
    """
    settings = load_recipe(recipe)
    if not keys.is_file():
        raise NotFoundError(f"{keys}: there is no such file; expected one key per line")
    lines = keys.read_text("utf-8-sig", errors="backslashreplace").split("\n")
    with terminal_progress() as progress:
        done = make_takedown(settings, progress, lines, name=name)
    url = f"{open_storage(settings.output, settings.s3).url}/{done.release.folder}"
    if as_json:
        told = {"url": url, "taken_down": done.keys, "rewritten": done.rewritten}
        print_json({"released": done.release.name, **told, "record": done.record})
    elif not done.keys:
        print_result(
            f"{done.release.name} has none of these samples: they were taken down before."
        )
    else:
        print_result(
            f"{done.release.name} is without {len(done.keys):,} sample(s), which no tar "
            f"and no table of it holds; {done.rewritten:,} of "
            f"{len(done.release.shards):,} tars were written anew: {url}\n"
            f"Earlier releases still have them: delete those. Copies that others made, and "
            "the raw and filtered shards, are not touched."
        )

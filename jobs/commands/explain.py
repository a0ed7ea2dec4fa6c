"""``curate explain``: the story of one sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from curation.recipe import load_recipe
from curation.storage import open_storage
from curation_assets.partitions import list_shards
from jobs.console import print_json, print_result, result_table
from jobs.explain import Story, explain
from jobs.options import JsonOption, RecipeOption, ShardsOption, choose_shards

LONGEST = 160  # characters of a caption or of metadata that are shown


def explain_sample(
    key: Annotated[str, typer.Argument(help="The sample's key.")],
    recipe: RecipeOption = Path("recipe.yaml"),
    shards: ShardsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell all that is known of a sample: bytes, facts, scores, twins, decision."""
    settings = load_recipe(recipe)
    known = list(list_shards(open_storage(settings.source, settings.s3)))
    stories = explain(settings, key, choose_shards(shards, known), known)
    if as_json:
        print_json([story.as_json() for story in stories])
    else:
        print_result(*(_table(story) for story in stories))


def _table(story: Story) -> Table:
    rows: list[tuple[str, Any]] = [("shard", story.shard), ("raw tar", story.url)]
    for part in story.components:
        stop = part["start"] + part["size"]
        rows.append((part["name"], f"bytes {part['start']:,} to {stop:,}"))
    rows += [(name, _shown(value)) for name, value in story.facts.items()]
    rows += [(name, _shown(value)) for name, value in story.scores.items()]
    rows += _group(story)
    rows.append(("decision", _decision(story)))
    rows += [("  it fails", reason) for reason in story.reasons]
    if story.filtered_url:
        rows.append(("went to", story.filtered_url))
    if story.taken_down:
        rows.append(
            ("taken down", "from {release}, there {key}".format(**story.taken_down))
        )
    return result_table(f"{story.key}", ("", "what is known"), rows)


def _decision(story: Story) -> str:
    if story.kept is None:
        return "not decided on yet"
    if story.kept and story.taken_down:
        return "dropped from every release: taken down"
    return "kept" if story.kept else "dropped"


def _group(story: Story) -> Iterator[tuple[str, str]]:
    """Tell of all copies which stays, and how close the others are to it."""
    group = story.group
    if group is None:
        return
    yield "copies", f"{group.num_copies + 1}, of which one stays"
    yield "  stays", _member(story, group.shard, group.key)
    for copy in group.copies:
        yield "  goes", f"{_member(story, copy.shard, copy.key)} ({copy.closeness})"


def _member(story: Story, shard: str, key: str) -> str:
    itself = ", this one" if (shard, key) == (story.shard, story.key) else ""
    return f"{key} of shard {shard}{itself}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

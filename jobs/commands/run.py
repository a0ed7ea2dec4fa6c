"""``curate run``: bring everything up to date."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from curation.recipe import Recipe, load_recipe
from curation.selection import explain_empty
from curation.storage import open_storage
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards
from jobs.arrivals import tell_waiting
from jobs.console import (
    format_bytes,
    print_json,
    print_result,
    result_table,
    terminal_progress,
)
from jobs.curate import ORDER, CurateResult, curate, tell_set_aside
from jobs.exit_codes import EXIT_DIFFERENCE, EXIT_SHARDS_FAILED
from jobs.imports import bring_imports
from jobs.options import JsonOption, RecipeOption, ShardsOption, choose_shards
from jobs.retry import retry
from jobs.summary import Summary, summarize
from jobs.troubles import any_are, trouble_tables


def run(
    recipe: RecipeOption = Path("recipe.yaml"),
    shards: ShardsOption = None,
    until: Annotated[str, typer.Option(help="The last asset to make.")] = ORDER[-1],
    retry_quarantined: Annotated[
        bool,
        typer.Option(
            "--retry-quarantined",
            help="First try again those images that could not be decoded or embedded.",
        ),
    ] = False,
    retry_urls: Annotated[
        bool,
        typer.Option(
            "--retry-urls",
            help="First fetch again those URLs of imported lists that failed.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make everything that is missing or stale, from imports to filtered shards."""
    settings = load_recipe(recipe)
    result = CurateResult()
    if Lineage(settings).imports:
        with terminal_progress() as progress:
            result += bring_imports(settings, progress, retry_urls=retry_urls)
    tars = list_shards(open_storage(settings.source, settings.s3))
    chosen = choose_shards(shards, list(tars))
    with terminal_progress() as progress:
        if retry_quarantined:
            retry(settings, progress, chosen)
        result += curate(settings, progress, shards=chosen, until=until)
    summary = summarize(settings, chosen)
    if as_json:
        print_json(summary.as_json() | result.as_json())
    else:
        print_result(*run_tables(settings, summary, result))
    if result.failed or any_are(summary.troubles, "lost"):
        raise typer.Exit(EXIT_SHARDS_FAILED)
    if any_are(summary.troubles, "wrong"):
        raise typer.Exit(EXIT_DIFFERENCE)


def run_tables(recipe: Recipe, summary: Summary, result: CurateResult) -> list[Table | str]:
    """Lay out what was done and what it amounts to."""
    shown: list[Table | str] = [result.taken_over] if result.taken_over else []
    if result.set_aside:
        shown.append(tell_set_aside(recipe, result.set_aside))
    if result.waiting:
        shown.append(tell_waiting(recipe, result.waiting))
    elif result.num_runs == 0:
        shown.append("Everything is up to date: there was nothing to do.")
    if result.seconds:
        shown.append(result_table("", ("step", "seconds"), list(result.seconds.items())))
    if summary.num_selected_shards:
        shown += _decided(summary)
    if undecided := summary.num_shards - summary.num_selected_shards:
        shown.append(f"{undecided} of {summary.num_shards} shards are not decided on yet.")
    shown += trouble_tables(summary.troubles)
    if result.failed:
        shown.append(
            result_table(
                "Not made", ("shard or import", "why"), list(result.failed.items())
            )
        )
    return shown


def _decided(summary: Summary) -> list[Table | str]:
    funnel = summary.funnel
    rows: list[tuple[str, Any]] = [("samples in", funnel.samples)]
    rows += [(f"  dropped: {reason}", count) for reason, count in funnel.reasons.items()]
    rows += [("samples kept", funnel.kept)]
    empty = None if funnel.kept else explain_empty(funnel.samples, funnel.reasons)
    several = (
        f"{funnel.dropped:,} samples were dropped; one that several conditions drop counts "
        "for each of them."
    )
    return [
        result_table("", ("", "count"), rows),
        *([several] if funnel.overlaps else []),
        _amount(summary),
        *([f"warning: {empty}"] if empty else []),
    ]


def _amount(summary: Summary) -> str:
    """Say how much is kept, and where it is, if it is anywhere yet."""
    funnel = summary.funnel
    if not funnel.samples:
        return "There are no samples: the shards are empty, or could not be read."
    could = " that could be read" if any_are(summary.troubles, "lost") else ""
    kept = f"{funnel.kept / funnel.samples:.1%} of the samples{could}"
    if due := summary.num_selected_shards - summary.num_filtered_shards:
        return (
            f"{kept} are selected; {due} of {summary.num_selected_shards} filtered shards "
            f"are still to be written to {summary.filtered_folder}"
        )
    return (
        f"{kept}, {format_bytes(summary.filtered_bytes)} of "
        f"{format_bytes(summary.raw_bytes)}, are in {summary.filtered_folder}"
    )

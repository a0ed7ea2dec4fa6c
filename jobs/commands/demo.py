"""``curate demo``: see it work, on photographs that come with the packages."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from curation.recipe import load_recipe
from jobs.commands.run import run_tables
from jobs.console import (
    print_json,
    print_line,
    print_result,
    result_table,
    terminal_progress,
)
from jobs.demo import DemoResult, run_demo
from jobs.exit_codes import EXIT_DIFFERENCE
from jobs.instance import ROOT
from jobs.options import JsonOption
from jobs.summary import summarize


def demo(
    recipe: Annotated[
        Path, typer.Option("--recipe", "-r", help="The demo's settings file.")
    ] = ROOT / "recipe.yaml",
    as_json: JsonOption = False,
) -> None:
    """Make shards with planted flaws, curate them, and compare with what was planted."""
    settings = load_recipe(recipe)
    with terminal_progress() as progress:
        done = run_demo(settings, progress, print_line)
    summary = summarize(settings, done.dataset.shards)
    if as_json:
        print_json(summary.as_json() | done.runs.as_json() | _as_json(done))
    else:
        print_result(*run_tables(settings, summary, done.runs), *_tables(done))
    if not done.is_as_planted:
        raise typer.Exit(EXIT_DIFFERENCE)


def _tables(done: DemoResult) -> list[Table | str]:
    rows = [
        (
            row["kind"].replace("_", " "),
            row["expected"],
            row["planted"],
            row["as_expected"],
            row["lost_to_probe"] or "",
        )
        for row in done.comparison.to_pylist()
    ]
    verdict = "Everything" if done.is_as_planted else "NOT everything"
    return [
        result_table(
            "What was planted, and what became of it",
            ("kind", "expected", "planted", "as expected", "lost to probe"),
            rows,
        ),
        f"{verdict} that is decided by rule became what it should. The probe is a model "
        f"and errs: {done.probe_accuracy:.1%} balanced accuracy on {done.num_test_labels} "
        "labelled samples of shards that it never saw.",
        f"Of {done.copies.near} near copies (resized, compressed, cropped, recoloured), "
        f"{done.copies.near_found} were found by hash and embedding; "
        f"{done.copies.wrong} other samples were taken for copies.",
        f"`make ui` shows it all; `.venv/bin/curate explain {done.example}` tells the "
        "story of one sample.",
    ]


def _as_json(done: DemoResult) -> dict[str, Any]:
    return {
        "probe_balanced_accuracy": done.probe_accuracy,
        "num_test_labels": done.num_test_labels,
        "near_copies": asdict(done.copies),
        "planted": done.comparison.to_pylist(),
    }

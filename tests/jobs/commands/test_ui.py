"""``curate ui``: what is refused before a server starts. The server: end_to_end/."""

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_a_wrong_recipe_starts_no_server(curated: Curated, run: Run) -> None:
    curated.edit("min(width", "min(widht")
    assert run("ui", "--recipe", curated.recipe_file)[0] == 2


def test_an_empty_source_starts_no_server(curated: Curated, run: Run) -> None:
    curated.edit("source: raw", "source: nowhere")
    assert run("ui", "--recipe", curated.recipe_file)[0] == 2

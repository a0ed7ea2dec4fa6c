"""What the doctor finds."""

from curation.recipe import Recipe
from jobs.doctor import examine, measure_own_parity
from tests.conftest import Curated


def bad(recipe: Recipe) -> dict[str, str]:
    return {f.what: f.found for f in examine(recipe) if not f.is_good}


def test_a_recipe_that_ran_is_healthy(curated: Curated) -> None:
    assert bad(curated.recipe) == {}


def test_everything_that_is_wrong_is_found_at_once(curated: Curated) -> None:
    curated.edit("source: raw", "source: nowhere")
    curated.edit("probe.safetensors", "absent.safetensors")
    curated.edit("device: cpu, ", "device: cuda, ")
    found = bad(curated.recipe)
    assert "absent.safetensors" in found["weights and output"]
    assert "no .tar file" in found["source"]


def test_the_loader_places_pixels_as_timm_does(curated: Curated) -> None:
    parity = measure_own_parity(curated.recipe, num_images=24)
    assert 12 < parity.num_images <= 24
    assert parity.is_good, parity

"""What the doctor finds."""

import gzip

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
    assert "absent.safetensors" in found["classifiers"]
    assert "set it to auto" in found["device"]
    assert "no .tar file" in found["source"]


def test_a_source_of_damaged_tars_is_found_before_any_run(curated: Curated) -> None:
    whole = (curated.source.root / "00000.tar").read_bytes()
    fresh = curated.folder / "fresh"
    fresh.mkdir()
    damaged = [b"", b"<html>" * 100, whole[:3000], gzip.compress(whole), bytes([7]) * 999]
    for number, data in enumerate([whole, *damaged]):
        (fresh / f"{number}.tar").write_bytes(data)
    curated.edit("source: raw", "source: fresh")
    curated.edit("output: curated", "output: made")
    found = bad(curated.recipe)["source"]
    assert "5 of the 6 tars" in found
    assert all(f"\n{number}.tar: " in found for number in range(1, 6))


def test_a_wrong_encoder_is_found(curated: Curated) -> None:
    curated.edit("encoder: {", "encoder: {model: tf_efficientnet_lite1, ")
    found = bad(curated.recipe)
    assert "another architecture" in found["encoder"]
    curated.edit("model: tf_efficientnet_lite1", "model: tf_efficientnet_light")
    assert "nearest names" in bad(curated.recipe)["encoder"]


def test_the_loader_places_pixels_as_timm_does(curated: Curated) -> None:
    parity = measure_own_parity(curated.recipe, num_images=24)
    assert 12 < parity.num_images <= 24
    assert parity.is_good, parity

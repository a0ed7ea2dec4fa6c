"""Every setting of a recipe that ends in an object is in that object."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

from curation.devices import visible_gpus
from curation.embedding_workers import RayWorkers
from curation.errors import InputError
from curation.image_loaders import IMAGE_LOADERS
from curation.recipe import MachineSettings, Recipe
from curation.recipe_tools import (
    embedding_tools,
    embedding_workers,
    local_copies,
    make_tools,
    text_tools,
)
from curation.storage import LocalCopies, S3Settings
from resources.recipe_resources import recipe_objects

BASE: dict[str, Any] = {
    "name": "test",
    "source": "s3://bucket/raw",
    "output": "s3://bucket/made",
    "text_encoder": {},
    "machine": {"device": "cpu"},
}
OTHER: dict[str, Any] = {
    "source": "s3://bucket/others",
    "output": "/made",
    "s3.endpoint_url": "http://127.0.0.1:1",
    "s3.region": "eu-1",
    "s3.profile": "mine",
    "s3.anonymous": True,
    "encoder.model": "test_vit",
    "encoder.weights": "hub",
    "encoder.precision": "bf16",
    "text_encoder.model": "ViT-B-32",
    "text_encoder.pretrained": "laion2b_s34b_b79k",
    "text_encoder.weights": "/tower.safetensors",
    "images.max_pixels": 1000,
    "images.rotate_by_exif": True,
    "images.on_corruption": "keep",
    "classifiers": {"nsfw": {}},
    "machine.device": "auto",
    "machine.engine": "ray",
    "machine.workers": 3,
    "machine.share_gpus": True,
    "machine.image_loader": "pillow",
    "machine.batch_size": 7,
    "machine.compile": True,
    "machine.copies_gb": 1.5,
    "machine.copies_folder": "/scratch",
    "machine.dali.num_threads": 2,
    "machine.dali.hardware_decoder_load": 0.25,
    "machine.dali.pixels_at_once": 1_000_000,
    "machine.dali.device_memory_padding": 1,
    "machine.dali.host_memory_padding": 2,
}
"""A setting to another value than it has by default."""
NO_OBJECT = {
    "machine.shards_per_run",  # the planner's
    "images.extensions",  # go with each shard to be embedded, as ``recipe.images``
    "images.hash_pixels",
}


def recipe(path: str = "", value: Any = None) -> Recipe:
    settings = pickle.loads(pickle.dumps(BASE))
    *parents, name = path.split(".")
    section = settings
    for parent in parents:
        section = section.setdefault(parent, {})
    if path:
        section[name] = value
    return Recipe.model_validate(settings)


def objects(recipe: Recipe) -> dict[str, Any]:
    made = recipe_objects(recipe)
    return {name: value for name, value in made.items() if name != "progress"}


def leaves(model: Any, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_table_of_this_test_has_every_setting_of_those_sections() -> None:
    sections = {"encoder", "text_encoder", "images", "machine"}
    found = {f"s3.{name}" for name in S3Settings.__dataclass_fields__}
    for section in sections:
        kind = type(getattr(recipe(), section))
        found |= set(leaves(kind, f"{section}."))
    assert found | {"source", "output", "classifiers"} == set(OTHER) | NO_OBJECT


@pytest.mark.parametrize("path", OTHER)
def test_a_setting_changes_an_object_which_travels(path: str) -> None:
    before, after = objects(recipe()), objects(recipe(path, OTHER[path]))
    assert before == objects(recipe())  # they are values
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == (2 if path.startswith("s3") else 1), changed
    assert pickle.loads(pickle.dumps(after)) == after


@pytest.mark.parametrize("name", [None, *IMAGE_LOADERS])
def test_what_a_worker_makes_has_the_settings(name: str | None) -> None:
    settings = {"image_loader": name or "auto", "batch_size": 7, "device": "cpu"}
    settings |= {"dali": {"num_threads": 3, "pixels_at_once": 1_000_000}}
    machine = MachineSettings.model_validate(settings)
    chosen = recipe("encoder.model", "test_vit").model_copy(update={"machine": machine})
    loader, embedder = make_tools(chosen)
    assert loader.name == (name or "nvimgcodec")
    assert loader.settings.batch_size == 7
    assert loader.settings.dali == machine.dali
    assert (embedder.device, loader.settings.device) == ("cpu", "cpu")


def test_the_text_encoder_goes_to_the_workers_device() -> None:
    for device in ("cpu", "cuda:1"):
        (embedder,) = text_tools(recipe()).make(device)
        assert embedder.device == device


def test_the_engine_decides_which_workers_they_are() -> None:
    assert embedding_workers(recipe("machine.engine", "ray")) == RayWorkers("cpu")


def test_copies_go_to_the_users_cache_folder_or_where_the_recipe_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    expected = LocalCopies(Path("/cache/curation"), 1_500_000_000)
    assert local_copies(recipe("machine.copies_gb", 1.5)) == expected
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    expected = LocalCopies(Path("/home/me/.cache/curation"), 0)
    assert local_copies(recipe("machine.copies_gb", 0)) == expected


def test_captions_without_a_text_encoder_are_an_error_in_words() -> None:
    with pytest.raises(InputError, match="no text_encoder"):
        text_tools(recipe().model_copy(update={"text_encoder": None}))


@pytest.mark.skipif(bool(visible_gpus()), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError, match="set it to auto"):
        make_tools(recipe("machine.device", "cuda"))


def test_making_the_objects_loads_no_model_library() -> None:
    code = (
        "import sys\n"
        "from curation.recipe import Recipe\n"
        "from resources.recipe_resources import recipe_objects\n"
        "recipe_objects(Recipe(name='a', source='/a', output='/b', text_encoder={}))\n"
        "assert not {'torch', 'timm', 'open_clip'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_every_road_embeds_with_the_same_tools() -> None:
    chosen = recipe("machine.dali.pixels_at_once", 1_000_000)
    assert recipe_objects(chosen)["embedding_tools"] == embedding_tools(chosen)

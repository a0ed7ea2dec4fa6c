"""What is wrong with a recipe as a whole, told before anything runs."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from curation.classifiers.linear_probe import METADATA_KEY
from curation.embedders import TimmEmbedder
from curation.errors import (
    CurationError,
    DataError,
    InputError,
    NotFoundError,
    UnknownNameError,
)
from curation.recipe import Recipe, load_recipe
from curation.recipe_check import CHECKS, check_ready, check_recipe

EVERYTHING = {check.asset for check in CHECKS if check.asset}
PROBE = {"probe": {"type": "linear_probe", "weights": "probe.safetensors"}}


def recipe(**settings: Any) -> Recipe:
    base = {"name": "test", "source": "/data/raw", "output": "/data/made"}
    return Recipe.model_validate(base | settings)


def test_a_recipe_that_fits_together_passes() -> None:
    check_recipe(recipe(classifiers=PROBE, filter="probe > 0.5 and width > 10"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"filter": "widht > 10"}, UnknownNameError, "did you mean width"),
        ({"filter": "probe > 0.5"}, UnknownNameError, "probe"),
        ({"filter": "caption > 5"}, InputError, "caption"),
        ({"filter": "width"}, InputError, "width"),
        ({"classifiers": {"x": {"type": "nonesuch"}}}, UnknownNameError, "linear_probe"),
        ({"classifiers": {"width": PROBE["probe"]}}, InputError, "already"),
        ({"duplicates": {"prefer": ["beauty desc"]}}, UnknownNameError, "pixels"),
        ({"duplicates": {"prefer": ["pixels up"]}}, InputError, "pixels up"),
        (
            {
                "duplicates": {"prefer": ["passes_filter desc"]},
                "filter": "top_fraction(width, 0.5)",
            },
            InputError,
            r"top_fraction\(width, 0.5\), which is found when copies are gone",
        ),
        ({"duplicates": {"exact": "pixels"}}, InputError, "images.hash_pixels: true"),
        ({"output": "/data/raw/made"}, InputError, "within the source"),
        ({"output": "/data/raw"}, InputError, "within the source"),
        ({"source": "s3://b/raw", "output": "s3://b/raw/x"}, InputError, "within"),
        (
            {"imports": {"images": {"mine": {"folder": "/data"}}}},
            InputError,
            r"imports\.images\.mine\.folder: /data and /data/raw.* take them apart",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    settings: dict[str, Any], error: type[CurationError], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_recipe(recipe(**settings))


def test_a_folder_beside_the_source_is_a_good_output() -> None:
    check_recipe(recipe(output="/data/raw-filtered"))


def test_weights_are_looked_for_only_as_far_as_they_are_needed(tmp_path: Path) -> None:
    ready = recipe(classifiers=PROBE, output=str(tmp_path), machine={"device": "cpu"})
    check_ready(ready, {"embeddings"})
    with pytest.raises(NotFoundError, match=r"probe\.safetensors"):
        check_ready(ready, {"scores"})


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="file"):
        check_ready(recipe(output=str(tmp_path / "file" / "x")), {"raw_shard"})


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_ready(recipe(output=str(tmp_path)), {"raw_shard"})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_to_be_made_loads_no_library(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from curation.recipe import Recipe\n"
        "from curation.recipe_check import CHECKS, check_ready, check_recipe\n"
        "recipe = Recipe(name='a', source='/a', output='made', filter='width > 3')\n"
        "check_recipe(recipe)\n"
        "check_ready(recipe, {'duplicates', 'selection'})\n"
        "assert not {'torch', 'timm', 'open_clip'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    paths = {"PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | paths, check=True
    )


def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(timm.create_model("test_vit", num_classes=7).state_dict())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write weights of all sorts, and probes."""
    folder = tmp_path_factory.mktemp("weights")
    state = tiny_state()
    save_file(state, folder / "tiny.safetensors")
    torch.save({"state_dict": state}, folder / "tiny.pth")
    save_file({"a": torch.zeros(2)}, folder / "other.safetensors")
    torch.save({"model": {"a": torch.zeros(2)}}, folder / "other.pth")
    (folder / "damaged.safetensors").write_bytes(b"\xff" * 100)
    whole = (folder / "tiny.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    known = TimmEmbedder("test_vit", str(folder / "tiny.safetensors")).encoder()
    for name, encoder, width in (
        ("good", known, known["dim"]),
        ("of_other_model", known | {"model": "test_vit2"}, known["dim"]),
        ("of_other_weights", known | {"weights_sha256": "0" * 64}, known["dim"]),
        ("of_half_precision", known | {"precision": "fp16"}, known["dim"]),
        ("of_other_width", known, 3),
    ):
        assert isinstance(width, int)
        about = {"format": "linear probe 1", "encoder": encoder}
        head = {"weight": torch.ones(width), "bias": torch.zeros(1)}
        save_file(head, folder / f"{name}.safetensors", {METADATA_KEY: json.dumps(about)})
    return folder


def of_files(folder: Path, settings: dict[str, Any], output: Path) -> Recipe:
    text = json.dumps(settings).replace("$", f"{folder}/")
    base = {"encoder": {"model": "test_vit", "weights": f"{folder}/tiny.safetensors"}}
    base |= {"machine": {"device": "cpu"}, "output": str(output)}
    return recipe(**(base | json.loads(text)))


def probe(name: str, **settings: Any) -> dict[str, Any]:
    named = {"type": "linear_probe", "weights": f"${name}.safetensors"}
    return {"classifiers": {"mine": named | settings}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"encoder": {"model": "test_vit", "weights": "$tiny.pth"}},
        {"encoder": {}},
        probe("good"),
        probe("of_half_precision"),
        probe("of_other_model", trust_encoder=True),
        {"machine": {"device": "auto"}},
    ],
    ids=str,
)
def test_what_is_there_and_fits_passes(
    settings: dict[str, Any], files: Path, tmp_path: Path
) -> None:
    check_ready(of_files(files, settings, tmp_path), EVERYTHING)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"encoder": {"model": "test_vitt"}}, UnknownNameError, "nearest names .*test_vit"),
        ({"encoder": {"model": "test_vit.tag"}}, UnknownNameError, "pretrained timm model"),
        ({"encoder": {"model": "test_vit", "weights": "$a.pth"}}, NotFoundError, "a.pth"),
        (
            {"encoder": {"model": "test_vit", "weights": "$other.safetensors"}},
            InputError,
            "of another architecture: .*is missing",
        ),
        (
            {"encoder": {"model": "test_vit", "weights": "$other.pth"}},
            InputError,
            "of another architecture",
        ),
        (
            {"encoder": {"model": "test_vit2", "weights": "$tiny.safetensors"}},
            InputError,
            "of another architecture",
        ),
        (
            {"encoder": {"model": "test_vit", "weights": "$damaged.safetensors"}},
            DataError,
            "can be read",
        ),
        ({"encoder": {"model": "test_vit", "weights": "$cut.pth"}}, DataError, "cut.pth"),
        ({"encoder": {"model": "test_vit", "weights": "hub"}}, InputError, "hub .*127"),
        ({"machine": {"device": "cuda"}}, InputError, "set it to auto"),
        (probe("of_other_model"), InputError, "classifier mine: .*test_vit2"),
        (probe("of_other_weights"), InputError, "classifier mine: .*weights_sha256"),
        (probe("of_other_width"), DataError, "expected weight of shape"),
        (probe("other"), DataError, "expected a linear probe"),
        (
            {"text_encoder": {"model": "ViT-B-32x"}},
            UnknownNameError,
            "open_clip model",
        ),
        (
            {"text_encoder": {"model": "ViT-B-32", "pretrained": "openaii"}},
            UnknownNameError,
            "tag of weights for ViT-B-32",
        ),
        (
            {"text_encoder": {"model": "ViT-B-32", "weights": "$other.safetensors"}},
            InputError,
            "of another architecture",
        ),
        (
            {"text_encoder": {"model": "ViT-B-32", "pretrained": "openai"}},
            InputError,
            "open_clip's hub .*127",
        ),
    ],
)
def test_what_embedding_would_stumble_over_is_told_before_it(
    settings: dict[str, Any],
    error: type[CurationError],
    message: str,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(error, match=message):
        check_ready(of_files(files, settings, tmp_path), EVERYTHING)


@pytest.mark.parametrize("column", ["nsfw", "aesthetic", "aesthetic_linear"])
def test_a_head_for_another_model_is_refused_by_the_recipe_alone(column: str) -> None:
    with pytest.raises(InputError, match=f"classifier {column}: it understands .*lite0"):
        check_recipe(recipe(classifiers={column: {}}))
    check_recipe(recipe(classifiers={column: {"trust_encoder": True}}))


def test_prompts_for_another_model_are_refused_by_the_recipe_alone() -> None:
    prompts = {"type": "zero_shot", "prompts": ["a dog"], "against": ["a cat"]}
    with pytest.raises(InputError, match=r"classifier dog: it understands .*lite0"):
        check_recipe(recipe(classifiers={"dog": prompts}))


def test_captions_that_nothing_embeds_are_told(files: Path, tmp_path: Path) -> None:
    settings = {"classifiers": {"text_alignment": {}}}
    with pytest.raises(InputError, match=r"text_alignment: .*add text_encoder"):
        check_ready(of_files(files, settings, tmp_path), {"scores"})


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("filter: width > 5 and widht > 5", 4),
        ("filter: 'width > 5 and widht > 5'  # a comment", 4),
        ("filter: >-\n  width > 5\n\n  and widht > 5\n  and true", 7),
        ("filter: |\n  width > 5\n  and height > 5 and\n  widht > 5", 7),
        ("filter:\n  width > 5\n  and widht\n  > 5", 6),
        ('release:\n  where: "widht > 5"', 5),
        ("release:\n  repeats:\n    width > 5: 2\n    widht > 5: 3", 7),
        ("filter: widht >\n  5", 4),
    ],
)
def test_a_mistake_in_an_expression_is_told_with_the_recipes_line(
    tmp_path: Path, written: str, line: int
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\nsource: raw\noutput: out\n{written}\n")
    with pytest.raises(UnknownNameError) as caught:
        check_recipe(load_recipe(file))
    message, shown, caret = str(caught.value).split("\n")
    setting = "filter" if written.startswith("filter") else "release."
    assert message.startswith(f"{file}:{line}: {setting}")
    assert "There is no column 'widht'; did you mean" in message
    assert shown[caret.index("^") :].startswith("widht")


def test_recipes_are_equal_wherever_they_are_written(tmp_path: Path) -> None:
    text = "name: mine\nsource: /raw\noutput: /out\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(f"# a comment\n{text}")
    assert load_recipe(tmp_path / "a.yaml") == load_recipe(tmp_path / "b.yaml")
    assert pickle.loads(pickle.dumps(load_recipe(tmp_path / "a.yaml"))).name == "mine"

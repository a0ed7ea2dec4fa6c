"""A sample's files have the flaws of its kind, and only those."""

import hashlib
import io
import json

import pytest
from PIL import Image, ImageOps

from curation.ingest.demo_pictures import Region, open_photographs
from curation.ingest.demo_plan import Slot
from curation.ingest.demo_samples import CUTS, TINY_SIZES, DemoSample, make_sample

PHOTOGRAPHS = open_photographs()


def made(kind: str, occurrence: int = 0) -> DemoSample:
    slot = Slot(0, 7, kind, occurrence, Region("coffee", 0, 0, 224, 224))
    return make_sample(slot, PHOTOGRAPHS, {}, seed=0)


@pytest.mark.parametrize("number", range(len(CUTS)))
def test_a_truncated_image_is_the_beginning_of_what_its_json_noted(number: int) -> None:
    sample = made("truncated_jpeg", number)
    whole = made("photograph")
    assert whole.files["jpg"].startswith(sample.files["jpg"])
    assert len(sample.files["jpg"]) < len(whole.files["jpg"])
    noted = json.loads(sample.files["json"])["sha256"]
    assert noted == hashlib.sha256(whole.files["jpg"]).hexdigest()


def test_tiny_images_take_their_sizes_in_turn() -> None:
    for number, size in enumerate(TINY_SIZES):
        image = Image.open(io.BytesIO(made("tiny", number).files["jpg"]))
        assert image.size == size


def test_a_turned_image_is_seen_upright_by_those_who_heed_exif() -> None:
    upright = Image.open(io.BytesIO(made("photograph").files["jpg"]))
    turned = Image.open(io.BytesIO(made("exif_rotated").files["jpg"]))
    assert turned.size == upright.size[::-1]
    seen = ImageOps.exif_transpose(turned)
    small = [image.convert("L").resize((8, 8)).tobytes() for image in (upright, seen)]
    assert max(abs(a - b) for a, b in zip(*small, strict=True)) <= 4


def test_what_takes_an_images_place_has_its_extension() -> None:
    assert made("empty_file").files["jpg"] == b""
    assert len(made("garbage").files["jpg"]) == 5000
    assert b"404" in made("html_page").files["jpg"]
    assert list(made("no_image").files) == ["txt", "json"]


def test_every_file_of_a_dotted_base_name_has_the_dot() -> None:
    sample = made("dotted_base_name")
    assert list(sample.files) == ["final.jpg", "final.txt", "final.json"]


def test_a_sample_is_the_same_wherever_it_is_made() -> None:
    assert made("blurred").files == made("blurred").files
    assert made("blurred").edit.startswith("Gaussian blur of ")

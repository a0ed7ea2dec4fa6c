"""Every edit changes a picture of any size, and leaves one."""

import io

import numpy as np
import pytest
from PIL import Image

from curation.dedup.edits import EDITS, edited
from curation.errors import InputError, UnknownNameError


def picture(width: int, height: int) -> bytes:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
    encoded = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_picture(name: str) -> None:
    original = picture(300, 200)
    copy = edited(original, name)
    with Image.open(io.BytesIO(original)) as one, Image.open(io.BytesIO(copy)) as other:
        assert other.format == "BMP"
        assert other.size != one.size or other.tobytes() != one.tobytes()
    assert edited(original, name) == copy


@pytest.mark.parametrize("name", EDITS)
def test_a_single_pixel_is_no_trouble(name: str) -> None:
    with Image.open(io.BytesIO(edited(picture(1, 1), name))) as copy:
        assert min(copy.size) >= 1


def test_what_can_not_be_edited_is_named() -> None:
    with pytest.raises(UnknownNameError, match="mirrored"):
        edited(picture(4, 4), "mirored")
    with pytest.raises(InputError, match="can't be decoded"):
        edited(b"no picture", "gray")

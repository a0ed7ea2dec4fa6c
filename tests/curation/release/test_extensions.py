"""Names that every reader takes, for whatever names the samples came with."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from curation.release.extensions import unified_extensions


@pytest.mark.parametrize(
    ("before", "image", "after"),
    [
        (["jpg", "txt", "json"], "jpg", ["jpg", "txt", "json"]),
        (["PNG", "TXT"], "PNG", ["jpg", "txt"]),
        (["JPG", "jpg", "txt"], "jpg", ["2.jpg", "jpg", "txt"]),
        (["jpg", "JPG", "Jpg"], "jpg", ["jpg", "2.jpg", "3.jpg"]),
        (["webp", "jpg"], "webp", ["jpg", "2.jpg"]),
        (["input.jpg", "outputs.TXT"], "input.jpg", ["jpg", "outputs.txt"]),
        (["txt", "TXT"], None, ["txt", "2.txt"]),
        ([], None, []),
    ],
)
def test_images_are_jpg_and_no_name_comes_twice(
    before: list[str], image: str | None, after: list[str]
) -> None:
    assert unified_extensions(before, image) == after


@given(st.lists(st.text("jpgJPG2.", max_size=5), unique=True, max_size=6), st.data())
def test_a_sample_keeps_all_its_files(before: list[str], data: st.DataObject) -> None:
    image = data.draw(st.sampled_from([None, *before]))
    after = unified_extensions(before, image)
    assert len({one.lower() for one in after}) == len(before)
    assert all(one == one.lower() for one in after)
    assert [new == "jpg" for new in after].count(True) >= (image is not None)

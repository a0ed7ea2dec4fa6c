"""What the UI is given to show."""

import base64
import io

from PIL import Image

from curation_assets.metadata import count_table, picture_sheet


def test_a_picture_sheet_is_a_data_url_that_markdown_shows() -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG")
    text = str(picture_sheet([out.getvalue()] * 40).value)
    assert text.startswith("![contact sheet](data:image/jpeg;base64,") and text.endswith(
        ")"
    )
    sheet = Image.open(io.BytesIO(base64.b64decode(text.split(",")[1][:-1])))
    assert sheet.size == (8 * 96, 2 * 96)


def test_no_pictures_are_said_so() -> None:
    assert picture_sheet([]).value == "(no pictures)"


def test_counts_are_ordered_by_size() -> None:
    table = count_table("reason", {"b": 1, "a": 1, "c": 5})
    assert [record.data for record in table.records] == [
        {"reason": "c", "samples": 5},
        {"reason": "a", "samples": 1},
        {"reason": "b", "samples": 1},
    ]

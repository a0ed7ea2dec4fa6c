"""What the UI is given to show."""

import base64
import io

import dagster as dg
import pyarrow as pa
from PIL import Image

from curation.index import build_index, write_catalog
from curation.storage import MemoryStorage, StoredFile
from curation.tar import read_members
from curation.testing.image_shards import make_tar
from curation_assets.metadata import (
    PICTURES_PER_SHEET,
    SIDE,
    count_table,
    indexed_sheets,
    picture_sheets,
)


def shard_with(count: int) -> tuple[MemoryStorage, pa.Table]:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG")
    image, storage = out.getvalue(), MemoryStorage()
    storage.write("a.tar", b"x" * 512 + image)
    ranges = {"image_start": [512] * count, "image_bytes": [len(image)] * count}
    return storage, pa.table(ranges)


def sheets_in(text: str) -> list[Image.Image]:
    urls = [part.partition(")")[0] for part in text.split("(data:image/jpeg;base64,")[1:]]
    return [Image.open(io.BytesIO(base64.b64decode(url))) for url in urls]


def test_groups_of_samples_are_titled_sheets_that_markdown_shows() -> None:
    storage, samples = shard_with(40)
    groups = {"kept (40)": samples, "blurred (3)": samples.slice(0, 3)}
    text = str(picture_sheets(storage, storage.stat("a.tar"), groups).value)
    assert text.startswith("kept (40)\n\n![kept (40)](data:image/jpeg;base64,")
    assert [sheet.size for sheet in sheets_in(text)] == [
        (8 * SIDE, PICTURES_PER_SHEET // 8 * SIDE),
        (3 * SIDE, SIDE),
    ]


def test_samples_without_an_image_and_empty_groups_are_passed_over() -> None:
    storage, samples = shard_with(1)
    nothing = pa.table({"image_start": pa.array([None], pa.int64()), "image_bytes": [0]})
    groups = {"a": nothing, "b": samples.slice(0, 0), "c": samples}
    text = str(picture_sheets(storage, storage.stat("a.tar"), groups).value)
    assert text.startswith("c\n\n") and len(sheets_in(text)) == 1
    assert (
        picture_sheets(storage, storage.stat("a.tar"), {"a": nothing}).value
        == "(no pictures)"
    )


def test_of_quarantined_samples_the_reason_is_shown_also_without_an_image() -> None:
    storage, samples = shard_with(2)
    none = pa.table({"image_start": pa.array([None], pa.int64()), "image_bytes": [None]})
    both = pa.concat_tables([samples, none.cast(samples.schema)])
    both = both.append_column("error", pa.array([None, "cut off", "no image"]))
    (sheet,) = sheets_in(
        str(picture_sheets(storage, storage.stat("a.tar"), {"a": both}).value)
    )
    assert sheet.size == (3 * SIDE, SIDE)
    last = sheet.convert("RGB").crop((2 * SIDE + 4, 4, 3 * SIDE - 4, SIDE - 4))
    red, green, _ = last.getpixel((SIDE // 2, SIDE - 16))  # type: ignore[misc]
    assert red > 150 > green
    assert last.convert("L").getextrema()[1] > 200  # what is written on it


def test_a_shard_that_is_gone_shows_red_squares_instead_of_failing() -> None:
    _, samples = shard_with(2)
    gone = StoredFile("gone.tar", 1024, "1")
    assert_red(picture_sheets(MemoryStorage(), gone, {"a": samples}))


def test_of_a_shard_that_was_replaced_no_other_picture_is_shown() -> None:
    storage, samples = shard_with(2)
    indexed = storage.stat("a.tar")
    storage.write("a.tar", storage.read("a.tar") + b"more")
    assert_red(picture_sheets(storage, indexed, {"a": samples}))


def test_places_are_those_of_the_tar_that_the_catalog_is_of() -> None:
    storage, output = MemoryStorage(), MemoryStorage()
    storage.write("a.tar", make_tar([("0.jpg", shard_with(1)[0].read("a.tar", 512))]))
    index = build_index(read_members(storage, "a.tar"))
    write_catalog(output, "a.parquet", index, fingerprint="")
    place = index.components.select(["data_start", "size"])
    titled = {"a": place.rename_columns(["image_start", "image_bytes"])}
    assert sheets_in(str(indexed_sheets(storage, output, "a.parquet", titled).value))
    assert indexed_sheets(storage, output, "b.parquet", titled).value == "(no pictures)"
    storage.write("a.tar", b"more" + storage.read("a.tar"))
    assert_red(indexed_sheets(storage, output, "a.parquet", titled))


def assert_red(told: dg.MarkdownMetadataValue) -> None:
    (sheet,) = sheets_in(str(told.value))
    red, green, _ = sheet.convert("RGB").getpixel((SIDE // 2, SIDE - 8))  # type: ignore[misc]
    assert red > 150 > green


def test_counts_are_ordered_by_size() -> None:
    table = count_table("reason", {"b": 1, "a": 1, "c": 5})
    assert [record.data for record in table.records] == [
        {"reason": "c", "samples": 5},
        {"reason": "a", "samples": 1},
        {"reason": "b", "samples": 1},
    ]

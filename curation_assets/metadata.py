"""What materializations show in Dagster's UI: pictures, tables and numbers that plot."""

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from curation.contact_sheet import contact_sheet
from curation.errors import CurationError
from curation.index import read_indexed_file
from curation.markdown import markdown_text
from curation.storage import Storage, StoredFile
from curation.storage.base import check_unchanged

PICTURES_PER_SHEET = 16
MOST_SHEETS = 5
"""Sheets are kept in Dagster's database with the event: about 25 kB each."""
SIDE = 80  # pixels of one picture
PARALLEL_READS = 8


def indexed_sheets(
    source: Storage, output: Storage, catalog: str, titled: Mapping[str, pa.Table]
) -> dg.MarkdownMetadataValue:
    """Show the first images as :func:`picture_sheets`, of the tar that was indexed.

    Args:
        source: Where the shard is.
        output: Where its catalog is.
        catalog: The path of that.
        titled: As there; without a catalog, nothing is known of places, or shown.
    """
    try:
        tar = read_indexed_file(output, catalog)
    except CurationError:
        titled, tar = {}, StoredFile(catalog, 0, "")
    return picture_sheets(source, tar, titled)


def picture_sheets(
    source: Storage, tar: StoredFile, titled: Mapping[str, pa.Table]
) -> dg.MarkdownMetadataValue:
    """Show the first images of some groups of samples, a row or two for each.

    Args:
        source: Where the shard is.
        tar: The version of it that the places are in; none are shown of another.
        titled: Title to samples, with ``image_start`` and ``image_bytes``, and ``error``
            where some may be quarantined: of those that have no picture it is shown why.
            Other samples without an image are passed over.

    Returns:
        Markdown with pictures as data URLs, which the UI renders.
    """
    sections = []
    for title, samples in list(titled.items())[:MOST_SHEETS]:
        shown = _with_something_to_show(samples)
        if shown.num_rows:
            images = _read_images(source, tar, shown)
            reasons = shown["error"].to_pylist() if "error" in shown.column_names else ()
            sheet = contact_sheet(images, side=SIDE, reasons=reasons)
            data = base64.b64encode(sheet).decode()
            name = markdown_text(title)  # perhaps a reason, which quotes strangers
            sections.append(f"{name}\n\n![{name}](data:image/jpeg;base64,{data})")
    return dg.MetadataValue.md("\n\n".join(sections) or "(no pictures)")


def count_table(name: str, counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Show counts, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    schema = dg.TableSchema(
        [dg.TableColumn(name, "string"), dg.TableColumn("samples", "int")]
    )
    records = [dg.TableRecord({name: key, "samples": count}) for key, count in ordered]
    return dg.MetadataValue.table(records, schema=schema)


def _with_something_to_show(samples: pa.Table) -> pa.Table:
    has = samples["image_start"].is_valid()
    if "error" in samples.column_names:
        has = pc.or_(has, samples["error"].is_valid())
    return samples.filter(has).slice(0, PICTURES_PER_SHEET)


def _read_images(source: Storage, tar: StoredFile, samples: pa.Table) -> Sequence[bytes]:
    starts, sizes = samples["image_start"].to_pylist(), samples["image_bytes"].to_pylist()

    def read(start: int | None, size: int | None) -> bytes:
        if start is None:
            return b""
        try:
            return source.read(tar.path, start, start + (size or 0))
        except CurationError:  # a picture is not worth failing for
            return b""

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        images = list(pool.map(read, starts, sizes))
    try:
        check_unchanged(source, tar)
    except CurationError:
        return [b""] * len(images)
    return images

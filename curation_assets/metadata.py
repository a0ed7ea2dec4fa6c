"""What materializations show in Dagster's UI: pictures, tables and numbers that plot."""

import base64
from collections.abc import Mapping, Sequence

import dagster as dg

from curation.contact_sheet import contact_sheet

NUM_PICTURES = 16
"""Per contact sheet: about 40 kB in the event, which stays in Dagster's database."""


def picture_sheet(images: Sequence[bytes]) -> dg.MarkdownMetadataValue:
    """Show the first images as thumbnails; the UI renders data URLs in Markdown."""
    if not images:
        return dg.MetadataValue.md("(no pictures)")
    data = base64.b64encode(contact_sheet(images[:NUM_PICTURES])).decode()
    return dg.MetadataValue.md(f"![contact sheet](data:image/jpeg;base64,{data})")


def count_table(name: str, counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Show counts, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    schema = dg.TableSchema(
        [dg.TableColumn(name, "string"), dg.TableColumn("samples", "int")]
    )
    records = [dg.TableRecord({name: key, "samples": count}) for key, count in ordered]
    return dg.MetadataValue.table(records, schema=schema)

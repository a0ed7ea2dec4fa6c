"""``curate index``: DALI's .idx for any tars, without a recipe."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

import typer

from curation.dali_index import format_index
from curation.index import ShardIndex, build_index
from curation.storage import open_storage, open_stored_file
from curation.tar import read_members
from jobs.console import format_bytes, print_json, print_result, result_table
from jobs.options import JsonOption


def index(
    tars: Annotated[list[str], typer.Argument(help="Tars: paths or s3:// URLs.")],
    out: Annotated[
        str | None,
        typer.Option(help="Folder for the .idx files; beside the tars if unset."),
    ] = None,
    salvage: Annotated[
        bool, typer.Option(help="Index what is whole before the damage of a damaged tar.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write DALI's `<stem>.idx` of tars, as `wds2idx` does where it is right."""
    on_damage: Literal["salvage", "error"] = "salvage" if salvage else "error"
    rows = []
    for tar in tars:
        folder, name = open_stored_file(tar)
        found = build_index(read_members(folder, name, on_damage=on_damage))
        target = open_storage(out) if out else folder
        target.write(f"{PurePosixPath(name).stem}.idx", format_index(found))
        rows.append((tar, len(found), len(found.losses), found.file.size))
        _tell_losses(found, tar)
    if as_json:
        names = ("tar", "samples", "losses", "bytes")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    shown = [(*row[:3], format_bytes(row[3])) for row in rows]
    columns = ("tar", "samples", "members in no sample", "size")
    print_result(result_table("", columns, shown))


def _tell_losses(found: ShardIndex, tar: str) -> None:
    for row in found.losses.to_pylist():
        typer.echo(
            f"{tar}: {row['name'] or 'bytes'} at {row['header_start']}: {row['loss']}",
            err=True,
        )

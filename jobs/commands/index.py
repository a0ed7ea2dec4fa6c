"""``curate index``: DALI's .idx for any tars, without a recipe."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

import typer

from curation.dali_index import find_difference, format_index
from curation.errors import NotFoundError
from curation.index import ShardIndex, build_index
from curation.storage import Storage, open_storage, open_stored_file
from curation.tar import read_members
from jobs.console import format_bytes, print_json, print_line, print_result, result_table
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
    """Write DALI's `<stem>.idx` of tars, as `wds2idx` does where it is right.

    One that is there already is kept if it agrees with its tar, and replaced if not.
    """
    on_damage: Literal["salvage", "error"] = "salvage" if salvage else "error"
    rows = []
    for tar in tars:
        folder, name = open_stored_file(tar)
        found = build_index(read_members(folder, name, on_damage=on_damage))
        target = open_storage(out) if out else folder
        done = _bring_up_to_date(target, f"{PurePosixPath(name).stem}.idx", found)
        rows.append((tar, len(found), len(found.losses), found.file.size, done))
        _tell_losses(found, tar)
    if as_json:
        names = ("tar", "samples", "losses", "bytes", "idx")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    shown = [(*row[:3], format_bytes(row[3]), row[4]) for row in rows]
    columns = ("tar", "samples", "members in no sample", "size", "index")
    print_result(result_table("", columns, shown))


def _bring_up_to_date(target: Storage, path: str, index: ShardIndex) -> str:
    """Write an index unless one that is right is there; say what was done."""
    try:
        there = target.read(path)
    except NotFoundError:
        done = "written"
    else:
        wrong = find_difference(there, index)
        if wrong is None:
            return "was there"
        print_line(f"{target.url}/{path} was wrong: {wrong}")
        done = "replaced"
    target.write(path, format_index(index))
    return done


def _tell_losses(found: ShardIndex, tar: str) -> None:
    for row in found.losses.to_pylist():
        name, start = row["name"] or "bytes", row["header_start"]
        print_line(f"{tar}: {name} at {start}: {row['loss']}")

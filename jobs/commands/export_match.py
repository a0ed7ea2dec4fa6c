"""``curate export match``: clip-retrieval's vectors in the order of the shards."""

from typing import Annotated

import pyarrow.parquet as pq
import typer

from curation.errors import InputError
from curation.exports import MatchReport, match_embeddings, read_shard_keys
from curation.storage import Storage, open_storage
from jobs.console import print_json, print_result, result_table
from jobs.options import JsonOption

REPORT_FOLDER = "report"


def export_match(
    embeddings: Annotated[
        str, typer.Argument(help="Folder of parts: img_emb_0.npy, img_emb_1.npy …")
    ],
    metadata: Annotated[
        str, typer.Argument(help="Folder of metadata_0.parquet … that belong to them.")
    ],
    out: Annotated[str, typer.Argument(help="Folder for one file of vectors per shard.")],
    shards: Annotated[
        str | None,
        typer.Option(help="Folder of the tars, whose keys and order are then read."),
    ] = None,
    index_width: Annotated[
        int | None,
        typer.Option(help="Instead of --shards: digits at a key's end that are its row."),
    ] = None,
    shard_width: Annotated[
        int, typer.Option(help="Digits of the shard in names, with --index-width.", min=1)
    ] = 5,
    as_json: JsonOption = False,
) -> None:
    """Match vectors of any order to shards by key; tell of copies and of holes."""
    if (shards is None) == (index_width is None):
        raise InputError(
            "give either --shards, the folder of the tars, or --index-width, how many "
            "digits at the end of a key are its row"
        )
    report = match_embeddings(
        embeddings,
        metadata,
        out,
        index_width=index_width,
        shard_width=shard_width,
        shard_keys=read_shard_keys(open_storage(shards)) if shards is not None else None,
    )
    output = open_storage(out)
    _write_report(output, report)
    counts = _counts(report)
    if as_json:
        print_json({"url": output.url} | counts)
        return
    rows = [(name.replace("_", " "), count) for name, count in counts.items()]
    print_result(
        result_table("", ("", "count"), rows),
        f"written to {output.url}; the tables in its {REPORT_FOLDER}/ name every shard, "
        "copy, and key of no shard",
    )


def _counts(report: MatchReport) -> dict[str, int]:
    return {
        "rows_in": report.num_rows,
        "matched": report.num_matched,
        "copies_left_out": len(report.duplicates),
        "of_no_shard": len(report.unmatched),
        "not_finite": len(report.not_finite),
        "shards": len(report.shards),
        "shards_from_several_parts": report.num_spread_shards,
        "rows_of_zeros": report.num_missing,
    }


def _write_report(output: Storage, report: MatchReport) -> None:
    for name in ("shards", "duplicates", "unmatched", "not_finite"):
        with output.open_writer(f"{REPORT_FOLDER}/{name}.parquet") as file:
            pq.write_table(getattr(report, name), file)

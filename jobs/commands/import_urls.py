"""``curate import urls``: a list of URLs becomes raw shards."""

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from curation.ingest.shard_layout import SAMPLES_PER_SHARD, ShardLayout
from curation.ingest.urls import add_up, import_urls, read_urls
from curation.recipe import DownloadSettings
from curation.storage import open_storage, open_stored_file
from jobs.console import (
    format_bytes,
    print_json,
    print_result,
    result_table,
    shorten,
    terminal_progress,
)
from jobs.options import JsonOption, SamplesPerShardOption

MOST_REASONS = 15  # in the table for people; there is one row for each reason

_DEFAULT = DownloadSettings()


def import_listed_urls(
    urls: Annotated[
        str,
        typer.Argument(
            metavar="LIST",
            help="A .csv or .parquet with the columns url, caption, and any others; or a "
            ".txt with one URL a line.",
        ),
    ],
    out: Annotated[str, typer.Argument(help="Folder for the shards.")],
    samples_per_shard: SamplesPerShardOption = SAMPLES_PER_SHARD,
    concurrency: Annotated[
        int, typer.Option(help="Downloads at once.", min=1)
    ] = _DEFAULT.concurrency,
    timeout: Annotated[
        float, typer.Option(help="Seconds for one URL, redirects and all.", min=0.1)
    ] = _DEFAULT.timeout_seconds,
    max_bytes: Annotated[
        int, typer.Option(help="Size from which an answer is refused.", min=1)
    ] = _DEFAULT.max_bytes,
    allow_private_addresses: Annotated[
        bool,
        typer.Option(
            "--allow-private-addresses",
            help="Fetch from this machine and from private networks too.",
        ),
    ] = False,
    user_agent: Annotated[
        str, typer.Option(help="What servers are told of who asks.")
    ] = _DEFAULT.user_agent,
    as_json: JsonOption = False,
) -> None:
    """Fetch images and write them as raw shards; run it again to retry what failed."""
    lists, name = open_stored_file(urls)
    listed = read_urls(lists, name, ShardLayout(samples_per_shard))
    output = open_storage(out)
    settings = DownloadSettings(
        concurrency=concurrency,
        timeout_seconds=timeout,
        max_bytes=max_bytes,
        allow_private_addresses=allow_private_addresses,
        user_agent=user_agent,
    )
    with terminal_progress() as progress:
        progress.start("import", len(listed.shards))
        done = import_urls(
            listed, output, settings, lambda of: progress.advance(of.shard, of.num_images)
        )
    whole = add_up(done)
    if as_json:
        told = {
            "urls": whole.num_urls,
            "images": whole.num_images,
            "fetched": whole.num_fetched,
            "bytes": whole.num_bytes,
            "errors": whole.errors,
        }
        print_json(told | {"shards": [asdict(shard) for shard in done]})
        return
    reasons = Counter(whole.errors).most_common(MOST_REASONS)
    if reasons:
        rows = [(shorten(reason, 80), count) for reason, count in reasons]
        title = "Not fetched; the next run tries these again"
        print_result(result_table(title, ("why", "URLs"), rows))
    print_result(
        f"{whole.num_images:,} of {whole.num_urls:,} URLs are images, "
        f"{format_bytes(whole.num_bytes)}, in {output.url}; {whole.num_fetched:,} came "
        "now. The table beside each shard says what became of each URL."
    )

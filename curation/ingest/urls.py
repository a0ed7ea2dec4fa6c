"""A list of URLs becomes raw shards; a second run fetches what failed in the first.

A URL's place in the list is its sample's key, so that what fails leaves a hole, and what
comes later fills it without moving anything. Beside every shard lies a table with a row
for each of its URLs, failed ones with the reason: it is the record by which the next run
knows what is there. A shard is rewritten with the bytes that it had and those that came.

img2dataset does much of this and is not used: its releases since 2022 can't be installed
beside webdataset 1, and it opens ``file:`` URLs, has no bound on an answer's size or on how
long it may drip in, never retries what failed, and writes samples as they happen to arrive.
Its shards are read here like any others.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import InputError, TableError
from curation.fingerprint import fingerprint
from curation.index import build_index
from curation.ingest.downloads import Download, download_images
from curation.ingest.sample_lists import CAPTION, metadata_json, read_list
from curation.ingest.shard_layout import NewSample, ShardLayout, write_shard
from curation.public_urls import without_secrets
from curation.recipe import DownloadSettings
from curation.storage import ByteRange, LocalStorage, Part, Storage
from curation.storage.base import run_ahead
from curation.tables import IMPORTED_URLS, read_about, read_table, write_table
from curation.tar import read_members

VERSION = 1  # of what the same answers become
NOT_FETCHED = "not fetched yet"
SHARDS_AT_ONCE = 2  # so that one shard's slowest servers don't keep all others waiting


@dataclass(frozen=True, slots=True)
class UrlShard:
    """What became of one shard's URLs."""

    shard: str
    num_urls: int
    num_images: int
    """Of all runs together."""
    num_fetched: int
    """Images that this run brought."""
    num_bytes: int
    """Of all its images."""
    errors: Mapping[str, int]
    """Reasons why images are missing, with how many are missing for each."""


def add_up(shards: Iterable[UrlShard]) -> UrlShard:
    """Put shards together, as if they were one."""
    whole = UrlShard("", 0, 0, 0, 0, {})
    for shard in shards:
        whole = UrlShard(
            "",
            whole.num_urls + shard.num_urls,
            whole.num_images + shard.num_images,
            whole.num_fetched + shard.num_fetched,
            whole.num_bytes + shard.num_bytes,
            Counter(whole.errors) + Counter(shard.errors),
        )
    return whole


@dataclass(frozen=True)
class UrlList:
    """URLs with what belongs to each, in order, and how they are laid out."""

    listed: pa.Table
    """``url``, ``caption``, and all other columns of the list."""
    layout: ShardLayout

    @property
    def shards(self) -> list[str]:
        """Name the shards, in order."""
        count = self.layout.num_shards(len(self.listed))
        return [self.layout.shard(number) for number in range(count)]

    def of(self, shard: int) -> pa.Table:
        """Give ``key``, ``url``, ``caption`` and ``metadata`` of a shard's rows.

        They are those of ``IMPORTED_URLS``: what is written down, without the secrets that
        URLs are fetched with.
        """
        numbers, rows = self._rows(shard)
        others = rows.drop_columns(["url", CAPTION]).to_pylist()
        metadata = [metadata_json(row) for row in others]
        columns = {
            "key": pa.array(map(self.layout.key, numbers), pa.string()),
            "url": _public(rows["url"]),
            CAPTION: rows[CAPTION],
            # a table without columns has no rows either
            "metadata": pa.array(metadata or ["{}"] * len(rows), pa.string()),
        }
        return pa.table(columns)

    def fetched(self, shard: int) -> dict[str, str]:
        """Give the URLs of a shard's rows as they are to be fetched, by key."""
        numbers, rows = self._rows(shard)
        return dict(
            zip(map(self.layout.key, numbers), rows["url"].to_pylist(), strict=True)
        )

    def _rows(self, shard: int) -> tuple[range, pa.Table]:
        numbers = self.layout.rows(shard, len(self.listed))
        return numbers, self.listed.slice(numbers.start, len(numbers))


def _public(urls: pa.ChunkedArray) -> pa.Array:
    return pa.array(map(without_secrets, urls.to_pylist()), pa.string())


def read_urls(lists: Storage, path: str, layout: ShardLayout | None = None) -> UrlList:
    """Read a list of URLs: CSV or Parquet with a column ``url``, or one URL a line.

    ``caption`` becomes the sample's ``.txt`` unless it is empty or null; all other columns
    are in its ``.json``, beside the URL and the image's hash.

    Raises:
        NotFoundError: There is no such list.
        InputError: It can't be read, is empty, or makes too many shards.
    """
    layout = layout or ShardLayout()
    listed = read_list(lists, path, "url")
    if not len(listed):
        raise InputError(f"{lists.url}/{path}: there is no URL in it")
    at = listed.column_names.index("url")
    # blanks around it are no part of a URL, for whoever fetches it either
    urls = pc.utf8_trim_whitespace(listed["url"].fill_null(""))
    made = UrlList(listed.set_column(at, "url", urls), layout)
    layout.num_shards(len(listed))
    return made


def import_urls(
    urls: UrlList,
    output: Storage,
    settings: DownloadSettings | None = None,
    on_shard: Callable[[UrlShard], object] | None = None,
) -> list[UrlShard]:
    """Fetch all images that are not there yet, and write their shards.

    A list may have grown at its end since the last run, and its captions and other columns
    may have changed: shards are then rewritten with the images that they have.

    Args:
        urls: What :func:`read_urls` gave.
        output: An empty folder, or one that earlier runs wrote to.
        settings: How to download.
        on_shard: Told as each shard is done.

    Returns:
        What became of every shard, in order.

    Raises:
        InputError: The folder holds the shards of another list.
        TableError: A table there is damaged, or is not that of its shard.
        StorageError: Writing failed. Shards that are done are kept.
    """
    work = _Import(urls, output, settings or DownloadSettings())
    work.check_output()
    calls = (partial(work.import_shard, number) for number in range(len(urls.shards)))
    done = []
    for found in run_ahead(calls, SHARDS_AT_ONCE):
        done.append(found)
        if on_shard:
            on_shard(found)
    return done


@dataclass(frozen=True)
class _Import:
    """One call of :func:`import_urls`."""

    urls: UrlList
    output: Storage
    settings: DownloadSettings

    def check_output(self) -> None:
        """Refuse a folder that holds something else, before anything is fetched."""
        numbers = {shard: number for number, shard in enumerate(self.urls.shards)}
        files = {file.path for file in self.output.list_files()}
        for path in sorted(files):
            shard, _, suffix = path.rpartition(".")
            if suffix == "tar" and (
                shard not in numbers or _table_path(shard) not in files
            ):
                raise self._other(path)
        for shard, number in numbers.items():
            if _table_path(shard) in files:
                self._check_same_urls(shard, number)

    def _check_same_urls(self, shard: str, number: int) -> None:
        """Refuse a shard whose rows are not the first of those that it is to have."""
        path, columns = _table_path(shard), ["key", "url"]
        before = read_table(self.output, path, IMPORTED_URLS, columns)
        # 0.1.0 wrote URLs as they were fetched
        at = before.column_names.index("url")
        before = before.set_column(at, "url", _public(before["url"]))
        now = self.urls.of(number).select(columns).slice(0, len(before))
        if before.to_pydict() != now.to_pydict():
            raise self._other(path)

    def import_shard(self, number: int) -> UrlShard:
        """Bring one shard up to date: fetch what it lacks, then write its tar and table."""
        shard, rows = self.urls.shards[number], self.urls.of(number)
        made_from = fingerprint("import urls", VERSION, rows.to_pylist())
        before = self._before(shard)
        if before is None:
            before = _outcome(rows, {}, {})
            self._write_table(shard, before, made_from)  # a tar without one is not ours
        has = _images(before) if self.output.exists(f"{shard}.tar") else {}
        urls = self.urls.fetched(number)
        lacks = {key: url for key, url in urls.items() if key not in has}
        is_changed = not self._is_made_from(shard, made_from)
        if not lacks and not is_changed:
            return _told(shard, before, 0)
        with tempfile.TemporaryDirectory() as folder:
            came = self._download(Path(folder), lacks)
            new_parts = _new_parts(LocalStorage(Path(folder)), came)
            now = _outcome(rows, has, came)
            if new_parts or (has and is_changed):  # else the tar stays as it is
                parts = {**self._parts(shard, has), **new_parts}
                write_shard(self.output, f"{shard}.tar", _samples(now, parts))
        self._write_table(shard, now, made_from)
        return _told(shard, now, len(new_parts))

    def _before(self, shard: str) -> pa.Table | None:
        """Read what earlier runs made of a shard; None if there was none."""
        path = _table_path(shard)
        if not self.output.exists(path):
            return None
        return read_table(self.output, path, IMPORTED_URLS)

    def _download(self, folder: Path, urls: Mapping[str, str]) -> dict[str, Download]:
        """Fetch the images of some keys into a folder."""
        turns = max(1, self.settings.concurrency // SHARDS_AT_ONCE)
        settings = self.settings.model_copy(update={"concurrency": turns})
        targets = {folder / key: url for key, url in urls.items()}
        came = download_images(targets, settings)
        return {path.name: download for path, download in came.items()}

    def _write_table(self, shard: str, table: pa.Table, made_from: str) -> None:
        path = _table_path(shard)
        write_table(self.output, path, IMPORTED_URLS, table, fingerprint=made_from)

    def _is_made_from(self, shard: str, made_from: str) -> bool:
        path = _table_path(shard)
        return read_about(self.output, path).get("fingerprint") == made_from

    def _parts(self, shard: str, has: Mapping[str, dict[str, Any]]) -> dict[str, Part]:
        """Find the images that a shard has, by key."""
        if not has:
            return {}
        path = f"{shard}.tar"
        index = build_index(read_members(self.output, path))
        places = {
            (row["key"], row["extension"]): row for row in index.components.to_pylist()
        }
        parts: dict[str, Part] = {}
        for key, row in has.items():
            place = places.get((key, row["extension"]))
            if place is None:
                raise TableError(
                    f"{self.output.url}/{path} has no {key}.{row['extension']}, which its "
                    f"table names; delete {_table_path(shard)} and the tar to fetch anew"
                )
            start = place["data_start"]
            parts[key] = ByteRange(self.output, path, start, start + place["size"])
        return parts

    def _other(self, path: str) -> InputError:
        return InputError(
            f"{self.output.url}/{path} is not of this list, or of shards of another size; "
            "choose an empty folder, or delete what is there"
        )


def _table_path(shard: str) -> str:
    return f"{shard}.parquet"


def _images(table: pa.Table) -> dict[str, dict[str, Any]]:
    """Give the rows that have an image, by key."""
    return {row["key"]: row for row in table.to_pylist() if row["error"] is None}


def _outcome(
    rows: pa.Table,
    has: Mapping[str, Mapping[str, Any]],
    came: Mapping[str, Download],
) -> pa.Table:
    """Say what became of each row, in this run or before."""
    outcomes = []
    for row in rows.to_pylist():
        outcome: dict[str, Any] = dict.fromkeys(("error", "extension", "bytes", "sha256"))
        if row["key"] in has:
            outcome = {name: has[row["key"]][name] for name in outcome}
        elif (new := came.get(row["key"])) is None:
            outcome["error"] = NOT_FETCHED
        elif new.error is not None:
            outcome["error"] = new.error
        else:
            outcome |= {"extension": new.extension, "bytes": new.size, "sha256": new.sha256}
        outcomes.append(row | outcome)
    return pa.Table.from_pylist(outcomes, pa.schema(IMPORTED_URLS.columns))


def _new_parts(folder: Storage, came: Mapping[str, Download]) -> dict[str, Part]:
    return {
        key: ByteRange(folder, key, 0, download.size)
        for key, download in came.items()
        if download.error is None
    }


def _samples(table: pa.Table, images: Mapping[str, Part]) -> Iterator[NewSample]:
    for key, row in _images(table).items():
        components = [(row["extension"], images[key])]
        if row[CAPTION]:
            components.append(("txt", row[CAPTION].encode()))
        own = {"key": key, "url": row["url"], "sha256": row["sha256"]}
        fields = json.loads(row["metadata"]) | own
        components.append(("json", json.dumps(fields, ensure_ascii=False).encode()))
        yield NewSample(key, tuple(components))


def _told(shard: str, table: pa.Table, fetched: int) -> UrlShard:
    errors: dict[str, int] = {}
    for reason in table["error"].drop_null().to_pylist():
        errors[reason] = errors.get(reason, 0) + 1
    sizes: Sequence[int] = table["bytes"].drop_null().to_pylist()
    num_images = len(table) - sum(errors.values())
    return UrlShard(shard, len(table), num_images, fetched, sum(sizes), errors)

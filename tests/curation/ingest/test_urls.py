"""Lists of URLs as shards: from a real server, twice, with what fails in between."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import InputError, TableError
from curation.ingest.shard_layout import ShardLayout
from curation.ingest.urls import NOT_FETCHED, UrlList, UrlShard, import_urls, read_urls
from curation.recipe import DownloadSettings
from curation.storage import LocalStorage, S3Storage, Storage
from curation.tables import IMPORTED_URLS, read_table, write_table
from curation.testing.readers import read_with_webdataset
from tests.curation.ingest.web_server import WebServer, photograph

HERE = DownloadSettings(
    concurrency=8, timeout_seconds=20, max_bytes=100_000, allow_private_addresses=True
)


def listed(
    folder: Path, paths: Sequence[str], server: WebServer, *, caption: str = "of"
) -> UrlList:
    """Write a list of paths of the server, two samples to a shard, and read it."""
    table = pa.table(
        {
            "url": [f"{server.url}{path}" for path in paths],
            "caption": [
                f"{caption} {path}" if path != "/image/2" else "" for path in paths
            ],
            "similarity": [n / 4 for n in range(len(paths))],
        }
    )
    pq.write_table(table, folder / "list.parquet")
    return read_urls(LocalStorage(folder), "list.parquet", ShardLayout(2))


def run(urls: UrlList, output: Storage) -> list[UrlShard]:
    told: list[UrlShard] = []
    done = import_urls(urls, output, HERE, told.append)
    assert told == done
    return done


PATHS = ("/image/0", "/flaky/1", "/image/2", "/html/3", "/flaky/4")


def test_shards_hold_what_came_and_tables_what_did_not(
    tmp_path: Path, server: WebServer
) -> None:
    urls = listed(tmp_path, PATHS, server)
    output = LocalStorage(tmp_path / "out")
    done = run(urls, output)
    assert [(d.shard, d.num_urls, d.num_images, d.num_fetched) for d in done] == [
        ("00000", 2, 1, 1),
        ("00001", 2, 1, 1),
        ("00002", 1, 0, 0),
    ]
    assert done[0].errors == {"HTTP status 500": 1}
    assert [file.path for file in output.list_files(suffix=".tar")] == [
        "00000.tar",
        "00001.tar",
    ]
    found = read_with_webdataset(tmp_path / "out" / "00000.tar")
    table = read_table(output, "00000.parquet", IMPORTED_URLS).to_pylist()
    assert list(found) == ["000000"]
    assert found["000000"]["jpg"] == photograph(0)
    assert found["000000"]["txt"] == b"of /image/0"
    assert json.loads(found["000000"]["json"]) == {
        "similarity": 0.0,
        "key": "000000",
        "url": f"{server.url}/image/0",
        "sha256": table[0]["sha256"],
    }
    assert [row["error"] for row in table] == [None, "HTTP status 500"]
    assert table[0]["bytes"] == len(photograph(0))
    captionless = read_with_webdataset(tmp_path / "out" / "00001.tar")["000010"]
    assert list(captionless) == ["jpg", "json"]


def test_a_second_run_asks_only_for_what_failed_and_makes_the_shard_of_a_first(
    tmp_path: Path, server: WebServer
) -> None:
    urls = listed(tmp_path, PATHS, server)
    output = LocalStorage(tmp_path / "out")
    run(urls, output)
    server.mended = True
    server.asked.clear()
    done = run(urls, output)
    assert dict(server.asked) == {"/flaky/1": 1, "/html/3": 1, "/flaky/4": 1}
    assert [(d.num_images, d.num_fetched) for d in done] == [(2, 1), (1, 0), (1, 1)]
    run(urls, LocalStorage(tmp_path / "at once"))
    for name in ("00000.tar", "00001.tar", "00002.tar", "00000.parquet", "00001.parquet"):
        assert output.read(name) == (tmp_path / "at once" / name).read_bytes(), name


def test_a_failure_that_happens_again_leaves_its_shard_alone(
    tmp_path: Path, server: WebServer
) -> None:
    urls = listed(tmp_path, PATHS, server)
    output = LocalStorage(tmp_path / "out")
    run(urls, output)
    before = output.list_files(suffix=".tar")
    run(urls, output)
    assert output.list_files(suffix=".tar") == before


def test_when_all_is_there_nothing_is_asked_for(tmp_path: Path, server: WebServer) -> None:
    urls = listed(tmp_path, ("/image/0", "/image/1", "/image/2"), server)
    output = LocalStorage(tmp_path / "out")
    run(urls, output)
    before = output.list_files()
    server.asked.clear()
    assert [d.num_fetched for d in run(urls, output)] == [0, 0]
    assert not server.asked
    assert output.list_files() == before


def test_a_list_may_grow_and_its_captions_change(tmp_path: Path, server: WebServer) -> None:
    output = LocalStorage(tmp_path / "out")
    run(listed(tmp_path, ("/image/0", "/image/1", "/image/3"), server), output)
    server.asked.clear()
    longer = ("/image/0", "/image/1", "/image/3", "/image/4", "/image/5")
    run(listed(tmp_path, longer, server, caption="now of"), output)
    assert dict(server.asked) == {"/image/4": 1, "/image/5": 1}
    found = read_with_webdataset(tmp_path / "out" / "00001.tar")
    assert [(key, files["jpg"], files["txt"]) for key, files in found.items()] == [
        ("000010", photograph(3), b"now of /image/3"),
        ("000011", photograph(4), b"now of /image/4"),
    ]


def test_a_tar_that_was_deleted_is_fetched_again(tmp_path: Path, server: WebServer) -> None:
    urls = listed(tmp_path, ("/image/0", "/image/1"), server)
    output = LocalStorage(tmp_path / "out")
    run(urls, output)
    whole = output.read("00000.tar")
    output.delete("00000.tar")
    run(urls, output)
    assert output.read("00000.tar") == whole


def test_an_import_that_was_killed_goes_on(tmp_path: Path, server: WebServer) -> None:
    urls = listed(tmp_path, ("/image/0", "/image/1"), server)
    output = LocalStorage(tmp_path / "out")
    run(urls, output)
    whole = {file.path: output.read(file.path) for file in output.list_files()}
    # killed between the tar and its table: the table is that of before
    table = read_table(output, "00000.parquet", IMPORTED_URLS).to_pylist()
    nothing = {"error": NOT_FETCHED, "extension": None, "bytes": None, "sha256": None}
    rows = pa.Table.from_pylist(
        [row | nothing for row in table], pa.schema(IMPORTED_URLS.columns)
    )
    write_table(output, "00000.parquet", IMPORTED_URLS, rows, fingerprint="x")
    run(urls, output)
    assert {file.path: output.read(file.path) for file in output.list_files()} == whole


def test_a_folder_of_other_shards_is_left_alone(tmp_path: Path, server: WebServer) -> None:
    urls = listed(tmp_path, ("/image/0", "/image/1", "/image/3"), server)
    output = LocalStorage(tmp_path / "out")
    output.write("00000.tar", b"someone else's")
    with pytest.raises(InputError, match=r"00000\.tar is not of this list"):
        run(urls, output)
    output.delete("00000.tar")
    run(urls, output)
    for paths in (("/image/9", "/image/1", "/image/3"), ("/image/0",)):
        with pytest.raises(InputError, match="not of this list"):
            run(listed(tmp_path, paths, server), output)
    other_size = UrlList(urls.listed, ShardLayout(3))
    with pytest.raises(InputError, match="not of this list"):
        run(other_size, output)


def test_a_tar_that_is_not_that_of_its_table_is_an_error(
    tmp_path: Path, server: WebServer
) -> None:
    output = LocalStorage(tmp_path / "out")
    run(listed(tmp_path, ("/image/0", "/image/1"), server), output)
    output.write("00000.tar", bytes(1024))
    with pytest.raises(TableError, match=r"00000\.tar has no 000000\.jpg"):
        run(listed(tmp_path, ("/image/0", "/image/1"), server, caption="new"), output)


def test_shards_can_be_in_s3(
    tmp_path: Path, server: WebServer, s3_storage: S3Storage
) -> None:
    urls = listed(tmp_path, PATHS, server)
    run(urls, s3_storage)
    server.mended = True
    run(urls, s3_storage)
    run(urls, LocalStorage(tmp_path / "local"))
    for name in ("00000.tar", "00001.tar", "00002.tar"):
        assert s3_storage.read(name) == (tmp_path / "local" / name).read_bytes()


def test_a_list_of_nothing_is_an_error(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("list.txt", b"\n")
    with pytest.raises(InputError, match="no URL in it"):
        read_urls(storage, "list.txt")


def test_a_plain_list_of_urls_has_neither_captions_nor_metadata(
    tmp_path: Path, server: WebServer
) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("list.txt", f"{server.url}/image/0\n{server.url}/image/0\n".encode())
    run(read_urls(storage, "list.txt"), LocalStorage(tmp_path / "out"))
    found = read_with_webdataset(tmp_path / "out" / "00000.tar")
    assert [list(files) for files in found.values()] == [["jpg", "json"]] * 2


def _with_secrets(server: WebServer, tmp_path: Path, secret: str) -> UrlList:
    """Write a list with a secret in every place of a URL, and in another column."""
    host = server.url.removeprefix("http://")
    urls = [
        f"http://user:{secret}@{host}/image/0",
        f"{server.url}/image/1?token={secret}&width=1",
        f"{server.url}/html/2?X-Amz-Signature={secret}",
        f"http://127.0.0.1:1/a.jpg?sig={secret}#access_token={secret}",
    ]
    table = pa.table({"url": urls, "page": [f"https://x.org/?api_key={secret}"] * 4})
    pq.write_table(table, tmp_path / "list.parquet")
    return read_urls(LocalStorage(tmp_path), "list.parquet", ShardLayout(2))


def test_secrets_in_urls_are_used_and_never_written(
    tmp_path: Path, server: WebServer
) -> None:
    secret, output = "S3CRET", LocalStorage(tmp_path / "out")
    done = run(_with_secrets(server, tmp_path, secret), output)
    assert [shard.num_images for shard in done] == [2, 0]
    written = [
        str(pq.read_table(path).to_pylist()) + str(pq.read_schema(path).metadata)
        for path in (tmp_path / "out").glob("*.parquet")
    ]
    written += [str(path.read_bytes()) for path in (tmp_path / "out").glob("*.tar")]
    assert len(written) == 3
    assert not [text for text in written if secret in text]
    assert secret not in str(done)
    found = read_with_webdataset(tmp_path / "out" / "00000.tar")
    metadata = json.loads(found["000001"]["json"])
    assert metadata["url"] == f"{server.url}/image/1?width=1"
    assert metadata["page"] == "https://x.org/"


def test_a_list_whose_tokens_were_renewed_is_the_same_list(
    tmp_path: Path, server: WebServer
) -> None:
    output = LocalStorage(tmp_path / "out")
    run(_with_secrets(server, tmp_path, "first"), output)
    done = run(_with_secrets(server, tmp_path, "second"), output)
    assert [shard.num_fetched for shard in done] == [0, 0]
    # 0.1.0 wrote URLs as they were fetched; they go with the next run
    urls = _with_secrets(server, tmp_path, "third")
    table = read_table(output, "00000.parquet", IMPORTED_URLS)
    old = pa.array(urls.fetched(0).values(), pa.string())
    table = table.set_column(table.column_names.index("url"), "url", old)
    write_table(output, "00000.parquet", IMPORTED_URLS, table, fingerprint="of before")
    assert [shard.num_fetched for shard in run(urls, output)] == [0, 0]
    now = read_table(output, "00000.parquet", IMPORTED_URLS)
    assert "third" not in str(now.to_pylist())

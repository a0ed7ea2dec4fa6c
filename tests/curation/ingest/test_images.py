"""Folders and lists of images as shards, read back by tarfile and webdataset."""

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    StaleError,
    StorageError,
)
from curation.ingest.images import (
    PLAN_NAME,
    find_images,
    find_listed_images,
    update_images,
    write_images,
)
from curation.ingest.shard_layout import ShardLayout
from curation.storage import LocalStorage, MemoryStorage, S3Storage
from curation.tables import IMPORTED_IMAGES, read_table
from curation.testing.readers import read_with_webdataset
from tests.permissions import permissions_bind


def picture(number: int, name: str = "PNG") -> bytes:
    """Give a small image, of another colour for every number."""
    stored = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, number // 256, 7)).save(stored, name)
    return stored.getvalue()


def save(folder: Path, files: Mapping[str, bytes]) -> LocalStorage:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return LocalStorage(folder)


def read_shards(folder: Path) -> list[dict[str, Any]]:
    """Read all samples of a folder by webdataset, in order."""
    return [
        {"__key__": key, **files}
        for tar in sorted(folder.glob("*.tar"))
        for key, files in read_with_webdataset(tar).items()
    ]


def test_captions_and_metadata_lie_beside_images(tmp_path: Path) -> None:
    source = save(
        tmp_path / "in",
        {
            "b.jpg": picture(1, "JPEG"),
            "b.txt": b"by its name",
            "b.jpg.txt": b"by its whole name",
            "b.json": b'{"a":  1}',
            "a/c.v2.PNG": picture(2),
            "a/c.v2.TXT": "ünïcode\n".encode(),
            "a/c.txt": b"of no image",
            "d.jpeg": picture(3, "WEBP"),
        },
    )
    images = find_images(source, ShardLayout(2))
    output = LocalStorage(tmp_path / "out")
    assert write_images(images, output) == 2
    assert read_shards(tmp_path / "out") == [
        {
            "__key__": "000000",
            "png": picture(2),
            "txt": "ünïcode\n".encode(),
            "json": b'{"path": "a/c.v2.PNG"}',
        },
        {
            "__key__": "000001",
            "jpg": picture(1, "JPEG"),
            "txt": b"by its whole name",
            "json": b'{"a":  1}',
        },
        {
            "__key__": "000010",
            "webp": picture(3, "WEBP"),
            "json": b'{"path": "d.jpeg"}',
        },
    ]
    table = read_table(output, PLAN_NAME, IMPORTED_IMAGES)
    assert table.select(["path", "shard", "key", "caption_path"]).to_pylist() == [
        {"path": path, "shard": shard, "key": key, "caption_path": caption}
        for path, shard, key, caption in (
            ("a/c.v2.PNG", "00000", "000000", "a/c.v2.TXT"),
            ("b.jpg", "00000", "000001", "b.jpg.txt"),
            ("d.jpeg", "00001", "000010", None),
            ("a/c.txt", None, None, None),
            ("b.txt", None, None, None),
        )
    ]
    assert images.problems == [
        ("a/c.txt", "belongs to no image that is imported"),
        ("b.txt", "belongs to no image that is imported"),
    ]


def test_what_is_no_image_is_reported_and_costs_itself_alone(tmp_path: Path) -> None:
    source = save(
        tmp_path,
        {
            "page.jpg": b"<!DOCTYPE html>",
            "page.txt": b"its caption",
            "empty.png": b"",
            "notes.md": b"# notes",
            "good": picture(1),
            ".hidden.png": picture(2),
        },
    )
    images = find_images(source)
    assert images.num_samples == 1
    assert dict(images.problems) == {
        "page.jpg": "no image of a known format: it begins with b'<!DOCTYPE html>'",
        "page.txt": "belongs to no image that is imported",
        "empty.png": "the file is empty",
        "notes.md": "no image of a known format: it begins with b'# notes'",
    }


class _Unreadable(MemoryStorage):
    """Refuses one file, or fails for all."""

    error: Exception

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if path == "bad.png":
            raise self.error
        return super().read(path, start, stop)


def test_a_file_that_may_not_be_read_is_reported_but_failing_storage_is_an_error() -> None:
    source = _Unreadable()
    for name in ("bad.png", "good.png"):
        source.write(name, picture(1))
    source.error = InputError("bad.png: Permission denied")
    assert find_images(source).problems == [("bad.png", "bad.png: Permission denied")]
    source.error = StorageError("the disk is on fire")
    with pytest.raises(StorageError):
        find_images(source)


name_bytes = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from(
        [b"a", b"a.jpg", b"a.b.c", b"a,b\nc\t.png", b"...", b"a.", b"-", b"\xff"]
    ),
    st.sampled_from([b"x" * 255, b"\xc3\xbc" * 120 + b".jpg", b"000000.jpg", b"\\xff"]),
).filter(lambda name: not set(b"/\0") & set(name) and not name.startswith(b"."))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(name_bytes, unique=True, min_size=1, max_size=12), st.integers(1, 5))
def test_hostile_names_give_unique_plain_keys_and_every_file_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], samples_per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("names")
    for number, name in enumerate(names):
        (folder / "in").mkdir(exist_ok=True)
        with open(os.fsencode(folder / "in") + b"/" + name, "wb") as file:
            file.write(picture(number))
    sides = {name for name in names if name.lower().endswith((b".txt", b".json"))}
    if len(sides) == len(names):
        return
    images = find_images(LocalStorage(folder / "in"), ShardLayout(samples_per_shard))
    write_images(images, LocalStorage(folder / "out"))
    found = read_shards(folder / "out")
    keys = [sample["__key__"] for sample in found]
    assert len(set(keys)) == len(names) - len(sides)
    assert all(key.isdigit() for key in keys)
    assert sorted(sample["png"] for sample in found) == sorted(
        picture(number) for number, name in enumerate(names) if name not in sides
    )
    table = read_table(LocalStorage(folder / "out"), PLAN_NAME, IMPORTED_IMAGES)
    used = sum(table[c].drop_null().__len__() for c in ("caption_path", "metadata_path"))
    assert len(table) + used >= len(names)
    paths = dict(zip(table["key"].to_pylist(), table["path"].to_pylist(), strict=True))
    for sample in found:
        assert json.loads(sample["json"])["path"] == paths[sample["__key__"]] or used


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    source = save(tmp_path / "in", {f"{n}.png": picture(n) for n in range(5)})
    for out in ("one", "two"):
        write_images(find_images(source, ShardLayout(2)), LocalStorage(tmp_path / out))
    one, two = (sorted((tmp_path / out).iterdir()) for out in ("one", "two"))
    assert [file.name for file in one] == ["00000.tar", "00001.tar", "00002.tar", PLAN_NAME]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_an_interrupted_import_goes_on_and_a_finished_one_does_nothing(
    tmp_path: Path,
) -> None:
    source = save(tmp_path / "in", {f"{n}.png": picture(n) for n in range(5)})
    output = LocalStorage(tmp_path / "out")
    told: list[tuple[str, int]] = []

    def again() -> int:
        told.clear()
        images = find_images(source, ShardLayout(2))
        return write_images(images, output, lambda *shard: told.append(shard))

    assert again() == 3
    whole = output.read("00001.tar")
    output.delete("00001.tar")
    assert again() == 1
    assert output.read("00001.tar") == whole
    assert again() == 0
    assert told == [("00000", 2), ("00001", 2), ("00002", 1)]


def test_a_folder_of_other_shards_is_left_alone(tmp_path: Path) -> None:
    source = save(tmp_path / "in", {"1.png": picture(1)})
    output = save(tmp_path / "out", {"00000.tar": b"someone else's"})
    with pytest.raises(InputError, match=r"00000\.tar is not of this import"):
        write_images(find_images(source), output)
    assert [file.path for file in output.list_files()] == ["00000.tar"]
    output.delete("00000.tar")
    write_images(find_images(source), output)
    save(tmp_path / "in", {"0.png": picture(0)})
    with pytest.raises(InputError, match="the images changed since"):
        write_images(find_images(source), output)


@dataclass(frozen=True)
class Failing(MemoryStorage):
    """Storage that fails at some write."""

    left: list[int] = field(default_factory=list)
    """How many writes go well before one fails; none do if it is empty."""

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        with super().open_writer(path) as file:
            yield file
            if self.left:
                self.left[0] -= 1
                if self.left[0] < 0:
                    raise StorageError("away")


def put(source: MemoryStorage, state: Mapping[str, int]) -> None:
    """Make a folder have these images: name to what it shows."""
    for file in source.list_files():
        if file.path.removesuffix(".png") not in state:
            source.delete(file.path)
    for name, shows in state.items():
        if not source.exists(f"{name}.png") or source.read(f"{name}.png") != picture(shows):
            source.write(f"{name}.png", picture(shows))


def by_path(output: MemoryStorage) -> dict[str, tuple[str, bytes]]:
    """Read the key and the image of every sample, by the path of its file."""
    found = {}
    for shard in output.list_files(suffix=".tar"):
        with tarfile.open(fileobj=io.BytesIO(output.read(shard.path))) as tar:
            files = {name: tar.extractfile(name) for name in tar.getnames()}
            data = {name: file.read() for name, file in files.items() if file}
        for key in {name.partition(".")[0] for name in data}:
            path = json.loads(data[f"{key}.json"])["path"]
            found[path] = (key, data[f"{key}.png"])
    return found


def versions(output: MemoryStorage) -> dict[str, str]:
    return {file.path: file.version for file in output.list_files(suffix=".tar")}


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2), min_size=1),
            st.none() | st.integers(0, 3),
        ),
        min_size=2,
        max_size=4,
    )
)
def test_what_stays_keeps_its_key_and_only_shards_that_changed_are_rewritten(
    states: list[tuple[dict[str, int], int | None]],
) -> None:
    source, output = MemoryStorage("in"), Failing("out")
    before: dict[str, tuple[str, bytes]] = {}
    for state, fails_at in states:
        put(source, state)
        tars = versions(output)
        if fails_at is not None:
            output.left.append(fails_at)
            with suppress(StorageError):
                update_images(find_images(source, ShardLayout(2)), output)
            output.left.clear()
        images, written = update_images(find_images(source, ShardLayout(2)), output)
        now = by_path(output)
        assert {path: data for path, (_, data) in now.items()} == {
            f"{name}.png": picture(shows) for name, shows in state.items()
        }
        assert images.num_samples == len(now) == len({key for key, _ in now.values()})
        if fails_at is None:
            assert all(now[p][0] == key for p, (key, _) in before.items() if p in now)
            concerned = {
                f"{each[path][0][:5]}.tar"
                for path in {*before, *now}
                for each in (before, now)
                if path in each and before.get(path) != now.get(path)
            }
            rewritten = {p for p, v in versions(output).items() if tars.get(p) != v}
            assert rewritten <= concerned
            assert written == len(rewritten)
        before = now


def test_shards_that_no_import_made_are_not_updated() -> None:
    source, output = MemoryStorage("in"), MemoryStorage("out")
    put(source, {"a": 1})
    output.write("00007.tar", b"someone else's")
    with pytest.raises(InputError, match=r"00007\.tar is not of this import"):
        update_images(find_images(source), output)
    assert list(output.files) == ["00007.tar"]


def test_another_size_of_shards_begins_anew() -> None:
    source, output = MemoryStorage("in"), MemoryStorage("out")
    put(source, {"a": 0, "b": 1, "c": 2})
    update_images(find_images(source, ShardLayout(1)), output)
    update_images(find_images(source, ShardLayout(2)), output)
    keys = sorted(key for key, _ in by_path(output).values())
    assert keys == ["000000", "000001", "000010"]


def test_a_file_that_a_list_names_twice_is_two_samples_that_keep_their_keys() -> None:
    source, output = MemoryStorage("in"), MemoryStorage("out")
    put(source, {"a": 0, "b": 1})
    for rows in ("a.png,one\na.png,two\n", "b.png,new\na.png,one\na.png,two\n"):
        source.write("list.csv", b"path,caption\n" + rows.encode())
        images = find_listed_images(source, "list.csv", source, ShardLayout(1))
        _, written = update_images(images, output)
    assert written == 1
    for number, caption in enumerate((b"one", b"two", b"new")):
        assert caption in output.read(f"0000{number}.tar")


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image to import; 0 file\(s\) are none$"):
        find_images(LocalStorage(tmp_path))
    source = save(tmp_path, {"a.md": b"# a"})
    with pytest.raises(InputError, match=r"1 file\(s\) are none, such as a\.md: no image"):
        find_images(source)


def test_a_list_gives_order_captions_and_metadata(tmp_path: Path) -> None:
    source = save(tmp_path, {f"in/{n}.png": picture(n) for n in range(3)})
    rows = f'"a, b\nc",in/2.png,0.5\n,{tmp_path}/in/0.png,\nagain,in/2.png,1\n'
    source.write("list.csv", b"caption,path,score\n" + rows.encode())
    images = find_listed_images(source, "list.csv", source)
    write_images(images, LocalStorage(tmp_path / "out"))
    found = read_shards(tmp_path / "out")
    assert [sample["png"] for sample in found] == [picture(2), picture(0), picture(2)]
    assert [sample.get("txt") for sample in found] == [b"a, b\nc", None, b"again"]
    assert [json.loads(sample["json"]) for sample in found] == [
        {"path": "in/2.png", "score": 0.5},
        {"path": f"{tmp_path}/in/0.png", "score": None},
        {"path": "in/2.png", "score": 1},
    ]


def test_rows_that_name_no_image_are_reported_every_one(tmp_path: Path) -> None:
    source = save(tmp_path, {"in/0.png": picture(0), "in/page.jpg": b"<html>"})
    save(tmp_path, {"secret.png": picture(1)})
    names = [
        "0.png",
        "gone.png",
        "gone.png",
        "../secret.png",
        "/etc/hostname",
        '""',
        "page.jpg",
    ]
    source.write("list.csv", "\n".join(["path", *names]).encode())
    images = find_listed_images(source, "list.csv", LocalStorage(tmp_path / "in"))
    assert images.num_samples == 1
    assert [path for path, _ in images.problems] == [
        "gone.png", "gone.png", "../secret.png", "/etc/hostname", "", "page.jpg",
    ]  # fmt: skip
    reasons = [problem for _, problem in images.problems]
    assert "there is no such file" in reasons[0]
    assert "is no path inside a storage" in reasons[2]
    assert "is no path inside a storage" in reasons[3]
    assert reasons[4] == "the row has no path"


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with pytest.raises(NotFoundError):
        find_listed_images(storage, "list.csv", storage)


def test_headers_are_plain_ustar(tmp_path: Path) -> None:
    source = save(tmp_path / "in", {"ü" * 90 + ".png": picture(0)})
    write_images(find_images(source), LocalStorage(tmp_path / "out"))
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert [member.pax_headers for member in tar] == [{}, {}]


def test_images_and_shards_can_be_in_s3(s3_storage: S3Storage, tmp_path: Path) -> None:
    files = {f"a/{n}.png": picture(n) for n in range(5)} | {"a/0.txt": b"a caption"}
    local = save(tmp_path / "in", files)
    source = replace(s3_storage, prefix="some/in")
    for path, data in files.items():
        source.write(path, data)
    output = replace(s3_storage, prefix="some/out")
    assert write_images(find_images(source, ShardLayout(2)), output) == 3
    write_images(find_images(local, ShardLayout(2)), LocalStorage(tmp_path / "out"))
    for name in ("00000.tar", "00001.tar", "00002.tar"):
        assert output.read(name) == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("kind", ["txt", "json"])
def test_a_caption_that_may_not_be_read_costs_itself(tmp_path: Path, kind: str) -> None:
    source = save(tmp_path, {"a.png": picture(1), f"a.{kind}": b"{}", "b.png": picture(2)})
    (tmp_path / f"a.{kind}").chmod(0)
    with permissions_bind():
        images = find_images(source)
        output = MemoryStorage()
        write_images(images, output)
    assert [one.path for one in images.found if one] == ["a.png", "b.png"]
    ((path, problem),) = images.problems
    assert path == f"a.{kind}"
    assert "permission" in problem


def _links(folder: Path) -> None:
    """Lay links of each kind beside an image: out of the folder, and inside it."""
    secret = folder.parent / "secret"
    (secret / "below").mkdir(parents=True)
    (secret / "passwd").write_bytes(b"root:x:0:0")
    (secret / "below" / "other.png").write_bytes(picture(7))
    save(folder, {"a.png": picture(1), "b.png": picture(2), "x/c.png": picture(3)})
    (folder / "a.txt").symlink_to(secret / "passwd")
    (folder / "b.json").symlink_to("../secret/passwd")
    (folder / "stolen.png").symlink_to(secret / "below" / "other.png")
    (folder / "chain.png").symlink_to("stolen.png")
    (folder / "folder").symlink_to(secret / "below", target_is_directory=True)
    (folder / "x" / "up.png").symlink_to("../../secret/below/other.png")
    (folder / "again.png").symlink_to("x/c.png")


def test_no_link_out_of_the_folder_is_followed_unless_asked_for(tmp_path: Path) -> None:
    _links(tmp_path / "in")
    images = find_images(LocalStorage(tmp_path / "in"))
    refused = {path for path, why in images.problems if "leads out of the folder" in why}
    expected = {"a.txt", "b.json", "stolen.png", "chain.png", "folder", "x/up.png"}
    assert refused == expected
    write_images(images, LocalStorage(tmp_path / "out"))
    told = read_shards(tmp_path / "out")
    assert [one["json"] for one in told] == [
        b'{"path": "a.png"}',
        b'{"path": "again.png"}',
        b'{"path": "b.png"}',
        b'{"path": "x/c.png"}',
    ]
    assert not any("txt" in one for one in told)
    followed = find_images(LocalStorage(tmp_path / "in"), follow_links=True)
    assert followed.num_samples == 8
    assert not [why for _, why in followed.problems if "leads out" in why]


def test_no_row_of_a_list_leads_out_of_the_folder(tmp_path: Path) -> None:
    _links(tmp_path / "in")
    paths = ["a.png", "stolen.png", "folder/other.png", "../secret/below/other.png"]
    paths += [str(tmp_path / "secret/below/other.png")]
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(paths))
    lists, source = LocalStorage(tmp_path), LocalStorage(tmp_path / "in")
    images = find_listed_images(lists, "list.csv", source)
    assert images.num_samples == 1
    assert len(images.problems) == 4


def test_a_file_that_becomes_a_link_while_it_is_imported_is_not_followed(
    tmp_path: Path,
) -> None:
    source = save(tmp_path / "in", {"a.png": picture(1), "a.txt": b"a caption"})
    images = find_images(source)
    (tmp_path / "passwd").write_bytes(b"root:x:0:")
    (tmp_path / "in" / "a.txt").unlink()
    (tmp_path / "in" / "a.txt").symlink_to(tmp_path / "passwd")
    with pytest.raises(CurationError):
        write_images(images, LocalStorage(tmp_path / "out"))
    assert list((tmp_path / "out").glob("*.tar")) == []


@pytest.mark.parametrize("name", ["a.png", "a.txt"])
def test_a_file_that_is_exchanged_while_it_is_imported_is_not_taken_for_the_other(
    tmp_path: Path, name: str
) -> None:
    source = save(tmp_path / "in", {"a.png": picture(1), "a.txt": b"a caption"})
    images = find_images(source)
    (tmp_path / "in" / name).write_bytes((tmp_path / "in" / name).read_bytes()[::-1] + b"?")
    with pytest.raises(StaleError, match=f"{name}: .* replaced"):
        write_images(images, LocalStorage(tmp_path / "out"))
    assert list((tmp_path / "out").glob("*.tar")) == []

"""Manifests: read as they were written, and refused when they are something else."""

import hashlib
import json

import pytest

from curation.errors import NotFoundError, ReleaseMismatchError
from curation.recipe import Recipe
from curation.release.manifest import (
    Manifest,
    last_release,
    list_releases,
    read_manifest,
    read_placed,
    without_places,
)
from curation.storage import MemoryStorage
from tests.curation.release.world import (
    ENCODER,
    numbered,
    released,
    small_recipe,
    write_filtered,
)


@pytest.fixture
def output() -> MemoryStorage:
    storage = MemoryStorage("output")
    write_filtered(storage, "a", numbered(6))
    return storage


def test_it_says_everything_that_it_was_made_of(output: MemoryStorage) -> None:
    released(output, small_recipe(), "a")
    told = json.loads(output.read("releases/small-0001/manifest.json"))
    assert told["encoder"] == ENCODER
    assert told["sources"] == {"a": "version of a"}
    assert told["recipe"]["filter"] == "true"
    assert "machine" not in told["recipe"]
    assert told["num_samples"] == 6
    assert {"python", "numpy", "pyarrow"} <= set(told["software"])
    files = [file for shard in told["shards"] for file in shard["files"]]
    files += told["documents"]
    assert told["num_bytes"] == sum(file["num_bytes"] for file in files)
    listed = {f.path for f in output.list_files("releases/small-0001")}
    assert listed == {
        f"releases/small-0001/{name}"
        for name in [*(file["path"] for file in files), "manifest.json"]
    }
    for file in files:
        data = output.read(f"releases/small-0001/{file['path']}")
        assert hashlib.sha256(data).hexdigest() == file["sha256"]


SECRETS = {
    "source": "/mnt/home-of-anna/raw",
    "output": "/mnt/home-of-anna/out",
    "filter": "selected('/mnt/home-of-anna/keys.parquet') and width > 1 / 2",
    "s3": {"endpoint_url": "https://minio.intern:9000", "profile": "anna"},
    "encoder": {"weights": "/mnt/home-of-anna/w.safetensors"},
    "imports": {"images": {"photos": {"folder": "/mnt/home-of-anna/photos"}}},
}


@pytest.mark.parametrize("document", ["manifest.json", "README.md", "croissant.json"])
def test_no_place_on_this_machine_and_no_endpoint_is_published(
    output: MemoryStorage, document: str
) -> None:
    recipe = small_recipe(where='not listed(key, "/mnt/home-of-anna/gone.csv", "key")')
    secret = Recipe.model_validate(recipe.model_dump() | SECRETS)
    release = secret.release.model_copy(update={"where": "true"})  # the list is not there
    made = released(output, secret.model_copy(update={"release": release}), "a")
    text = output.read(f"{made.folder}/{document}").decode()
    for word in ("home-of-anna", "/mnt", "intern", "anna", "profile"):
        assert word not in text
    if document == "manifest.json":
        told = json.loads(text)["recipe"]
        assert told["source"] == "raw"
        assert told["filter"] == "selected('keys.parquet') and width > 1 / 2"
        assert told["encoder"]["weights"] == "w.safetensors"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s3://bucket/raw", "s3://bucket/raw"),
        ("hub", "hub"),
        ("package:weights", "package:weights"),
        ("a and b / c", "a and b / c"),
        ("listed(key, \"/a b/c.csv\", 'key')", "listed(key, \"c.csv\", 'key')"),
        ("~/lists/x.csv", "x.csv"),
        ("C:\\data\\x.csv", "x.csv"),
        ("file:///data/x.csv", "x.csv"),
        ("/", "/"),
        (
            {"dropped: selected('/a/b')": [1, "/a/b", None]},
            {"dropped: selected('b')": [1, "b", None]},
        ),
        ("https://u:S3CRET@x/raw?token=S3CRET", "https://x/raw"),
        ("lists/of-anna/x.csv", "x.csv"),
        ("../anna/w.safetensors", "w.safetensors"),
        ("..\\anna\\w", "w"),
        ("\\\\server\\anna\\x", "x"),
        ("//server/anna/x", "x"),
        ("~anna/x", "x"),
        ("file:/anna/x", "x"),
        ({"weights": "anna/w", "source": "of anna/raw"}, {"weights": "w", "source": "raw"}),
        ({"imports": {"a": {"list": "an na/l"}}}, {"imports": {"a": {"list": "l"}}}),
        ({"source": "https://x/a/b"}, {"source": "https://x/a/b"}),
        (
            {"weights": "package:w", "model": "timm/a.b"},
            {"weights": "package:w", "model": "timm/a.b"},
        ),
        ("listed(key, 'of/anna/x.npy', 'uid')", "listed(key, 'x.npy', 'uid')"),
        (r'selected("\\\\server\\anna\\x.csv")', 'selected("x.csv")'),
        (r'matches(caption, "\\bfoo\\b")', r'matches(caption, "\\bfoo\\b")'),
        (
            'format == "image/jpeg" and a / b / c > 1',
            'format == "image/jpeg" and a / b / c > 1',
        ),
        ("width /height/2 > 1", "width /height/2 > 1"),
        ("a / b > metadata.json", "a / b > metadata.json"),
        ("a/b > metadata.txt", "a/b > metadata.txt"),
        ("file: a / b.txt", "file: a / b.txt"),
        ("no file at /home/anna/x.csv: mend it", "no file at x.csv: mend it"),
        (r"no file at \\srv\anna\x.csv, nor D:\anna\y", "no file at x.csv, nor y"),
        (["see https://x/l.csv?sig=S&w=1"], ["see https://x/l.csv?w=1"]),
    ],
)
def test_of_a_path_the_last_part_is_left(before: object, after: object) -> None:
    assert without_places(before) == after


def test_what_was_written_is_read(output: MemoryStorage) -> None:
    made = released(output, small_recipe(), "a")
    assert Manifest.from_bytes(made.as_bytes(), "here") == made
    assert read_manifest(output, made.folder) == made


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": 1}', b"\xff"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ReleaseMismatchError, match="here: not a manifest"):
        Manifest.from_bytes(data, "here")


def test_any_flipped_bit_of_a_manifest_is_found(output: MemoryStorage) -> None:
    whole = released(output, small_recipe(), "a").as_bytes()
    for byte in range(0, len(whole), 3):
        data = bytearray(whole)
        data[byte] ^= 1 << byte % 8
        if json.loads(whole) != _json_or_none(data):  # else white space is another
            with pytest.raises(ReleaseMismatchError):
                Manifest.from_bytes(bytes(data), "here")


def _json_or_none(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def test_a_manifest_without_its_own_hash_is_one_of_before(output: MemoryStorage) -> None:
    made = released(output, small_recipe(), "a")
    values = json.loads(made.as_bytes())
    del values["sha256"]
    assert Manifest.from_bytes(json.dumps(values).encode(), "here") == Manifest.from_bytes(
        made.as_bytes(), "here"
    )


def test_another_format_is_refused(output: MemoryStorage) -> None:
    text = released(output, small_recipe(), "a").as_bytes()
    with pytest.raises(ReleaseMismatchError, match="its format is 2"):
        Manifest.from_bytes(text.replace(b'"format": 1', b'"format": 2'), "here")


def test_a_folder_without_one_is_no_release(output: MemoryStorage) -> None:
    output.write("releases/unfinished/00000.tar", b"")
    output.write("releases/deep/er/manifest.json", b"of something else")
    assert list_releases(output) == []
    with pytest.raises(NotFoundError):
        read_manifest(output, "releases/unfinished")


def test_the_last_release_is_the_one_of_the_highest_number(output: MemoryStorage) -> None:
    released(output, small_recipe(), "a", name="zebra")
    write_filtered(output, "b", numbered(1))
    second = released(output, small_recipe(), "a", "b", name="ant")
    other = released(output, small_recipe(name="other"), "a")
    assert last_release(list_releases(output), "small") == second
    assert last_release(list_releases(output), "other") == other
    assert last_release(list_releases(output), "none") is None


def test_places_are_those_of_the_tables(output: MemoryStorage) -> None:
    made = released(output, small_recipe(), "a")
    placed = read_placed(output, made)
    rows = placed.places.to_pylist()
    assert [(row["number"], row["position"]) for row in rows] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)
    ]  # fmt: skip
    assert [row["source_key"] for row in rows] == list(numbered(6))
    assert (placed.next_number, placed.next_position) == (1, 2)

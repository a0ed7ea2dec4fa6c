"""Which tars become partitions, under which keys."""

from pathlib import Path

import dagster as dg
import pytest

from curation.errors import InputError
from curation.storage import LocalStorage, MemoryStorage
from curation_assets.partitions import (
    SHARDS,
    Source,
    key_problem,
    list_shards,
    survey_source,
    tar_path,
)
from tests.permissions import permissions_bind


def source_with(*paths: str) -> MemoryStorage:
    storage = MemoryStorage()
    for path in paths:
        storage.write(path, b"x" * len(path))
    return storage


def test_a_key_is_the_path_without_tar() -> None:
    source = source_with("b/00001.tar", "a/deep/er/00000.tar", "00002.tar", "b/00001.idx")
    shards = list_shards(source)
    assert list(shards) == ["00002", "a/deep/er/00000", "b/00001"]
    assert [tar_path(key) for key in shards] == [tar.path for tar in shards.values()]
    assert shards["b/00001"] == source.stat("b/00001.tar")


@pytest.mark.parametrize("paths", [[], ["readme.txt", "00000.zip", "tar"]])
def test_a_source_without_tars_says_what_to_set(paths: list[str]) -> None:
    with pytest.raises(InputError, match=r"no \.tar file .* set `source` in the recipe"):
        list_shards(source_with(*paths))


def test_a_source_without_tars_says_what_is_there_instead() -> None:
    with pytest.raises(
        InputError, match=r"(?s)a\.tar\.gz: .*compressed tar; decompress it"
    ):
        list_shards(source_with("a.tar.gz", "b.tgz"))


def lost(source: Source, severity: str = "lost") -> dict[str, str]:
    return {t.shard: t.what for t in source.troubles if t.severity == severity}


ODD_NAMES = {
    **dict.fromkeys(["a,b", "a...b", "a|b", "a\nb", "a\tb", "a\x7fb"], "a comma, '|'"),
    "n" * 248: "longer than 247 bytes",
    "ü" * 124: "longer than 247 bytes",
    "/".join(["n" * 200] * 4): "longer than 800 bytes",
    "/".join("n" * 102): "more than 100 folders",
    "\udcff": "no UTF-8",
}


@pytest.mark.parametrize("key", ODD_NAMES)
def test_a_name_that_no_partition_can_have_costs_itself(key: str) -> None:
    source = survey_source(source_with("fine.tar", f"{key}.tar"))
    assert list(source.tars) == ["fine"]
    ((name, what),) = lost(source).items()
    assert name == f"{key}.tar".replace("\udcff", "\\xff")
    assert ODD_NAMES[key] in what
    assert source.troubles[0].advice == "rename it"
    name.encode()  # can be printed


@pytest.mark.parametrize("name", ["b.TAR", "b.Tar"])
def test_a_tar_named_in_capitals_is_told(name: str) -> None:
    source = survey_source(source_with("a.tar", name))
    assert lost(source) == {name: f"its name ends with {name[1:]}, not with .tar"}


@pytest.mark.parametrize("end", ["tar.gz", "tgz", "tar.zst", "TAR.GZ", "tar.xz", "tbz2"])
def test_a_compressed_tar_is_told_unless_its_own_tar_is_beside_it(end: str) -> None:
    source = survey_source(source_with("a.tar", f"a.{end}", f"b.{end}", "c.gz", "d.zip"))
    assert list(source.tars) == ["a"]
    assert list(lost(source)) == [f"b.{end}"]
    assert list(lost(source, "note")) == [f"a.{end}"]


def test_odd_entries_of_a_folder_are_told_beside_its_shards(tmp_path: Path) -> None:
    source = LocalStorage(tmp_path)
    for path in ("fine.tar", "secret.tar", "sub/fine.tar"):
        source.write(path, b"x")
    (tmp_path / "secret.tar").chmod(0)
    (tmp_path / "lost+found").mkdir(0)
    (tmp_path / "sub/up").symlink_to("..")
    (tmp_path / "gone.tar").symlink_to("nowhere")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "picture.jpg").symlink_to("nowhere")
    with permissions_bind():
        found = survey_source(source)
    assert list(found.tars) == ["fine", "secret", "sub/fine"]
    reasons = lost(found)
    assert list(reasons) == ["gone", "gone.tar", "lost+found", "sub/up", "secret.tar"]
    assert "not there" in reasons["gone"] and "not there" in reasons["gone.tar"]
    assert "Permission denied" in reasons["lost+found"]
    assert "a folder that it is in" in reasons["sub/up"]
    assert "may not be read" in reasons["secret.tar"]
    assert list(lost(found, "note")) == ["picture.jpg"]


def test_a_marker_as_new_as_its_tar_marks_it() -> None:
    source = source_with(
        "a.tar", "a.tar.done", "b.tar.done", "b.tar", "c.tar", "d.tar.done"
    )
    assert survey_source(source).marked == {"a"}


@pytest.mark.parametrize("key", ["train/00042", "a b", "ü", "v1.0/x..y", "s=1&t"])
def test_every_other_path_is_a_key_that_dagster_keeps(key: str) -> None:
    assert key_problem(key) is None
    with dg.DagsterInstance.ephemeral() as instance:
        assert SHARDS.name
        instance.add_dynamic_partitions(SHARDS.name, [key])
        assert SHARDS.get_partition_keys(dynamic_partitions_store=instance) == [key]

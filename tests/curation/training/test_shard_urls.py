"""URLs of tars, against what webdataset expands."""

from pathlib import Path

import pytest
from webdataset.shardlists import expand_urls

from curation.errors import InputError, UnknownNameError
from curation.training.shard_urls import expand, open_shards


@pytest.mark.parametrize(
    "text",
    [
        "a.tar",
        "/data/{0000..0012}.tar",
        "{8..11}.tar",
        "{08..11}-{a,b}.tar",
        "{3..1}.tar",
        "s3://b/{train-{00..02},val}/x.tar",
        "{a,}.tar",
    ],
)
def test_braces_stand_for_what_webdataset_expands(text: str) -> None:
    assert expand(text) == expand_urls(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0..3.tar", "never closed"),
        ("0}.tar", "without"),
        ("{abc}.tar", "expected a range"),
    ]
    + [("{0..99999999}.tar", "more than"), ("{0..9999}" * 4, "more than")],
)
def test_what_can_not_be_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand(text)


def test_lists_and_joined_urls_keep_their_order() -> None:
    shards = open_shards(["b/{1..2}.tar::a.tar", "/c/0.tar"])
    assert [shard.path for shard in shards] == ["1.tar", "2.tar", "a.tar", "0.tar"]
    assert shards[0].storage is shards[1].storage
    assert [shard.number for shard in shards] == [1, 2, None, 0]
    assert shards[3].url == "/c/0.tar"


def test_a_folder_stands_for_its_tars(tmp_path: Path) -> None:
    for name in ("00010.tar", "00009.tar", "notes.txt", "more/train-0011.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    shards = open_shards(str(tmp_path))
    assert [shard.path for shard in shards] == [
        "00009.tar", "00010.tar", "more/train-0011.tar",
    ]  # fmt: skip
    assert [shard.number for shard in shards] == [9, 10, 11]


def test_a_folder_without_tars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.tar"):
        open_shards(str(tmp_path))


def test_commands_are_never_run(tmp_path: Path) -> None:
    with pytest.raises((InputError, UnknownNameError)):
        open_shards(f"pipe:touch {tmp_path}/ran; cat x.tar")
    assert not list(tmp_path.iterdir())

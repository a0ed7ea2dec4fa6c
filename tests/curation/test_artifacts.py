"""Paths of artifacts."""

from dataclasses import replace

import pytest

from curation.artifacts import Artifacts

ARTIFACTS = Artifacts("index", "model-12345678", "texts", "heads", recipe="mine")
SHARED = ("shard_index", "embeddings", "caption_embeddings", "scores")
ASSETS = (*SHARED, "duplicates", "selection", "filtered_shard")


def test_no_two_artifacts_share_a_path() -> None:
    paths = [
        path
        for shard in ("a", "b/a", "b")
        for asset in ASSETS
        for path in ARTIFACTS.of(asset, shard)
    ]
    assert len(set(paths)) == len(paths) == 3 * 10


def test_what_has_no_file_has_no_path() -> None:
    assert ARTIFACTS.of("raw_shard", "a") == ()


def test_recipes_share_what_does_not_depend_on_their_decisions() -> None:
    other = replace(ARTIFACTS, recipe="other")
    assert all(ARTIFACTS.of(a, "s") == other.of(a, "s") for a in SHARED)
    assert not any(ARTIFACTS.of(a, "s") == other.of(a, "s") for a in ASSETS[4:])


@pytest.mark.parametrize(
    ("setting", "theirs"),
    [
        ("indexes", {"shard_index"}),
        ("encoder", {"embeddings", "caption_embeddings", "scores"}),
        ("captions", {"caption_embeddings"}),
        ("classifiers", {"scores"}),
    ],
)
def test_recipes_that_differ_overwrite_nothing_of_each_other(
    setting: str, theirs: set[str]
) -> None:
    other = replace(ARTIFACTS, **{setting: "another"})
    differ = {a for a in SHARED if set(ARTIFACTS.of(a, "s")).isdisjoint(other.of(a, "s"))}
    assert differ == theirs

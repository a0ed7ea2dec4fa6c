"""Paths of artifacts."""

from curation.artifacts import Artifacts

ARTIFACTS = Artifacts(encoder="model-12345678", recipe="mine")
ASSETS = (
    "shard_index",
    "embeddings",
    "scores",
    "duplicates",
    "selection",
    "filtered_shard",
)


def test_no_two_artifacts_share_a_path() -> None:
    paths = [
        path
        for shard in ("a", "b/a", "b")
        for asset in ASSETS
        for path in ARTIFACTS.of(asset, shard)
    ]
    assert len(set(paths)) == len(paths) == 3 * 9


def test_what_has_no_file_has_no_path() -> None:
    assert ARTIFACTS.of("raw_shard", "a") == ()


def test_recipes_share_what_does_not_depend_on_their_decisions() -> None:
    other = Artifacts(encoder="model-12345678", recipe="other")
    shared = ("shard_index", "embeddings", "scores")
    assert all(ARTIFACTS.of(a, "s") == other.of(a, "s") for a in shared)
    assert not any(ARTIFACTS.of(a, "s") == other.of(a, "s") for a in ASSETS[3:])

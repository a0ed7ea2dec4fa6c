"""Captions' embeddings in the pipeline, by a small model with random weights."""

import itertools
from pathlib import Path

import pytest

from curation.errors import InputError
from curation.tables import (
    CAPTIONS,
    EMBEDDINGS,
    TEXT_EMBEDDING,
    embedding_matrix,
    read_table,
)
from jobs.curate import curate
from resources.progress import LineProgress
from tests.conftest import Curated

pytest.importorskip("open_clip")

TEXT = "text_encoder: {{model: ViT-S-32-alt, weights: {weights}}}\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the weights of a small text tower, as they come: random."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt")
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, file)
    return file


@pytest.fixture
def with_captions(curated: Curated, weights: Path) -> Curated:
    curated.edit("machine:", TEXT.format(weights=weights) + "machine:")
    curate(curated.recipe, LineProgress(print), until="caption_embeddings")
    return curated


def test_every_caption_with_an_image_has_a_vector(with_captions: Curated) -> None:
    path = with_captions.artifacts
    facts = read_table(with_captions.output, path.embeddings("00000"), EMBEDDINGS)
    made = read_table(with_captions.output, path.caption_embeddings("00000"), CAPTIONS)
    _, valid = embedding_matrix(made[TEXT_EMBEDDING])
    expected = [
        row["error"] is None and bool((row["caption"] or "").strip())
        for row in facts.to_pylist()
    ]
    assert made["key"].to_pylist() == facts["key"].to_pylist()
    assert valid.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_only_scores_and_what_follows_are_made_again(with_captions: Curated) -> None:
    before = {f.path: f.version for f in with_captions.output.list_files("embeddings")}
    result = curate(with_captions.recipe, LineProgress(print))
    after = {f.path: f.version for f in with_captions.output.list_files("embeddings")}
    assert after == before
    assert "embeddings" not in result.seconds
    assert "scores" in result.seconds


def test_towers_that_are_no_pair_are_refused(with_captions: Curated) -> None:
    recipe = with_captions.edit("classifiers:\n", "classifiers:\n  text_alignment: {}\n")
    with pytest.raises(InputError, match="text_alignment"):
        curate(recipe, LineProgress(print))


def test_trusted_towers_of_one_width_are_compared(
    with_captions: Curated, weights: Path
) -> None:
    before = with_captions.output.list_files("scores")
    # the encoder's 1280 numbers fit no text tower at hand, which not even trust can mend
    recipe = with_captions.edit(
        "classifiers:\n", "classifiers:\n  text_alignment: {trust_encoder: true}\n"
    )
    with pytest.raises(InputError, match="1280"):
        curate(recipe, LineProgress(print))
    assert with_captions.output.list_files("scores") == before


def test_progress_moves_inside_a_shard(
    curated: Curated, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.task_progress.monotonic", itertools.count().__next__)
    curated.edit("machine:", TEXT.format(weights=weights) + "machine:")
    lines: list[str] = []
    progress = LineProgress(lines.append, seconds_inside=0)
    curate(curated.recipe, progress, shards=["00000"], until="caption_embeddings")
    inside, last = [line.split(";")[0] for line in lines]  # one batch
    assert last == "caption_embeddings: 00000 done"
    _, _, done, _, total, _ = inside.split()
    assert done == total and int(done) > 8

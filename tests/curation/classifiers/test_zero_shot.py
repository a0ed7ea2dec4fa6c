"""A zero-shot score is CLIP's own softmax over the prompts, as open_clip computes it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.classifiers import Classifier, ZeroShot, make_classifier
from curation.errors import InputError, NotFoundError
from curation.fingerprint import Json
from curation.testing.classifier_contract import ClassifierContract
from curation.text_embedders.open_clip import IMAGE_TOWERS
from tests.curation.text_embedders.tiny_clip import (
    DIM,
    NAME,
    TAG,
    TOWER,
    TinyClip,
    make_tiny_clip,
)

PROMPTS = ["a screenshot", "a page of text"]
AGAINST = ["a photo", "a drawing", "a painting"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyClip]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IMAGE_TOWERS, (NAME, TAG), (TOWER,))
        yield make_tiny_clip(tmp_path_factory.mktemp("clip"))


def make(clip: TinyClip, **changes: Any) -> Classifier:
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "against": AGAINST,
        "text_model": NAME,
        "text_pretrained": TAG,
        "text_weights": str(clip.weights),
    }
    return make_classifier("zero_shot", **settings | changes)


class TestZeroShot(ClassifierContract):
    @pytest.fixture(autouse=True)
    def _clip(self, clip: TinyClip) -> None:
        self.clip = clip

    def make(self, *, trust_encoder: bool = False) -> Classifier:
        return make(self.clip, trust_encoder=trust_encoder)

    def encoder(self) -> dict[str, Json]:
        return {"model": TOWER, "dim": DIM}


def unit_rows(count: int) -> torch.Tensor:
    rows = torch.randn(count, DIM, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(rows)


def test_scores_are_the_prompts_share_of_clips_softmax(clip: TinyClip) -> None:
    rows = unit_rows(50)
    texts = clip.text_vectors([*PROMPTS, *AGAINST])
    expected = (100 * rows @ texts.T).softmax(dim=1)[:, : len(PROMPTS)].sum(dim=1)
    found = make(clip).score(rows.numpy())
    # the prompts' vectors are rounded to float16, and the softmax takes them times 100
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=0.02)


def test_prompts_and_what_is_against_them_add_up_to_one(clip: TinyClip) -> None:
    rows = unit_rows(50).numpy()
    other = make(clip, prompts=AGAINST, against=PROMPTS)
    np.testing.assert_allclose(
        make(clip).score(rows) + other.score(rows), 1, rtol=0, atol=1e-5
    )


def test_other_prompts_are_another_fingerprint(clip: TinyClip) -> None:
    prints = {
        make(clip).fingerprint(),
        make(clip, prompts=PROMPTS[:1]).fingerprint(),
        make(clip, prompts=AGAINST, against=PROMPTS).fingerprint(),
    }
    assert len(prints) == 3
    assert make(clip, prompts=tuple(PROMPTS)).fingerprint() == make(clip).fingerprint()


def test_a_fingerprint_hashes_the_file_of_weights_and_fetches_nothing(
    clip: TinyClip,
) -> None:
    from_file = make(clip).weights_sha256()
    assert from_file == hashlib.sha256(clip.weights.read_bytes()).hexdigest()
    assert make(clip, text_weights="hub").weights_sha256() is None


@pytest.mark.parametrize("setting", ["prompts", "against"])
@pytest.mark.parametrize("texts", [None, [], "a photo", [1, 2], ["a photo", " "], {"a": 1}])
def test_what_is_no_list_of_texts_is_refused(setting: str, texts: object) -> None:
    settings: dict[str, Any] = {"prompts": PROMPTS, "against": AGAINST} | {setting: texts}
    with pytest.raises(InputError, match=f"zero_shot needs {setting}: a list of texts"):
        make_classifier("zero_shot", **settings)


def test_a_model_whose_image_tower_is_not_known_needs_trust(clip: TinyClip) -> None:
    unknown = make(clip, text_pretrained="my_own")
    with pytest.raises(InputError, match=rf"{NAME}/my_own is not known.*trust_encoder"):
        unknown.check_encoder({"model": TOWER, "dim": DIM})
    trusting = make(clip, text_pretrained="my_own", trust_encoder=True)
    trusting.check_encoder({"model": "my_tower", "dim": DIM})
    assert trusting.score(unit_rows(3).numpy()).shape == (3,)


def test_published_models_are_known_without_weights() -> None:
    classifier = ZeroShot(prompts=("a dog",), against=("a cat",))
    assert classifier.needs.dim == 768
    assert "vit_large_patch14_clip_quickgelu_224.openai" in classifier.needs.models


def test_a_missing_file_of_weights_is_named(clip: TinyClip, tmp_path: Path) -> None:
    lost = make(clip, text_weights=str(tmp_path / "lost.pt"))
    with pytest.raises(NotFoundError, match=r"lost\.pt"):
        lost.score(unit_rows(3).numpy())

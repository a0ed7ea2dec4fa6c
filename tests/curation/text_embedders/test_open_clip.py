"""Texts are embedded as open_clip would, from files, and without a network."""

import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from curation.errors import DataError, InputError, NotFoundError, UnknownNameError
from curation.task_progress import told_to
from curation.testing.text_embedder_contract import TEXTS, TextEmbedderContract
from curation.text_embedders import OpenClipTextEmbedder, make_text_embedder
from curation.text_embedders.open_clip import IMAGE_TOWERS
from tests.curation.text_embedders.tiny_clip import DIM, NAME, TAG, TinyClip, make_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TinyClip:
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the hub's client do as on a machine without a network and with no cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


class TestOpenClip(TextEmbedderContract):
    @pytest.fixture(autouse=True)
    def _clip(self, clip: TinyClip) -> None:
        self.clip = clip

    def make(self) -> OpenClipTextEmbedder:
        return OpenClipTextEmbedder(NAME, TAG, str(self.clip.weights), batch_size=3)


class TestPublishedWeights(TestOpenClip):
    @pytest.fixture(autouse=True)
    def _hub(self, clip: TinyClip, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let open_clip's hub have the weights of the tiny model."""
        here = OpenClipTextEmbedder(NAME, TAG, str(clip.weights))
        monkeypatch.setattr(OpenClipTextEmbedder, "_from_hub", lambda _: here._from_file())

    def make(self) -> OpenClipTextEmbedder:
        return OpenClipTextEmbedder(NAME, TAG, batch_size=3)


def test_vectors_are_those_of_open_clip_itself(clip: TinyClip) -> None:
    found = OpenClipTextEmbedder(NAME, TAG, str(clip.weights)).embed(TEXTS)
    expected = clip.text_vectors(TEXTS)
    torch.testing.assert_close(torch.from_numpy(found).float(), expected, rtol=0, atol=1e-3)


def test_it_tells_how_many_texts_are_done(clip: TinyClip) -> None:
    told: list[tuple[int, int]] = []
    embedder = OpenClipTextEmbedder(NAME, TAG, str(clip.weights), batch_size=2)
    with told_to(lambda *part: told.append(part), seconds_between=0):
        embedder.embed(["a", "b", "c", "d", "e"])
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_the_width_is_known_without_weights() -> None:
    assert OpenClipTextEmbedder("ViT-B-32-quickgelu", "openai", "/nowhere.pt").dim == 512
    assert OpenClipTextEmbedder().dim == 768


def test_a_state_dict_saved_by_torch_gives_the_same(clip: TinyClip, tmp_path: Path) -> None:
    file = tmp_path / "tiny.pt"
    torch.save({"state_dict": load_file(clip.weights)}, file)
    found = OpenClipTextEmbedder(NAME, TAG, str(file)).embed(TEXTS[:3])
    expected = OpenClipTextEmbedder(NAME, TAG, str(clip.weights)).embed(TEXTS[:3])
    np.testing.assert_array_equal(found, expected)


def test_other_weights_are_another_encoder(clip: TinyClip, tmp_path: Path) -> None:
    weights = load_file(clip.weights)
    other = tmp_path / "other.safetensors"
    save_file(weights | {"text_projection": weights["text_projection"] * 2}, other)
    prints = {
        OpenClipTextEmbedder(NAME, TAG, str(file)).fingerprint()
        for file in (clip.weights, other)
    }
    assert len(prints) == 2


@pytest.mark.parametrize(("key", "towers"), IMAGE_TOWERS.items(), ids=str)
def test_every_pair_of_towers_is_one_model_of_one_width(
    key: tuple[str, str], towers: tuple[str, ...]
) -> None:
    model, tag = key
    assert tag in open_clip.list_pretrained_tags_by_model(model)
    tower = timm.get_pretrained_cfg(towers[0])
    assert tower is not None
    assert tower.num_classes == open_clip.get_model_config(model)["embed_dim"]
    assert open_clip.get_pretrained_cfg(model, tag)["mean"] == tower.mean
    quick = open_clip.get_model_config(model).get("quick_gelu", False)
    assert quick == ("quickgelu" in towers[0])
    # datacomp_xl_s13b_b90k → datacompxl: timm leaves out samples seen and batch size
    assert tag.partition("_s")[0].replace("_", "") == towers[0].rpartition(".")[2]


def test_an_unknown_architecture_is_named_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="ViT-L-14"):
        _ = OpenClipTextEmbedder("ViT-L-41").dim


def test_an_unknown_tag_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match="laion2b_s32b_b82k"):
        OpenClipTextEmbedder("ViT-L-14", "laion2b").embed(["x"])


def test_an_unknown_kind_of_embedder_is_named() -> None:
    with pytest.raises(UnknownNameError, match="open_clip"):
        make_text_embedder("openclip")
    assert make_text_embedder("open_clip", model=NAME).dim == DIM


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.safetensors"):
        OpenClipTextEmbedder(NAME, TAG, "nowhere.safetensors").encoder()


def test_weights_of_another_architecture_are_refused(
    clip: TinyClip, tmp_path: Path
) -> None:
    weights = load_file(clip.weights)
    del weights["text_projection"]
    other = tmp_path / "other.safetensors"
    save_file(weights, other)
    with pytest.raises(InputError, match="text_projection is missing"):
        OpenClipTextEmbedder(NAME, TAG, str(other)).embed(["x"])


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page.safetensors"
    file.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"page\.safetensors"):
        OpenClipTextEmbedder(NAME, TAG, str(file)).embed(["x"])


@pytest.mark.usefixtures("offline")
def test_an_unreachable_hub_says_how_to_supply_the_file() -> None:
    embedder = OpenClipTextEmbedder("ViT-B-32", "laion2b_s34b_b79k")
    with pytest.raises(InputError, match=r"ViT-B-32, laion2b_s34b_b79k.*weights: <file>"):
        embedder.embed(["x"])


@pytest.mark.usefixtures("offline")
def test_a_tokenizer_that_is_not_there_is_an_error_in_words() -> None:
    with pytest.raises(InputError, match="tokenizer of ViT-B-16-SigLIP"):
        OpenClipTextEmbedder("ViT-B-16-SigLIP", "webli", "unused").embed(["x"])


def test_without_the_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match="pip install open_clip_torch"):
        _ = OpenClipTextEmbedder(NAME).dim

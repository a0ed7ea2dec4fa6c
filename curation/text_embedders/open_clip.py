"""The text tower of a CLIP-like model, by open_clip, an optional package."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.cpu_arithmetic import side_by_side
from curation.devices import computes_bf16
from curation.errors import InputError, NotFoundError, UnknownNameError
from curation.fingerprint import Json, file_sha256
from curation.hub_weights import FILE_NAMES, repository_trouble, url_trouble
from curation.model_weights import (
    StateDict,
    fitted_weights,
    read_weights,
    state_sha256,
)
from curation.task_progress import tell_part
from curation.text_embedders.base import TextEmbedder

if TYPE_CHECKING:
    import torch

HUB = "hub"

IMAGE_TOWERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("ViT-B-32-quickgelu", "openai"): (
        "vit_base_patch32_clip_quickgelu_224.openai",
        "ViT-B/32",
    ),
    ("ViT-B-16-quickgelu", "openai"): (
        "vit_base_patch16_clip_quickgelu_224.openai",
        "ViT-B/16",
    ),
    ("ViT-L-14-quickgelu", "openai"): (
        "vit_large_patch14_clip_quickgelu_224.openai",
        "ViT-L/14",
    ),
    ("ViT-L-14-336-quickgelu", "openai"): (
        "vit_large_patch14_clip_quickgelu_336.openai",
        "ViT-L/14@336px",
    ),
    ("ViT-B-32", "laion2b_s34b_b79k"): ("vit_base_patch32_clip_224.laion2b",),
    ("ViT-B-16", "laion2b_s34b_b88k"): ("vit_base_patch16_clip_224.laion2b",),
    ("ViT-L-14", "laion2b_s32b_b82k"): ("vit_large_patch14_clip_224.laion2b",),
    ("ViT-H-14", "laion2b_s32b_b79k"): ("vit_huge_patch14_clip_224.laion2b",),
    ("ViT-bigG-14", "laion2b_s39b_b160k"): ("vit_gigantic_patch14_clip_224.laion2b",),
    ("ViT-B-32", "datacomp_xl_s13b_b90k"): ("vit_base_patch32_clip_224.datacompxl",),
    ("ViT-B-16", "datacomp_xl_s13b_b90k"): ("vit_base_patch16_clip_224.datacompxl",),
    ("ViT-L-14", "datacomp_xl_s13b_b90k"): ("vit_large_patch14_clip_224.datacompxl",),
    ("ViT-L-14-quickgelu", "dfn2b"): ("vit_large_patch14_clip_quickgelu_224.dfn2b",),
    ("ViT-H-14-quickgelu", "dfn5b"): ("vit_huge_patch14_clip_quickgelu_224.dfn5b",),
}
"""open_clip's model and tag to the names of the same weights' image tower: timm's, and for
OpenAI's models OpenAI's."""


CPU_PASS = 32
"""Texts of a forward pass on a CPU, by one thread."""


@dataclass(frozen=True)
class OpenClipTextEmbedder(TextEmbedder):
    """The text tower of one of open_clip's models.

    Texts are cut at the model's context, mostly 77 tokens, about 50 English words.

    Source: mlfoundations/open_clip, README.md.
    """

    model: str = "ViT-L-14-quickgelu"
    """open_clip's name of the architecture. OpenAI's weights need ``-quickgelu``."""
    pretrained: str = "openai"
    """open_clip's tag of the published weights, wherever they come from."""
    weights: str = HUB
    """``hub`` (fetched by open_clip), or a ``.safetensors``, ``.pt`` or ``.bin`` file."""
    device: str = "cpu"
    """A GPU that computes in bf16 multiplies in it; weights, and all on a CPU, are fp32."""
    batch_size: int = 256

    def __reduce__(self) -> tuple[object, ...]:
        # settings travel, loaded weights don't
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def on(self, device: str) -> "OpenClipTextEmbedder":
        return replace(self, device=device)

    @property
    def dim(self) -> int:
        return int(self._config["embed_dim"])

    def encoder(self) -> dict[str, Json]:
        return self._described | {"weights_sha256": self._weights_sha256}

    def known_encoder(self) -> dict[str, Json]:
        return self._described if self.weights == HUB else self.encoder()

    def check(self) -> None:
        import torch

        self.known_encoder()
        _ = self._tokenizer
        if self.weights == HUB:
            self._check_hub()
            return
        weights = read_weights(self._file)
        with torch.device("meta"):
            self._fitted(weights, "meta")

    @property
    def _described(self) -> dict[str, Json]:
        return {
            "kind": "open_clip",
            "model": f"{self.model}/{self.pretrained}",
            "dim": self.dim,
            "pairs_with": list(IMAGE_TOWERS.get((self.model, self.pretrained), ())),
        }

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        vectors = np.empty((len(texts), self.dim), np.float16)
        for start in range(0, len(texts), self.batch_size):
            part = list(texts[start : start + self.batch_size])
            tokens = self._tokenizer(part).to(self.device)
            _ = self._loaded
            if self.device == "cpu":
                passes = torch.split(tokens, CPU_PASS)
                found = torch.cat(side_by_side(self._computed, passes))
            else:
                found = self._computed(tokens)
            vectors[start : start + len(part)] = found.cpu().numpy()
            tell_part(start + len(part), len(texts))
        return vectors

    def _computed(self, tokens: "torch.Tensor") -> "torch.Tensor":
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode(), self._arithmetic:
            return normalize(self._loaded.encode_text(tokens).float()).half()

    @property
    def _arithmetic(self) -> "torch.autocast":
        import torch

        fast = self.device != "cpu" and computes_bf16(self.device)
        kind = self.device.partition(":")[0]
        return torch.autocast(kind, torch.bfloat16, enabled=fast)

    @cached_property
    def _config(self) -> dict[str, Any]:
        open_clip = _open_clip()
        if self.model not in open_clip.list_models():
            names = open_clip.list_models()
            raise UnknownNameError.among("open_clip model", self.model, names)
        config: dict[str, Any] = open_clip.get_model_config(self.model)
        return config

    @cached_property
    def _tokenizer(self) -> Any:
        open_clip = _open_clip()
        try:
            return open_clip.get_tokenizer(self.model)
        except (ImportError, OSError) as error:
            raise InputError(
                f"the tokenizer of {self.model} can't be had ({error}). It is one of "
                "Hugging Face's: it needs the package transformers, and the network or "
                "its cache; models of the ViT-…/openai and laion2b kind need neither"
            ) from error

    @cached_property
    def _weights_sha256(self) -> str:
        if self.weights != HUB:
            return file_sha256(self._file)
        return self._published[1]

    @property
    def _file(self) -> Path:
        file = Path(self.weights)
        if not file.is_file():
            raise NotFoundError(
                f"weights: {self.weights}: there is no such file; use weights: hub or the "
                f"file of {self.model}, {self.pretrained}"
            )
        return file

    @cached_property
    def _loaded(self) -> Any:
        _ = self._config
        model = (
            self._published[0] if self.weights == HUB else _text_tower(self._from_file())
        )
        return model.eval().requires_grad_(False).to(self.device)

    @cached_property
    def _published(self) -> tuple[Any, str]:
        """The published text tower, and the hash of its weights as they came."""
        tower = _text_tower(self._from_hub())
        return tower, state_sha256(tower.state_dict())

    def _check_hub(self) -> None:
        """Refuse weights that are nowhere, or that the hub doesn't answer for."""
        open_clip = _open_clip()
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        if self.pretrained not in tags:
            kind = f"tag of weights for {self.model}"
            raise UnknownNameError.among(kind, self.pretrained, tags)
        config = open_clip.get_pretrained_cfg(self.model, self.pretrained)
        repository, _, name = str(config.get("hf_hub") or "").rpartition("/")
        if repository:
            names = (name, *FILE_NAMES) if name else FILE_NAMES[2:]
            trouble = repository_trouble(repository, names)
        else:
            cache = Path("~/.cache/clip").expanduser()
            trouble = url_trouble(str(config.get("url")), cache)
        if trouble:
            raise self._out_of_reach(trouble)

    def _from_hub(self) -> Any:
        self._check_hub()
        try:
            return _open_clip().create_model(self.model, pretrained=self.pretrained)
        except (OSError, RuntimeError) as error:
            found = str(error).partition("\n")[0][:200]
            raise self._out_of_reach(found) from error

    def _out_of_reach(self, trouble: str) -> InputError:
        return InputError(
            f"The weights of {self.model}, {self.pretrained}, can't be had from "
            f"open_clip's hub ({trouble}). Fetch them on another machine, and name the "
            "file: weights: <file>.safetensors"
        )

    def _from_file(self) -> Any:
        model, weights = self._fitted(read_weights(self._file))
        model.load_state_dict(weights)
        return model

    def _fitted(self, weights: StateDict, device: str = "cpu") -> tuple[Any, StateDict]:
        """Give the model without weights, and these under its names."""
        model = _open_clip().create_model(self.model, load_weights=False, device=device)
        where = f"weights: {self.weights}"
        return model, fitted_weights(model, weights, where, by_order=False)


def _text_tower(model: Any) -> Any:
    del model.visual  # half of the memory or more, and nothing here looks at images
    return model


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise InputError(
            "Texts are embedded by the package open_clip_torch, which is not installed; "
            "install it (pip install open_clip_torch), or take text_alignment, zero_shot "
            "and text_encoder out of the recipe"
        ) from error
    return open_clip

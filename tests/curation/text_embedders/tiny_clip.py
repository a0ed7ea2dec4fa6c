"""A CLIP of open_clip's that is small, random, and known to it by a name of its own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

NAME = "tiny-clip-of-tests"
TAG = "random"
TOWER = "tiny_image_tower"
"""What embeddings tables call its image tower."""
DIM = 24

CONFIG = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}


@dataclass(frozen=True)
class TinyClip:
    """The model as open_clip runs it, and the file of its weights."""

    model: Any
    weights: Path

    def text_vectors(self, texts: list[str]) -> torch.Tensor:
        """Embed texts by open_clip alone: ``(N, DIM)`` float32, rows of unit length."""
        tokens = open_clip.get_tokenizer(NAME)(texts)
        with torch.inference_mode():
            vectors: torch.Tensor = self.model.encode_text(tokens, normalize=True)
        return vectors


def make_tiny_clip(folder: Path) -> TinyClip:
    """Register the architecture with open_clip, and save random weights of it."""
    config = folder / f"{NAME}.json"
    config.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model = open_clip.create_model(NAME, load_weights=False).eval()
    weights = folder / "tiny.safetensors"
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, weights)
    return TinyClip(model, weights)

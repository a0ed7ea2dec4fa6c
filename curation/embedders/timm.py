"""Any timm model as an embedder, with weights from wherever they are."""

import logging
from dataclasses import astuple, dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curation.devices import computes_bf16
from curation.embedders.base import Embedder
from curation.errors import InputError, UnknownNameError
from curation.fingerprint import Json, file_sha256
from curation.hub_weights import FILE_NAMES, repository_trouble, url_trouble
from curation.image_transform import ImageTransform, transform_from_timm
from curation.model_weights import (
    THREE_WAYS,
    StateDict,
    fitted_weights,
    read_weights,
    state_sha256,
    weights_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]

PROJECTION_DIMS = frozenset({384, 512, 640, 768, 1024, 1152, 1280})
"""Widths of the joint spaces of CLIP-like models. timm writes such a model's projection
as its classifier, with this many "classes"; no set of labels has so many."""


@dataclass
class TimmEmbedder(Embedder):
    """A timm model's pooled output; of CLIP-like models, the projected embedding.

    What a classifier of ImageNet says before its last layer, and what CLIP's image tower
    says after its projection, which is what the published aesthetic and NSFW heads expect.

    Example:
        >>> TimmEmbedder("vit_base_patch16_224", weights="hub").transform.rule
        'shortest'
    """

    model: str
    """Any name that ``timm.list_models()`` has, with or without a pretrained tag."""
    weights: str = "hub"
    """``hub``, a ``.safetensors`` or ``.pth`` file, or ``package:<name>``."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the arithmetic; ``auto`` is bf16 where the device computes in it, else fp32."""
    device: str = "cpu"
    compiled: bool = False
    """Run through ``torch.compile``, for up to half a minute more at first. Off, because
    on a CPU it gains nothing at the batch size that is fastest there (lite0 in bf16:
    ``benchmarks/embed.py --compiled``); not measured on a GPU. Ignored, with a warning,
    where there is no C++ compiler."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), astuple(self)  # settings travel, loaded weights don't

    @cached_property
    def transform(self) -> ImageTransform:
        from timm.data.config import resolve_data_config

        config = resolve_data_config(pretrained_cfg=self._config)  # type: ignore[no-untyped-call]
        return transform_from_timm(config)

    @cached_property
    def dim(self) -> int:
        import torch

        if self._is_projection:
            return int(self._config["num_classes"])
        pixels = torch.zeros((1, self.transform.height, self.transform.width, 3))
        with torch.device("meta"), torch.inference_mode():
            model = self._create(pretrained=False).eval()
            output = self._pooled(model, pixels.to("meta").permute(0, 3, 1, 2))
        return _checked_dim(self.model, output)

    def on(self, device: str) -> "TimmEmbedder":
        return replace(self, device=device)

    def encoder(self) -> dict[str, Json]:
        return self._described | {"weights_sha256": self._weights_sha256}

    def known_encoder(self) -> dict[str, Json]:
        return self.encoder() if weights_file(self.weights) else self._described

    def check(self) -> None:
        import torch

        self.known_encoder()
        if file := weights_file(self.weights):
            weights = read_weights(file)
            with torch.device("meta"):
                self._fitted(weights)
        else:
            self._check_hub()

    @property
    def _described(self) -> dict[str, Json]:
        return {
            "kind": "timm",
            "model": self.model,
            "transform": self.transform.record(),
            "precision": self.resolved_precision,
            "output": "projection" if self._is_projection else "pooled",
            "dim": self.dim,
        }

    def embed_pixels(self, pixels: "torch.Tensor") -> "torch.Tensor":
        return self._forward(pixels)

    def class_logits(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Compute the logits of the model's own classes, to compare top-1 predictions.

        Args:
            pixels: As :meth:`~curation.embedders.base.Embedder.embed_pixels`.

        Returns:
            ``(N, classes)`` float32.

        Raises:
            InputError: The model has no classes: it is a projection, or has no head.
        """
        import torch

        if self._is_projection or not self._loaded.num_classes:
            raise InputError(f"{self.model} with these weights predicts no classes")
        with torch.inference_mode():
            logits: torch.Tensor = self._loaded(self._normalized(pixels))
            return logits.float()

    @cached_property
    def resolved_precision(self) -> Precision:
        """The precision that ``auto`` stands for on this device."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if computes_bf16(self.device) else "fp32"

    @cached_property
    def _config(self) -> dict[str, Any]:
        import timm

        try:
            known = timm.is_model(self.model)
            config = timm.get_pretrained_cfg(self.model) if known else None
        except RuntimeError:  # the architecture exists, the tag after the dot does not
            config = None
        if config is None:
            raise _unknown_model(self.model)
        values: dict[str, Any] = config.to_dict()  # type: ignore[no-untyped-call]
        return values

    @cached_property
    def _is_projection(self) -> bool:
        return self._config["num_classes"] in PROJECTION_DIMS

    @cached_property
    def _weights_sha256(self) -> str:
        file = weights_file(self.weights)
        return file_sha256(file) if file else self._published[1]

    @cached_property
    def _published(self) -> tuple[Any, str]:
        """The model with the weights that timm publishes, and their hash as they came.

        Taken before anyone casts the model, which changes it where it lies: the hash must
        not depend on whether images were embedded first, nor on the device.
        """
        self._check_hub()
        try:
            model = self._create(pretrained=True)
        except (OSError, RuntimeError) as error:
            found = f"{type(error).__name__}: {_first_line(error)}"
            raise self._out_of_reach(found) from error
        return model, state_sha256(model.state_dict())

    def _check_hub(self) -> None:
        """Refuse weights that are nowhere, or that the hub doesn't answer for."""
        import torch

        repository, url = self._config.get("hf_hub_id"), self._config.get("url")
        named = self._config.get("hf_hub_filename")
        if repository:
            names = (named, *FILE_NAMES) if named else FILE_NAMES
            trouble = repository_trouble(str(repository), names)
        elif url:
            trouble = url_trouble(str(url), Path(torch.hub.get_dir()) / "checkpoints")
        else:
            trouble = "timm has published none for this name; add a tag that has some"
        if trouble:
            raise self._out_of_reach(trouble)

    def _out_of_reach(self, trouble: str) -> InputError:
        return InputError(
            f"The weights of {self.model} can't be had from timm's hub ({trouble}). Ways "
            f"to supply weights: {THREE_WAYS}"
        )

    @cached_property
    def _loaded(self) -> Any:
        import torch

        file = weights_file(self.weights)
        model = self._with_weights(file) if file else self._published[0]
        model = model.eval().requires_grad_(False)
        model = model.to(self.device, memory_format=torch.channels_last)
        log.info("loaded %s on %s in %s", self.model, self.device, self.resolved_precision)
        return _in_precision(model, self._dtype)

    def _with_weights(self, file: Path) -> Any:
        model, weights = self._fitted(read_weights(file))
        model.load_state_dict(weights)
        return model

    def _fitted(self, weights: StateDict) -> tuple[Any, StateDict]:
        """Give the model as these weights want it, and them under its names.

        Raises:
            InputError: They are of another architecture.
        """
        packaged = self.weights.startswith("package:")
        model = self._create(pretrained=False)
        head = self._config.get("classifier")
        if isinstance(head, str) and not self._is_projection and not packaged:
            # fine-tuned with other classes, or saved without any: not another architecture
            bias = weights.get(f"{head}.bias")
            model.reset_classifier(0 if bias is None else len(bias))
        where = f"weights: {self.weights}"
        return model, dict(fitted_weights(model, weights, where, by_order=packaged))

    def _create(self, *, pretrained: bool) -> Any:
        import timm

        return timm.create_model(self.model, pretrained=pretrained)

    @property
    def _dtype(self) -> "torch.dtype":
        import torch

        types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        return types[self.resolved_precision]

    def _pooled(self, model: Any, images: "torch.Tensor") -> "torch.Tensor":
        if self._is_projection or not hasattr(model, "forward_head"):
            output: torch.Tensor = model(images)
        else:
            output = model.forward_head(model.forward_features(images), pre_logits=True)
        return output

    def _normalized(self, pixels: "torch.Tensor") -> "torch.Tensor":
        mean, std = self._mean_and_std
        # (N, H, W, 3) seen as (N, 3, H, W) is channels-last without moving a byte
        images = pixels.permute(0, 3, 1, 2).float().div(255)
        return images.sub(mean).div(std).to(self._dtype)

    @cached_property
    def _mean_and_std(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        values = torch.tensor([self.transform.mean, self.transform.std])
        mean, std = values.to(self.device)[:, :, None, None]
        return mean, std

    @cached_property
    def _forward(self) -> "Callable[[torch.Tensor], torch.Tensor]":
        import torch

        model = self._loaded

        def forward(pixels: torch.Tensor) -> torch.Tensor:
            return self._pooled(model, self._normalized(pixels))

        if not self.compiled:
            return forward
        if not has_compiler():
            log.warning("torch.compile needs a C++ compiler; running without it")
            return forward
        # weights folded into the kernels: what makes it fast on a CPU
        return torch.compile(forward, options={"freezing": self.device == "cpu"})


def has_compiler() -> bool:
    """Tell whether ``torch.compile`` finds the C++ compiler that it needs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def _in_precision(model: Any, dtype: "torch.dtype") -> Any:
    import torch

    model = model.to(dtype)
    for module in model.modules():
        # Running statistics scale whole channels: rounded to 8 bits they shift embeddings
        # more than all arithmetic does. Kernels take them in float32 beside half inputs.
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.float()
    return model


def _checked_dim(model: str, output: "torch.Tensor") -> int:
    if output.ndim != 2:
        raise InputError(
            f"{model} gives {output.ndim - 1} dimensions per image, not one vector; choose "
            "a model with pooled output, or write an embedder that pools"
        )
    return output.shape[1]


def _unknown_model(name: str) -> UnknownNameError:
    import timm

    if timm.is_model(architecture := name.split(".", 1)[0]):
        tags = timm.list_pretrained(f"{architecture}.*")
        return UnknownNameError.among("pretrained timm model", name, tags)
    near = get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
    return UnknownNameError(
        f"There is no timm model {name!r}; the nearest names are "
        f"{', '.join(near) or 'none'}. timm.list_models() lists all."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

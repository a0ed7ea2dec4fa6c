"""How a model wants its images: resized, cropped and normalised, as one value.

timm says it in an evaluation config and does it with PIL and torchvision. Here that
config becomes an :class:`ImageTransform`, and for an image of a given size a
:class:`Placement` with every rounding of torchvision's already made, so that loaders that
have nothing to do with PIL (DALI on a GPU, torch on a CPU) put the same pixels in the same
places. One pixel's difference in the crop moves embeddings more than all else that a
loader does: cosine .96 in the worst case of 1,000 photographs.

Belongs here: geometry and its words. Pixels are moved by ``image_loaders/``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import floor
from typing import Any, Literal

from curation.errors import InputError
from curation.fingerprint import Json

ResizeRule = Literal["shortest", "squash", "cover", "fit"]
Interpolation = Literal["bilinear", "bicubic"]

_UNSUPPORTED = ("crop_border_pixels", "naflex", "patchify")
"""Settings of timm's evaluation transform that no loader here can follow."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pixels of one image go: it is resized, then a window is cut out."""

    height: int
    """Of the whole image after resizing, in pixels."""
    width: int
    top: int
    """First row of the window in the resized image; negative where the window begins
    above it, and is filled there."""
    left: int


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """What happens to an RGB image before a model sees it.

    Example:
        >>> ImageTransform(height=224, width=224, resize=(256, 256)).place(500, 375)
        Placement(height=256, width=341, top=16, left=58)
    """

    height: int
    """Of the model's input, in pixels."""
    width: int
    resize: tuple[int, int]
    """Height and width that the rule aims at."""
    rule: ResizeRule = "shortest"
    """``shortest``: the shorter side becomes ``resize[0]``, the other follows, truncated.
    ``squash``: both sides become ``resize``, whatever the aspect ratio. ``cover`` and
    ``fit``: the aspect ratio is kept and the image just covers ``resize``, or just fits
    inside it, rounded half to even."""
    interpolation: Interpolation = "bicubic"
    """With antialiasing, as Pillow does it: the filter widens when it shrinks."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from each channel's values in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What each channel is divided by then."""
    fill: tuple[int, int, int] = (0, 0, 0)
    """Colour, 0 to 255, where the window reaches past the resized image."""

    def place(self, width: int, height: int) -> Placement:
        """Compute where an image of ``width`` times ``height`` pixels goes.

        Source: ``torchvision.transforms.functional`` (``_compute_resized_output_size``,
        ``center_crop``) and ``timm.data.transforms`` (``ResizeKeepRatio``,
        ``center_crop_or_pad``).
        """
        rows, columns = self._resized(width, height)
        return Placement(
            rows, columns, _start(rows, self.height), _start(columns, self.width)
        )

    def record(self) -> dict[str, Json]:
        """Give the transform as JSON, for fingerprints and tables."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.rule == "squash":
            return self.resize
        if self.rule == "shortest":
            size = self.resize[0]
            if height < width:
                return size, int(size * width / height)
            return int(size * height / width), size
        ratios = (height / self.resize[0], width / self.resize[1])
        ratio = min(ratios) if self.rule == "cover" else max(ratios)
        # torchvision refuses a side of 0 pixels; so extreme an image keeps one
        return max(1, round(height / ratio)), max(1, round(width / ratio))


def transform_from_timm(config: Mapping[str, Any]) -> ImageTransform:
    """Convert a timm evaluation config, as ``timm.data.resolve_data_config`` gives it.

    Raises:
        InputError: The config asks for what can't be converted; the message names it.

    Source: ``timm.data.transforms_factory.transforms_imagenet_eval``.
    """
    for name in _UNSUPPORTED:
        if config.get(name):
            raise _refused(name, config[name], "nothing")
    channels, height, width = config["input_size"]
    if channels != 3:
        raise _refused("input_size", config["input_size"], "three channels")
    if config["interpolation"] not in ("bilinear", "bicubic"):
        raise _refused("interpolation", config["interpolation"], "bilinear or bicubic")
    crop_fraction = config.get("crop_pct") or 0.875
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash", "border"):
        raise _refused("crop_mode", mode, "center, squash or border")
    resize = (floor(height / crop_fraction), floor(width / crop_fraction))
    mean, std = _three(config["mean"]), _three(config["std"])
    red, green, blue = (round(255 * value) for value in mean)
    return ImageTransform(
        height=height,
        width=width,
        resize=resize,
        rule=_rule(mode, resize),
        interpolation=config["interpolation"],
        mean=mean,
        std=std,
        fill=(red, green, blue) if mode == "border" else (0, 0, 0),
    )


def _rule(crop_mode: str, resize: tuple[int, int]) -> ResizeRule:
    if crop_mode == "squash":
        return "squash"
    if crop_mode == "border":
        return "fit"
    return "shortest" if resize[0] == resize[1] else "cover"


def _start(size: int, window: int) -> int:
    if window > size:
        return -((window - size) // 2)
    return int(round((size - window) / 2.0))  # noqa: RUF046 - as torchvision writes it


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _refused(name: str, found: object, expected: str) -> InputError:
    return InputError(
        f"The model's evaluation transform has {name}={found!r}, which can't be converted; "
        f"expected {expected}. Choose another model, or write an embedder with a "
        "transform of its own."
    )

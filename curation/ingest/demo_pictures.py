"""Distinct pictures out of the photographs that installed packages carry.

scikit-image and scikit-learn have a few photographs inside their wheels. A photograph is
cut into regions that overlap little, and a region is shown with its own colours, size and
mirroring, so that some hundred pictures come out of which no two look like copies.

Belongs here: photographs, regions, looks and the captions that describe them. What is
done to a picture to make it a bad sample belongs in ``demo.py``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import NotFoundError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_OVERLAP = 0.25
"""Largest intersection over union of two regions of one photograph."""

SMALLEST_REGION = 112  # pixels a side; a smaller one looks blurred at 200 pixels
MIN_DETAIL = 6.0  # mean absolute Laplacian (0 to 255) at 112 x 112 pixels; sky is below 2
SMALLEST_PICTURE, LARGEST_PICTURE = 208, 320  # pixels of the shorter side


@dataclass(frozen=True, slots=True)
class Photograph:
    """A file inside an installed package."""

    module: str
    """The module whose folder it lies in."""
    path: str
    """Relative to that folder."""
    subject: str
    """What it shows, as a caption would say it."""
    credit: str
    """Who made it and under which terms."""
    variety: float = 1.0
    """How much its regions differ from each other. Of gravel, fewer are used."""
    scale: float = 1.0
    """Made smaller by this factor first, where the full size has no more detail."""

    @property
    def name(self) -> str:
        """The file's name without its extension."""
        return Path(self.path).stem


def _skimage(
    file: str, subject: str, credit: str, variety: float = 1.0, scale: float = 1.0
) -> Photograph:
    return Photograph("skimage", f"data/{file}", subject, credit, variety, scale)


PHOTOGRAPHS = {
    photograph.name: photograph
    for photograph in (
        _skimage(
            "astronaut.png",
            "an astronaut in an orange space suit beside a model of a shuttle",
            "NASA, public domain",
        ),
        _skimage("brick.png", "a brick wall", "CC0Textures, CC0", variety=0.5),
        _skimage(
            "camera.png",
            "a man in a dark coat behind a camera on a tripod",
            "Lav Varshney, CC0",
        ),
        _skimage("chelsea.png", "a tabby cat", "Stefan van der Walt, CC0"),
        _skimage(
            "coffee.png",
            "a cup of espresso on a wooden table",
            "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0",
        ),
        _skimage(
            "coins.png",
            "Greek coins from Pompeii on a dark cloth",
            "Brooklyn Museum Collection, no known restrictions",
        ),
        _skimage("grass.png", "a lawn seen from above", "CC0Textures, CC0", variety=0.5),
        _skimage("gravel.png", "a path of gravel", "CC0Textures, CC0", variety=0.5),
        _skimage(
            "hubble_deep_field.jpg",
            "a sky full of distant galaxies",
            "NASA/ESA, public domain",
            variety=0.5,
        ),
        _skimage(
            "ihc.png",
            "stained tissue under a microscope",
            "Center for Microscopy and Molecular Imaging, no known restrictions",
        ),
        _skimage("moon.png", "craters on the moon", "scikit-image"),
        _skimage(
            "motorcycle_left.png",
            "a red motorcycle in a garage",
            "Middlebury Stereo Datasets 2014, Scharstein et al.",
        ),
        _skimage("page.png", "a printed page about segmentation", "scikit-image"),
        _skimage(
            "retina.jpg", "the back of an eye", "Häggström, CC0", scale=0.5
        ),
        _skimage("rocket.jpg", "a rocket on its launch pad at dusk", "SpaceX, CC0"),
        _skimage("text.png", "handwriting on lined paper", "public domain"),
        Photograph(
            "sklearn",
            "datasets/images/china.jpg",
            "a pavilion above a lake",
            "danielbuechele, CC BY 2.0",
        ),
        Photograph(
            "sklearn",
            "datasets/images/flower.jpg",
            "an orange dahlia in a garden",
            "vultilion, CC BY 2.0",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a photograph, in pixels of the photograph as it is opened here."""

    photograph: str
    left: int
    top: int
    right: int
    bottom: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom, as Pillow wants them."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True, slots=True)
class Picture:
    """What a sample shows, before it is encoded."""

    image: "Image"
    """RGB."""
    region: Region
    caption: str
    credit: str


def open_photographs() -> dict[str, "Image"]:
    """Open every photograph as RGB.

    Raises:
        NotFoundError: scikit-image or scikit-learn isn't installed, or its wheel no
            longer has the file.
    """
    return {name: _open(photograph) for name, photograph in PHOTOGRAPHS.items()}


def distinct_regions(photographs: Mapping[str, "Image"]) -> list[Region]:
    """Cut photographs into regions of which no two overlap by more than MAX_OVERLAP.

    Regions of a photograph lie on grids of squares whose sides are 112, 224, 448 …
    pixels: neighbours on a grid share a quarter of their union, and so do a region and
    the four times larger one around it. Regions without detail, such as sky, are left
    out.

    Returns:
        The most varied first: any beginning of the list has about as many regions of
        one photograph as of another, and half as many of a texture.
    """
    ranked = [
        (number / PHOTOGRAPHS[name].variety, name, region)
        for name, image in photographs.items()
        for number, region in enumerate(_shuffled(_regions_with_detail(name, image)))
    ]
    return [region for _, _, region in sorted(ranked, key=lambda entry: entry[:2])]


def make_picture(
    image: "Image",
    region: Region,
    rng: np.random.Generator,
    size: tuple[int, int] | None = None,
) -> Picture:
    """Show a region in a look of its own.

    Args:
        image: The photograph, RGB.
        region: Which part of it.
        rng: Draws colours, mirroring, size and wording.
        size: Width and height in pixels; by default drawn, with a shorter side of 208
            to 320.
    """
    from PIL import Image, ImageOps

    photograph = PHOTOGRAPHS[region.photograph]
    part = image.crop(region.box).resize(
        size or _size(region, rng), Image.Resampling.LANCZOS
    )
    mirrored = bool(rng.random() < 0.5)
    if mirrored:
        part = ImageOps.mirror(part)
    part, colours = _recoloured(part, rng)
    where = _place(region, image.width, image.height, mirrored)
    caption = _caption(photograph.subject, where, colours, rng)
    return Picture(part, region, caption, photograph.credit)


def _open(photograph: Photograph) -> "Image":
    from PIL import Image

    spec = find_spec(photograph.module)  # finds the package without importing it
    file = Path(spec.origin).parent / photograph.path if spec and spec.origin else None
    if file is None or not file.is_file():
        raise NotFoundError(
            f"{photograph.path} of the package {photograph.module}: there is no such "
            "file; the demo needs scikit-image >= 0.25 and scikit-learn >= 1.6"
        )
    with Image.open(file, formats=["JPEG", "PNG"]) as opened:
        image = opened.convert("RGB")
    width, height = (round(side * photograph.scale) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _regions_with_detail(name: str, image: "Image") -> list[Region]:
    grey = image.convert("L")
    regions = []
    side = SMALLEST_REGION
    while side <= min(image.size):
        for top in _grid(image.height, side):
            for left in _grid(image.width, side):
                region = Region(name, left, top, left + side, top + side)
                if _detail(grey, region) >= MIN_DETAIL:
                    regions.append(region)
        side *= 2
    return regions


def _grid(length: int, side: int) -> list[int]:
    """Spread as many squares over a length as overlap by MAX_OVERLAP at most."""
    step = math.ceil(side * (1 - 2 * MAX_OVERLAP / (1 + MAX_OVERLAP)))
    count = 1 + int((length - side) // step)
    first = (length - side) // 2 if count == 1 else 0
    last = length - side - first
    return [round(start) for start in np.linspace(first, last, count)]


def _detail(grey: "Image", region: Region) -> float:
    from PIL import Image

    side = SMALLEST_REGION
    small = grey.crop(region.box).resize((side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, dtype=np.float32)
    centre = pixels[1:-1, 1:-1]
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return float(np.abs(4 * centre - around).mean())


def _shuffled(regions: list[Region]) -> list[Region]:
    # A fixed seed: which regions exist and which are preferred is the same for all.
    order = np.random.default_rng(0).permutation(len(regions))
    return [regions[number] for number in order]


def _size(region: Region, rng: np.random.Generator) -> tuple[int, int]:
    largest = min(2 * (region.right - region.left), LARGEST_PICTURE)
    shorter = int(rng.integers(SMALLEST_PICTURE, largest + 1))
    longer = round(shorter * rng.uniform(1, 1.25))
    return (longer, shorter) if rng.random() < 0.5 else (shorter, longer)


def _recoloured(image: "Image", rng: np.random.Generator) -> tuple["Image", str]:
    """Change the colours, or leave them; say how in words."""
    from PIL import Image

    pixels = np.asarray(image)
    is_grey = np.array_equal(pixels, _luma(image))
    kind = rng.choice(_RECOLOURINGS_OF_GREY if is_grey else _RECOLOURINGS)
    words = ""
    if kind == "grey":
        pixels, words = _luma(image), "in black and white"
    elif kind == "negative":
        pixels, words = 255 - pixels, "as a negative"
    elif kind == "two tones":
        dark, light = rng.choice(sorted(_DARK)), rng.choice(sorted(_LIGHT))
        weight = _luma(image).astype(np.float64) / 255
        pixels = _DARK[dark] + weight * (np.array(_LIGHT[light]) - _DARK[dark])
        words = f"printed in {dark} and {light}"
    elif kind == "graded":
        pixels = 255 * (pixels / 255.0) ** rng.uniform(0.6, 1.6, 3)
        words = "with colours of an old film"
    elif kind == "swapped":
        pixels, words = pixels[..., [2, 0, 1]], "in false colours"
    return Image.fromarray(pixels.round().astype(np.uint8)), words


_RECOLOURINGS = ("as is", "grey", "negative", "two tones", "graded", "swapped")
_RECOLOURINGS_OF_GREY = ("as is", "negative", "graded", "two tones", "two tones")
_DARK = {"navy": (8, 16, 74), "plum": (62, 8, 58), "forest green": (6, 52, 22)} | {
    "sepia": (48, 26, 8), "crimson": (88, 4, 20), "teal": (0, 56, 66)
}  # fmt: skip
_LIGHT = {"gold": (255, 214, 92), "cream": (250, 243, 220), "pink": (255, 190, 214)} | {
    "sky blue": (170, 220, 255), "mint": (186, 248, 212), "orange": (255, 176, 96)
}  # fmt: skip


def _luma(image: "Image") -> np.ndarray:
    return np.asarray(image.convert("L"))[..., None].repeat(3, axis=2)


def _place(region: Region, width: int, height: int, mirrored: bool) -> str:
    """Say where in the photograph a region lies, as it is seen in the picture."""
    if (region.right - region.left) * 1.5 > min(width, height):
        return ""
    across = (region.left + region.right) / 2 / width
    down = (region.top + region.bottom) / 2 / height
    across = 1 - across if mirrored else across
    row = "top" if down < 1 / 3 else "bottom" if down > 2 / 3 else ""
    column = "left" if across < 1 / 3 else "right" if across > 2 / 3 else ""
    if row and column:
        return f"{row} {column}"
    return row or (f"{column} side" if column else "middle")


def _caption(subject: str, where: str, colours: str, rng: np.random.Generator) -> str:
    if where:
        start = rng.choice(
            [
                f"A close-up of the {where} of a photograph of {subject}",
                f"Detail from the {where} of a picture: {subject}",
                f"{subject}, cropped to the {where}",
            ]
        )
    else:
        start = rng.choice(
            [f"A photograph of {subject}", f"{subject}", f"View of {subject}"]
        )
    text = f"{start}, {colours}" if colours else str(start)
    return text[0].upper() + text[1:]

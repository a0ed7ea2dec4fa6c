"""The tars that a training job names: one URL, a brace expression, a list, or a folder."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from curation.errors import InputError
from curation.storage import S3Settings, Storage, open_storage

MAX_EXPANDED = 10_000_000  # names that one expression may stand for; more is a slip

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One tar, somewhere."""

    storage: Storage
    path: str

    @property
    def url(self) -> str:
        """Where it is, for a person."""
        return f"{self.storage.url}/{self.path}"

    @property
    def number(self) -> int | None:
        """The digits at the end of its name, or None where it ends with none."""
        digits = re.search(r"\d+$", PurePosixPath(self.path).stem)
        return int(digits[0]) if digits else None


def open_shards(
    urls: str | Iterable[str], s3: S3Settings | None = None
) -> tuple[ShardFile, ...]:
    """Find the tars that URLs stand for, in the order given. Nothing is read of them.

    Args:
        urls: One or several of: the URL of a ``.tar``, with ``{0000..0231}`` or ``{a,b}``
            in it for several, joined by ``::`` for more; or of a folder, which stands for
            all tars in it and below, by name. Local, ``http(s)://`` or ``s3://``.
        s3: How to reach an S3 server.

    Raises:
        InputError: An expression can't be understood, or a folder has no tar.
        UnknownNameError: A URL has another scheme.
    """
    given = [urls] if isinstance(urls, str) else [str(url) for url in urls]
    storages: dict[str, Storage] = {}
    shards: list[ShardFile] = []
    parts = [part for text in given for part in text.split("::")]
    for url in (url for part in parts for url in expand(part)):
        folder, name = _split(url)
        if folder not in storages:
            storages[folder] = open_storage(folder, s3)
        shards += [ShardFile(storages[folder], name)] if name else _all(storages[folder])
    if not shards:
        raise InputError("no tar was named: give the URL of at least one")
    return tuple(shards)


def expand(text: str) -> list[str]:
    """Write out a brace expression, as shells and webdataset do.

    Example:
        >>> expand("s3://b/{train,val}-{08..10}.tar")[:2]
        ['s3://b/train-08.tar', 's3://b/train-09.tar']

    Raises:
        InputError: A brace is left open, or the expression stands for too many names.
    """
    start = text.find("{")
    if start < 0:
        if "}" in text:
            raise InputError(f"{text!r}: a '}}' without a '{{' before it")
        return [text]
    stop = _closing(text, start)
    choices = _choices(text[start + 1 : stop])
    rests = expand(text[stop + 1 :])
    if len(choices) * len(rests) > MAX_EXPANDED:
        raise InputError(f"{text!r} stands for more than {MAX_EXPANDED:,} names")
    return [f"{text[:start]}{choice}{rest}" for choice in choices for rest in rests]


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return place
    raise InputError(f"{text!r}: the '{{' at character {start} is never closed")


def _choices(inside: str) -> list[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= MAX_EXPANDED:
            raise InputError(f"{{{inside}}} stands for more than {MAX_EXPANDED:,} names")
        padded = any(re.match(r"-?0\d", number) for number in numbers.groups())
        width = max(map(len, numbers.groups())) if padded else 0
        step = 1 if last >= first else -1
        return [str(n).zfill(width) for n in range(first, last + step, step)]
    pieces, depth = [""], 0
    for letter in inside:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += letter
    if len(pieces) == 1:
        raise InputError(f"{{{inside}}}: expected a range {{000..231}} or a list {{a,b}}")
    return [name for piece in pieces for name in expand(piece)]


def _split(url: str) -> tuple[str, str]:
    """Give folder and name of a tar; the name of a folder is empty."""
    if not url.endswith(".tar"):
        return url, ""
    folder, slash, name = url.rpartition("/")
    return (folder or "/" if slash else "."), name


def _all(storage: Storage) -> list[ShardFile]:
    files = storage.list_files(suffix=".tar")
    if not files:
        raise InputError(
            f"{storage.url}: there is no .tar in this folder; is the URL right? One tar is "
            "named by a URL that ends with .tar"
        )
    return [ShardFile(storage, file.path) for file in files]

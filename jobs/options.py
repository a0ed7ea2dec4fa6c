"""Options that several sub-commands have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import InputError, UnknownNameError
from jobs.hints import remember_recipe

RecipeOption = Annotated[
    Path,
    typer.Option(
        "--recipe",
        "-r",
        help="The settings file.",
        show_default=True,
        callback=remember_recipe,
    ),
]
ShardsOption = Annotated[
    str | None,
    typer.Option(
        help="Only these shards: keys separated by commas, `A..C` for all from A to C."
    ),
]
SamplesPerShardOption = Annotated[
    int, typer.Option(help="Samples of every shard but the last.", min=1)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def choose_shards(spec: str | None, known: Sequence[str]) -> list[str]:
    """Read ``A,C..F`` as shards of a sorted list; None is all of them.

    Raises:
        UnknownNameError: A key is not among those known.
        InputError: A range ends before it begins, or nothing is chosen.
    """
    if spec is None:
        return list(known)
    chosen: set[str] = set()
    for part in filter(None, (part.strip() for part in spec.split(","))):
        first, dots, last = part.partition("..")
        start, stop = _place(first, known), _place(last if dots else first, known)
        if stop < start:
            raise InputError(f"--shards {part}: {last} comes before {first}; swap them")
        chosen.update(known[start : stop + 1])
    if not chosen:
        raise InputError("--shards names no shard; leave it out for all of them")
    return [shard for shard in known if shard in chosen]


def _place(shard: str, known: Sequence[str]) -> int:
    if shard not in known:
        raise UnknownNameError.among("shard", shard, known)
    return list(known).index(shard)

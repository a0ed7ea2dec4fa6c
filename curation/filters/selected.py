"""Samples that a list names: another selection's, a takedown's, a benchmark's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curation.errors import InputError
from curation.filters.base import Function, ReadyMade
from curation.fingerprint import file_sha256
from curation.key_list import read_list

if TYPE_CHECKING:
    import polars as pl


def _listed(text: "pl.Expr", file: str, column: str) -> "pl.Expr":
    return text.is_in(read_list(file, column).implode())


def _check(file: str, column: str) -> None:
    read_list(file, column)


def _content(file: str, _column: str) -> str:
    return file_sha256(file)


@dataclass(frozen=True)
class Selected(ReadyMade):
    """``selected("/lists/keys.parquet")``: the image is one that ``curate keys`` listed.

    It is known by its bytes, so that a list holds in other shards of the same images too.
    Brings the function ``listed(text, file, column)`` for lists of anything else:
    ``listed(metadata.uid, "/lists/uids.npy", "uid")`` keeps what a DataComp subset has,
    ``not listed(key, "/lists/gone.csv", "key")`` drops what was taken down.

    Source: mlfoundations/datacomp, resharder.py (subsets published as lists of uids).
    """

    name: ClassVar[str] = "selected"
    functions: ClassVar[dict[str, Function]] = {
        "listed": Function(
            "listed(text, file, column): the file's column has it; .parquet, .csv, .npy",
            ("text", "text", "text"),
            "flag",
            _listed,
            constant=frozenset({1, 2}),
            check=_check,
            content=_content,
        )
    }

    file: str

    def __post_init__(self) -> None:
        if not isinstance(self.file, str):
            raise InputError(f"selected takes the path of a list; found {self.file!r}")

    @property
    def rule(self) -> str:
        return f"listed(sha256, {self.file!r}, 'sha256')"

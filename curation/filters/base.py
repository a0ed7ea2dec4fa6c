"""What the words of a filter expression are: kinds of values, functions, ready-made rules.

A new ready-made filter is one file with one :class:`ReadyMade`, one line in
``filters/__init__.py``, and one subclass of the contract suite. It is used by its name
inside the recipe's one expression: ``laion_aesthetics(5) and not is_duplicate``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["number", "text", "flag", "json"]
"""What a column holds. A flag is true or false; of ``json``, fields are named."""

Schema = Mapping[str, Kind]
"""The columns that an expression may name."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that expressions may call."""

    usage: str
    """How it is written and what it gives, for the list of functions."""
    takes: tuple[Kind, ...]
    """Kinds of its arguments; the last one may repeat if ``variadic``."""
    gives: Kind
    build: "Callable[..., pl.Expr]"
    """Makes the result from expressions, and from plain values where ``constant``."""
    variadic: bool = False
    constant: frozenset[int] = frozenset()
    """Positions of arguments that are written out, not computed."""
    check: Callable[..., None] = lambda *_constants: None
    """Raises InputError for constants that can't work, before anything runs."""
    version: Callable[[], str] = lambda: "1"
    """Differs when the function starts to give other results."""
    content: Callable[..., str] | None = None
    """Hashes what its constants name, such as a file, where they name something."""


class ReadyMade(ABC):
    """A rule with a name, written in the language of the recipe's filter.

    Members are frozen dataclasses whose fields are the arguments, in order.
    """

    name: ClassVar[str]
    functions: ClassVar[Mapping[str, Function]] = {}
    """Functions that come with it, for any expression to call."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """The expression that it stands for. Its top-level ``and`` splits into reasons."""

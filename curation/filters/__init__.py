"""Family: ready-made filters, and the language in which a recipe's filter is written.

A recipe has one filter, an expression (``filters/expression.py``). Members of this family
are rules that it may call by name, one file each; a member may bring functions along.
"""

from curation.filters.base import Function, Kind, ReadyMade, Schema
from curation.filters.caption_language import CaptionLanguage
from curation.filters.datacomp_basic import DataCompBasic
from curation.filters.expression import Conjunct, Filter
from curation.filters.laion_aesthetics import LaionAesthetics
from curation.filters.reading import Cut
from curation.filters.selected import Selected

__all__ = [
    "FILTERS",
    "Conjunct",
    "Cut",
    "Filter",
    "Function",
    "Kind",
    "ReadyMade",
    "Schema",
    "make_filter",
]

FILTERS: dict[str, type[ReadyMade]] = {
    member.name: member
    for member in (DataCompBasic, LaionAesthetics, CaptionLanguage, Selected)
}
"""Every ready-made filter, by the name under which expressions call it."""


def make_filter(expression: str) -> Filter:
    """Parse the expression of a recipe.

    Example:
        >>> make_filter("datacomp_basic() and not is_duplicate").conjuncts[-1].text
        'not is_duplicate'

    Raises:
        InputError: It is no expression.
        UnknownNameError: It calls a function or a ready-made filter that doesn't exist.
    """
    return Filter(expression, FILTERS)

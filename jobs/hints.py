"""Commands that a message advises, with the ``--recipe`` that this command was given."""

import re
import shlex
from contextvars import ContextVar
from pathlib import Path

DEFAULT_RECIPE = Path("recipe.yaml")
TAKE_A_RECIPE = (
    *("run", "status", "costs", "explain", "preview", "report", "keys", "calibrate"),
    *("release", "takedown", "prune", "doctor", "train-probe", "ui", "demo"),
)
"""Sub-commands that have the option."""

_recipe: ContextVar[Path | None] = ContextVar("recipe", default=None)
_ADVICE = re.compile(
    rf"\bcurate ({'|'.join(TAKE_A_RECIPE)}|export (?:npy|clip-retrieval|nemo))\b"
    r"(?![-\w])(?![^`\n]*--recipe)"
)


def remember_recipe(recipe: Path | None) -> Path | None:
    """Note which recipe this command was given; the default one needs no telling."""
    _recipe.set(None if recipe == DEFAULT_RECIPE else recipe)
    return recipe


def with_recipe(text: str) -> str:
    """Write ``--recipe`` into the commands that a text advises, if one was given."""
    recipe = _recipe.get()
    if recipe is None:
        return text
    option = f" --recipe {shlex.quote(str(recipe))}"
    return _ADVICE.sub(lambda found: found[0] + option, text)

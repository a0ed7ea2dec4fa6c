"""What the README says is so: its tables are made from the code, its commands exist.

``python -m tests.test_readme`` writes the tables anew.
"""

import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
import typer.main

from curation.classifiers import CLASSIFIERS
from curation.filters import FILTERS
from curation.filters.functions import FUNCTIONS
from curation.recipe import Recipe, load_recipe
from curation.selection import COLUMNS
from jobs.app import app
from jobs.commands import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def settings_rows(model: type[pydantic.BaseModel], prefix: str = "") -> Iterator[str]:
    """Give a row for every setting of the recipe."""
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, pydantic.BaseModel):
            yield from settings_rows(nested, f"{prefix}{name}.")
            continue
        named = typing.get_args(nested)[-1:]
        if (
            named
            and isinstance(named[0], type)
            and issubclass(named[0], pydantic.BaseModel)
        ):
            yield from settings_rows(named[0], f"{prefix}{name}.<name>.")
            continue
        described = " ".join((field.description or "").replace("``", "`").split())
        if field.is_required():
            default = "required"
        else:
            value = field.get_default(call_default_factory=True)
            default = f"`{_shown(value)}`"
        yield f"| `{prefix}{name}` | {default} | {described} |"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return "{…}" if hasattr(value, "__dataclass_fields__") else str(value)


def tables() -> dict[str, str]:
    """Give the tables of the README that are made from the code, by name."""
    columns = [f"| `{n}` | {c.kind} | {c.meaning} |" for n, c in COLUMNS.items()]
    classifiers = [
        f"| `{name}` | {_range(kind)} | {_first_sentence(kind)} |"
        for name, kind in CLASSIFIERS.items()
    ]
    heads = {
        "settings": ("setting", "default", "meaning"),
        "columns": ("column", "kind", "meaning"),
        "classifiers": ("type", "scores", "meaning"),
    }
    rows = {
        "settings": list(settings_rows(Recipe)),
        "columns": columns,
        "classifiers": classifiers,
    }
    return {
        name: "\n".join(
            [f"| {' | '.join(heads[name])} |", "| --- | --- | --- |", *rows[name]]
        )
        for name in heads
    }


def _range(kind: typing.Any) -> str:
    low, high = kind.score_range
    return f"{low:g} to {high:g}, {'high' if kind.higher_is_better else 'low'} is good"


def _first_sentence(kind: type) -> str:
    text = " ".join((kind.__doc__ or "").replace("``", "`").split())
    return text.split(". ")[0].rstrip(".")


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", tables())
def test_a_table_is_the_codes(name: str) -> None:
    found = _pattern(name).search(README.read_text(encoding="utf-8"))
    assert found, f"the README has no table {name}"
    assert found[2] == tables()[name], "write it anew: python -m tests.test_readme"


def test_every_function_and_ready_made_filter_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    for name in (*FUNCTIONS, *FILTERS):
        assert f"`{name}" in text, name


def test_every_command_and_option_that_is_shown_exists() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"curate ([a-z-]+)([^\n`]*)", README.read_text(encoding="utf-8"))
    assert {name for name, _ in shown} >= {*COMMANDS, *GROUPS}
    for name, rest in shown:
        assert name in commands, name
        command, words = (
            commands[name],
            shlex.split(rest.partition("#")[0].replace("'", "")),
        )
        if name in GROUPS:
            assert words and words[0] in GROUPS[name], f"curate {name} {rest}"
            command = command.commands[words[0]]
        known = {option for p in command.params for option in p.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"curate {name} {word}"


def test_every_make_target_that_is_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z]+)`", README.read_text(encoding="utf-8"))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_and_pictures_are_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_recipes_in_the_readme_are_recipes(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load_recipe(file)


def test_python_in_the_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert blocks
    for block in blocks:
        code = f"import os\nos.chdir({str(tmp_path)!r})\n{block}"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name, table in tables().items():
        text = _pattern(name).sub(lambda m, table=table: m[1] + table + m[3], text)
    README.write_text(text, encoding="utf-8")

"""Every promise is written down in docs/promises.md, and the tests that keep it exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

TEST_ID = re.compile(r"`(\S+\.py)::(\w+)`")


def sections() -> dict[str, str]:
    """Give the text of each promise by its heading."""
    parts = re.split(r"^### (.+)$", PROMISES.partition("\n## How")[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def named_tests(path: str) -> frozenset[str]:
    """Name the test functions of a file, those of its classes too."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    )


def plain(text: str) -> str:
    """Give text without line breaks, quotation marks and links' targets."""
    return " ".join(re.sub(r"\]\(\S+?\)", "]", re.sub(r"^>", "", text, flags=re.M)).split())


@pytest.mark.parametrize(("path", "name"), sorted(set(TEST_ID.findall(PROMISES))))
def test_the_tests_that_are_named_exist(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in named_tests(path)


@pytest.mark.parametrize("heading", sections())
def test_every_promise_has_words_limits_and_tests(heading: str) -> None:
    text = sections()[heading]
    assert re.search(r"^> \S", text, flags=re.MULTILINE)
    assert "*Limits.* " in text
    assert TEST_ID.search(text)


def test_what_the_readme_promises_is_there_word_for_word() -> None:
    listed = README.partition("**What is promised**")[2].partition("\n## ")[0]
    promised = re.findall(r"^- (.+?)(?=^- |\Z)", listed, flags=re.MULTILINE | re.DOTALL)
    assert len(promised) >= 8
    lacking = [text for text in map(plain, promised) if text not in plain(PROMISES)]
    assert not lacking

"""Texts of strangers as parts of Markdown: shown as they are, and never obeyed.

A name or a reason may have in it what Markdown takes for a link, a picture, a heading or
HTML. Source: CommonMark 0.31.2 and GitHub's tables and links on top of it.
"""

import re

from curation.texts import printable

_MEANT = re.compile(
    r"[\\`*\[\]<&|~$]"  # emphasis, code, links, HTML, cells, strikes, formulas
    r"|(?<![^\W_])_|_(?![^\W_])"  # at an end of a word, for within it means nothing
    r"|:(?=//)|@|(?<=www)\."  # what becomes a link or calls somebody by itself
    r"|^[#>=+-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]|(?<=^\d\d\d)[.)]"  # begin of a block
)


def markdown_text(text: str) -> str:
    """Write a text as one line of Markdown, in a table's cell or wherever else."""
    return _MEANT.sub(lambda found: f"\\{found[0]}", _one_line(text))


def markdown_code(text: str, *, in_table: bool = False) -> str:
    """Write a text as code within a line of Markdown.

    Args:
        text: It; line breaks become blanks.
        in_table: Whether that is a cell, where bars would end it.
    """
    text = _one_line(text) or " "
    marks = "`" * (_longest_run(text) + 1)
    edge = " " if "`" in (text[0], text[-1]) else ""
    code = f"{marks}{edge}{text}{edge}{marks}"
    return code.replace("|", "\\|") if in_table else code


def markdown_block(text: str, language: str = "") -> str:
    """Write a text as a block of code, with lines of its own before and after."""
    text = printable(text)
    marks = "`" * max(3, _longest_run(text) + 1)
    return f"{marks}{language}\n{text}\n{marks}"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)

"""A renderer of Markdown shows strangers' texts, and makes nothing else of them."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from curation.markdown import markdown_block, markdown_code, markdown_text
from curation.texts import printable

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![](https://evil.example/track.png)",
    "<https://evil.example> https://evil.example www.evil.example a@evil.example",
    "a | b || c",
    "`code` ``more`` `",
    "```\n# heading\n```",
    "# heading",
    "- item",
    "> quote",
    "1. item",
    "123) item",
    "a\n\n# b\n---\n",
    "***bold*** __bold__ _it_ ~~gone~~ a_b_c *",
    "&lt;b&gt; &copy; \\",
    "$x$ $$y$$",
    "[ref]: https://evil.example",
    "=cmd|'/C calc'!A0",
    "---",
    "\x1b[2J\u202e",
    "ends with \\",
    "",
    "  ",
]

TEXTS = st.text(st.sampled_from("ab1 `*_[]()<>!|\\&#-+.:/~=\n\"'$@;{}"), max_size=30)


class _Parts(HTMLParser):
    """What a browser finds in HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, _: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(text: str) -> _Parts:
    """Render Markdown as model hubs do, with tables, and HTML let through."""
    return _Parts(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def shown(text: str) -> str:
    return printable(" ".join(text.split()))


def check_text(text: str) -> None:
    begin = ["p"] if shown(text) else []
    for before, tags in (("", begin), ("- ", ["ul", "li"]), ("told: ", ["p"])):
        found = rendered(f"{before}{markdown_text(text)}")
        assert found.tags == tags
        assert shown(found.text) == shown(f"{before.removeprefix('- ')}{text}")
    cells = rendered(f"| a | b |\n| --- | --- |\n| {markdown_text(text)} | 1 |")
    assert cells.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert shown(cells.text) == shown(f"a b {text} 1")


def check_code(text: str) -> None:
    found = rendered(f"- {markdown_code(text)}")
    assert found.tags == ["ul", "li", "code"]
    assert shown(found.text) == shown(text)
    cells = rendered(f"| a |\n| --- |\n| {markdown_code(text, in_table=True)} |")
    assert cells.tags == ["table", "thead", "tr", "th", "tbody", "tr", "td", "code"]
    assert shown(cells.text) == shown(f"a {text}")


def check_block(text: str) -> None:
    found = rendered(markdown_block(text))
    assert found.tags == ["pre", "code"]
    assert found.text == f"{printable(text)}\n\n"  # the second is after the block


@pytest.mark.parametrize("text", HOSTILE)
def test_what_steers_markdown_is_shown(text: str) -> None:
    check_text(text)
    check_code(text)
    check_block(text)


@given(TEXTS)
def test_any_text_is_shown(text: str) -> None:
    check_text(text)
    check_code(text)
    check_block(text)


def test_plain_text_is_as_it_was() -> None:
    for text in ("caption_words >= 1", "width > 2 and x != 0.5", "dropped: copies"):
        assert markdown_text(text) == text
    assert markdown_code("a/b.tar") == "`a/b.tar`"
    assert markdown_block("true") == "```\ntrue\n```"


def test_no_link_is_made_of_a_bare_address() -> None:
    text = markdown_text("see https://x.org, www.x.org or me@x.org")
    assert text == "see https\\://x.org, www\\.x.org or me\\@x.org"

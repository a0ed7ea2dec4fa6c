"""The page holds what it was given, as text, whatever that text is."""

import io
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.funnel import Funnel
from curation.preview import Threshold
from curation.report import (
    Gallery,
    Histogram,
    Picture,
    PicturedGroup,
    Report,
    format_report,
)

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "</div></style></svg></title><img src=x onerror=\"document.title = 'taken'\">",
    "\" onmouseover=\"document.title = 'taken'",
    "'&lt;b&gt;&amp;",
    "\u202egnp.exe\u2066",
    "</figure><iframe src='https://example.org'></iframe>",
]
ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body", "h1", "h2", "h3", "p"),
    *("pre", "table", "tr", "td", "svg", "rect", "line", "text", "div", "figure", "img"),
    "bdi",
}


class Page(HTMLParser):
    """Python's own reading of the page: its elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), (0, 90, 180)).save(out, "PNG")
    return out.getvalue()


def page_of(text: str) -> str:
    """Give a page with a text in every place that takes one."""
    picture = Picture(text, text, png(), text, text)
    cut = Threshold(0, text, ">=", 0.5)
    return format_report(
        Report(
            title=text,
            filter=text,
            funnel=Funnel(10, 6, {text: 4}),
            histograms=[Histogram(text, np.array([1, 3]), np.array([0, 0.5, 1]), [cut])],
            galleries=[Gallery(text, [picture])],
            groups=[PicturedGroup(picture, [picture], 3)],
            num_groups=2,
            remarks=[text],
        )
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_every_place(text: str) -> None:
    page = Page(page_of(text))
    assert set(page.elements) <= ELEMENTS
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert (
        page.texts.count(text) == 6 + 3 * 3
    )  # headings and the like, and three texts below each picture
    assert ("title", f"{text} {text}") in page.attributes


@given(st.text(st.characters(exclude_characters="\r\0", codec="utf-8"), max_size=40))
def test_no_text_adds_an_element(text: str) -> None:
    assert sorted(Page(page_of(text or "x")).elements) == sorted(
        Page(page_of("x")).elements
    )


def test_nothing_is_fetched_from_anywhere() -> None:
    page = Page(page_of("x"))
    sources = [value or "" for name, value in page.attributes if name in {"src", "href"}]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "default-src 'none'" in page_of("x")


def test_numbers_of_the_funnel_and_the_plots_are_told() -> None:
    texts = Page(page_of("x")).texts
    assert {"10", "6", "4", "kept >= 0.5"} <= set(texts)
    assert "4 samples have a value; the highest bar is 3." in texts


def test_of_copies_what_stays_comes_first_and_what_is_left_out_is_counted() -> None:
    kept, copy = (Picture("s", key, png(), note) for key, note in (("k", "ok"), ("c", "")))
    page = format_report(
        Report(
            "t",
            "true",
            Funnel(1, 1, {}),
            groups=[PicturedGroup(kept, [copy], 3), PicturedGroup(copy, [kept], 1)],
            num_groups=7,
        )
    )
    texts = Page(page).texts
    assert "Copies: the 2 largest of 7 groups, framed what stays" in texts
    assert texts.index("1 stays, 3 go, 2 not shown") < texts.index("1 stays, 1 goes")
    classes = [v for name, v in Page(page).attributes if name == "class"]
    figures = [name for name in classes if name in ("stays", "picture")]
    assert figures == ["stays", "picture"] * 2
    assert texts.index("k") < texts.index("c")


def test_an_empty_selection_is_a_page_too() -> None:
    empty = Histogram("score", np.zeros(4, int), np.linspace(0, 1, 5), num_missing=3)
    page = format_report(Report("none", "true", Funnel(0, 0, {}), [empty]))
    assert "No sample has a value." in Page(page).texts


def test_a_long_caption_is_cut() -> None:
    picture = Picture("s", "k", b"", caption="word " * 1000)
    page = format_report(
        Report("t", "true", Funnel(1, 1, {}), galleries=[Gallery("g", [picture])])
    )
    assert max(map(len, Page(page).texts[-5:])) <= 120

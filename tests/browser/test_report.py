"""Reports in a real browser: they open, and hostile text does nothing there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from curation.report import format_report
from jobs.report import make_report
from tests.browser.chromium import needs_chromium, open_browser
from tests.conftest import Curated
from tests.curation.test_report import HOSTILE, page_of

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


def complaints(browser: Browser, file: Path, *, title: str) -> list[str]:
    """Open a page, check that it is whole, and give what the browser says of it."""
    page = browser.new_page()
    found: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    assert page.title() == title
    broken = "images => images.filter(i => !i.complete || !i.naturalWidth).length"
    assert page.eval_on_selector_all("img", broken) == 0
    page.close()
    assert {url.partition(":")[0] for url in fetched} <= {"file", "data"}
    return found


def test_the_report_of_a_selection_opens_without_a_complaint(
    browser: Browser, curated: Curated
) -> None:
    file = curated.folder / "report.html"
    file.write_text(format_report(make_report(curated.recipe)), encoding="utf-8")
    assert complaints(browser, file, title="Selection small") == []


def test_groups_of_copies_are_rows_with_what_stays_framed(
    browser: Browser, curated: Curated
) -> None:
    report = make_report(curated.recipe)
    file = curated.folder / "report.html"
    file.write_text(format_report(report), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1120, "height": 800})
    page.goto(file.as_uri())
    groups = page.query_selector_all(".group")
    assert len(groups) == len(report.groups) > 10
    for group, expected in zip(groups, report.groups, strict=True):
        figures = group.query_selector_all("figure")
        assert len(figures) == 1 + expected.num_copies
        tops = {round((figure.bounding_box() or {})["y"]) for figure in figures}
        assert len(tops) == 1
        framed = [figure.get_attribute("class") == "stays" for figure in figures]
        assert framed == [True] + [False] * expected.num_copies
        assert "identical" in figures[1].inner_text()
        outline = "image => getComputedStyle(image).outlineStyle"
        assert figures[0].eval_on_selector("img", outline) == "solid"
    page.close()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_does_nothing(browser: Browser, tmp_path: Path, text: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(page_of(text), encoding="utf-8")
    assert complaints(browser, file, title=text) == []

"""The paper screen in a real browser: both themes, by keyboard, nothing cut off, nothing in the console."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.pages import settled, wait_query  # noqa: E402
from tests.reproductions import everything  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(serve) -> str:
    return serve("app.py", DYNAT_STORE=str(everything()))


@pytest.fixture(params=["light", "dark"])
def page(new_page, request) -> Page:
    """A page of the theme."""
    return new_page(color_scheme=request.param)


def test_tables_and_figures_are_reached_by_keyboard_and_fit_the_window(page, address):
    page.goto(f"{address}/paper?data=digits")
    page.wait_for_selector("text=Read with care")
    settled(page)
    table = page.locator(".dynat-wide").first
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "the table is wider than the window"
    button = page.get_by_role("radio", name="Figure 4")
    button.focus()
    page.keyboard.press("Space")
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    expect(page.get_by_text("4c. Dynamic: FOSC of its training examples")).to_be_visible()
    name = re.compile(r"^4c\. Dynamic: .* Chart, across: FOSC, .*epoch 1: ")
    expect(page.get_by_role("figure", name=name)).to_have_count(1)  # as a screen reader finds it
    wait_query(page, show="4", data="digits")
    settled(page)
    for legend in page.locator(".js-plotly-plot .legend").all():
        assert "epoch 1" in (legend.text_content() or "")
    page.wait_for_timeout(1500)  # Back within a second of a change may be taken for a slow browser's old query string
    page.go_back()
    expect(page.get_by_text("Read with care")).to_be_visible()

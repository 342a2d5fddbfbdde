"""The ten-minute lesson as a class sees it: Overview, Learn, Trajectory, Epochs and the cards, in a real browser."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.pages import wait_cursor, wait_query  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.fixture
def lesson(new_page, shipped) -> Page:
    """The Overview in teacher mode."""
    page = new_page(reduced_motion="reduce")
    page.goto(f"{shipped}/?teach=1")
    return page


def cursor(page: Page, key: str, i: int) -> str:
    """Put the cursor at `i` with the keyboard; returns the sentence there."""
    page.locator(".dy-bar .dy-range").focus()
    page.keyboard.press(key)
    wait_cursor(page, i)
    return page.locator(".dy-sentence").inner_text()


def test_the_lesson_of_ten_minutes_is_walked_through(lesson):
    page = lesson
    page.wait_for_selector(".dy[data-ready]")
    cards = page.locator('[data-testid="stMain"]')
    expect(cards).to_contain_text("PGD-20")  # equally safe? the cards say clean and attacked accuracy, with n
    for title in ("Digits, Dynamic", "Digits, Standard", "Digits, Unsecured"):
        expect(cards).to_contain_text(title)

    page.get_by_role("link", name="Learn", exact=True).click()
    page.wait_for_selector(".pg[data-ready].pg-teach")
    assert "teach=1" in page.url
    for _ in range(7):
        page.keyboard.press("]")
    expect(page.locator(".pg-head small")).to_contain_text("8 of 9")
    page.get_by_role("link", name="A digit, step by step").click()

    page.wait_for_url(re.compile(r"/trajectory\?.*run=demo-digits-unsecured"))
    page.wait_for_selector(".dy[data-ready]")
    assert "teach=1" in page.url
    before = cursor(page, "Home", 0)
    after = cursor(page, "End", int(page.locator(".dy-bar .dy-range").get_attribute("max") or 0))
    assert before != after  # the digit becomes another one on the way
    page.get_by_role("link", name="Learn", exact=True).click()
    page.wait_for_selector(".pg[data-ready]")
    expect(page.locator(".pg-head small")).to_contain_text("8 of 9")
    page.keyboard.press("]")
    expect(page.locator(".pg-head small")).to_contain_text("9 of 9")
    page.locator("a.pg-go").click()

    page.wait_for_url(re.compile("/epochs"))
    page.wait_for_selector(".dy[data-ready]")
    assert "teach=1" in page.url
    first = cursor(page, "Home", 0)
    fifth = [cursor(page, "ArrowRight", i) for i in range(1, 6)][-1]
    assert "Dynamic" in first and re.search(r"threshold was [.\d]+", fifth) and "stopped after one step" in fifth
    last = cursor(page, "End", 30)
    assert "threshold has come down to 0" in last and "all 10 gradients on every image" in last
    page.get_by_role("link", name="Overview", exact=True).click()
    wait_query(page, "", teach="1")
    expect(page.locator('[data-testid="stMain"]')).to_contain_text("gradients")

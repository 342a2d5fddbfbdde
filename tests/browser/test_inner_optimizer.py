"""The inner optimiser's screen in a real browser: both themes, the keyboard, the choice of model, the way to a run."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.pages import press, settled, turn_light, wait_cursor, wait_query  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.fixture
def page(new_page, shipped) -> Page:
    """The screen at step 2, in the dark."""
    page = new_page(color_scheme="dark")
    page.goto(f"{shipped}/inner_optimizer?k=2")
    stands(page)
    return page


def stands(page: Page) -> None:
    page.wait_for_selector(".dy[data-ready]")
    settled(page)


def test_in_both_themes_the_pictures_are_drawn_and_the_keyboard_moves_them(page):
    for at, turn in ((2, None), (4, turn_light)):
        if turn is not None:
            turn(page)
        expect(page.locator('[data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 1280
        figures = page.locator(".dy-box:visible")
        expect(figures).to_have_count(3)
        for k in range(3):
            expect(figures.nth(k).locator(".trace path")).not_to_have_count(0)
            assert figures.nth(k).locator(".dy-marks circle, .dy-marks path[d^=M]").count() >= 3
        marks = page.locator(".dy-marks path[d^=M], .dy-marks circle")
        before = marks.evaluate_all("all => all.map(e => e.outerHTML)")
        page.locator(".dy-bar .dy-range").focus()
        press(page, "ArrowRight", "ArrowRight")
        wait_cursor(page, at + 2)
        assert marks.evaluate_all("all => all.map(e => e.outerHTML)") != before
        wait_query(page, k=str(at + 2))
    expect(page.locator(".js-plotly-plot:visible")).to_have_count(5)  # with those over the seeds, which stand still
    page.keyboard.press("End")
    expect(page.locator(".dy-sentence")).to_contain_text("After 30 gradients")


def test_another_model_keeps_the_step_and_the_button_leads_to_a_run(page):
    page.get_by_role("radio", name="Unsecured").or_(page.get_by_role("button", name="Unsecured")).first.click()
    page.wait_for_function("new URLSearchParams(location.search).get('model') === 'unsecured'")
    stands(page)
    expect(page.locator("text=on the Unsecured model")).to_be_visible()
    expect(page.locator(".dy-sentence")).to_contain_text("After 2 gradients")
    page.get_by_role("button", name="Use L2L in a run").click()
    page.wait_for_selector("text=Start the run")
    page.wait_for_function("new URLSearchParams(location.search).get('preset') === 'digits-l2l'")
    expect(page.get_by_role("textbox", name="attacker lr")).to_have_value("0.001")

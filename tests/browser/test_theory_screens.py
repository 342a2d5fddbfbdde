"""The theory screens in a real browser: both themes, the cursor by keyboard, marks where Python puts them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from dynat_core.theory.probe import probe  # noqa: E402
from dynat_core.views import smoothness  # noqa: E402
from dynat_core.views.still import shapes  # noqa: E402
from tests.browser.pages import press, settled, turn_light, wait_cursor, wait_query  # noqa: E402

pytestmark = pytest.mark.browser
SCREENS = {"theorem": "delta", "smoothness": "place", "sde": "step"}  # and the cursor's name in the address


@pytest.fixture
def show(new_page, shipped) -> Callable[..., Page]:
    """show(path, scheme) -> the page once its picture stands."""

    def go(path: str, scheme: str = "light") -> Page:
        page = new_page(color_scheme=scheme)
        page.goto(f"{shipped}/{path}")
        page.wait_for_selector(".dy[data-ready]")
        settled(page)
        return page

    return go


MOVED = ".dy-marks path[d^=M], .dy-marks line, .dy-marks circle"


def marks(page: Page) -> list[str]:
    return page.locator(MOVED).evaluate_all("all => all.map(e => e.outerHTML)")


def stands(page: Page) -> None:
    """Nothing went wrong, nothing sticks out, and each figure has something of Plotly's or of the cursor's in it."""
    expect(page.locator('[data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 1280
    figures = page.locator(".dy-box:visible")
    expect(figures.nth(2)).to_be_visible()
    for k in range(figures.count()):
        drawn = figures.nth(k).locator(".trace path, .heatmaplayer image, .dy-marks path[d^=M], .bars path")
        expect(drawn.first).to_be_attached()
    expect(page.locator(".katex").first).to_be_visible()


@pytest.mark.parametrize("screen, name", SCREENS.items())
def test_each_opens_in_both_themes_with_its_pictures_drawn_and_the_keyboard_moves_them(show, screen, name):
    page = show(f"{screen}?{name}=2", "dark")
    stands(page)
    wait_cursor(page, 2)
    for at, turn in ((2, None), (4, turn_light)):
        if turn is not None:
            turn(page)
            stands(page)
        said, before = page.locator(".dy-sentence").inner_text(), marks(page)
        page.locator(".dy-bar .dy-range").focus()
        press(page, "ArrowRight", "ArrowRight")
        wait_cursor(page, at + 2)
        assert page.locator(".dy-sentence").inner_text() != said and marks(page) != before
        wait_query(page, **{name: str(at + 2)})
    page.keyboard.press("End")
    wait_cursor(page, page.evaluate("+document.querySelector('.dy-bar .dy-range').max"))


def test_sliders_switches_and_the_menu_work_and_the_cursor_stays(show):
    page = show("sde?step=7")
    page.get_by_role("slider", name="K, ascents of the attack").focus()
    page.keyboard.press("ArrowRight")
    wait_query(page, K="5", step="7")
    wait_cursor(page, 7)
    page.get_by_role("button", name="variance").click()
    wait_query(page, moment="variance")
    expect(page.locator("text=error of the variance at time 1").first).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_role("link", name="Theorem").click()
    page.wait_for_selector(".st-key-theorem-picture .dy[data-ready]")


def test_the_theorem_s_assumption_is_measured_on_a_trained_network(show):
    page = show("theorem")
    box = page.locator(".dy-box", has_text="Which assumption fails")
    expect(box).to_contain_text("two hidden layers of 24")
    page.get_by_text("Digits, Standard", exact=True).click()
    expect(box).to_contain_text("Digits, Standard, epoch 30, 500 test images, eps 0.15")
    wait_query(page, network="demo-digits-standard")
    share = re.search(r"concave: (\d+) % of 2,000 segments", box.inner_text())
    assert share is not None and 0 < int(share[1]) < 60  # strong concavity would be all of them
    expect(page.locator('[data-testid="stAlert"]')).to_have_count(0)


def test_curves_and_spots_stand_where_python_puts_them(show):
    scene = smoothness.smoothness(probe("across", 0.5, 1, 0.2))
    page = show("smoothness?place=50")
    found = page.evaluate(
        """() => {
            const box = [...document.querySelectorAll(".dy-box")].find(b => b.textContent.includes("L-inf: where"));
            const layer = box.querySelector(".dy-marks"), plot = box.querySelector(".dy-plot");
            const area = plot._fullLayout, x = area.xaxis, y = area.yaxis, spot = layer.querySelector("circle");
            const data = (px, py) => [x.p2d(px - x._offset), y.p2d(py - y._offset)];
            const points = layer.querySelector("path").getAttribute("d").match(/-?[0-9.]+/g).map(Number);
            return {curve: points.flatMap((v, k) => (k % 2 ? [] : [data(v, points[k + 1])])),
                    spot: data(+spot.getAttribute("cx"), +spot.getAttribute("cy"))};
        }"""
    )
    curve, spot = shapes(scene.view("plane-1"), 50)
    wanted = np.array(
        [[float(v) for v in re.findall(r"-?[0-9.e-]+", part)] for part in re.split("[ML]", curve["path"])[1:]]
    )
    np.testing.assert_allclose(np.array(found["curve"]), wanted, atol=0.01)
    np.testing.assert_allclose(found["spot"], [spot["xanchor"], spot["yanchor"]], atol=0.01)

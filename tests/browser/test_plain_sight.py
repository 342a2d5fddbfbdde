"""What a newcomer meets first: nothing sticks out of its box, every control has a name, the keyboard can be seen."""

from __future__ import annotations

import pytest

from tests.browser.pages import settled

SCREENS = ("", "learn", "epochs", "trajectory", "check", "train", "runs", "compare", "paper", "inner_optimizer",
           "smoothness", "sde", "theorem")  # fmt: skip
STICKS_OUT = """() => [...document.querySelectorAll(".dynat-card, .dy-box")].flatMap(box => {
    const edge = box.getBoundingClientRect().right + 1;
    const inside = [...box.querySelectorAll(".dynat-reached, .dynat-reached > *, figcaption, figcaption *")];
    return inside.filter(e => e.getBoundingClientRect().right > edge).map(e => e.textContent);
})"""
SIDEWAYS = """() => {
    const main = document.querySelector("[data-testid=stMain]");
    return main.scrollWidth - main.clientWidth;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, [role=img], [role=slider]")]
    .filter(e => e.checkVisibility() && !e.closest("[aria-hidden=true], .js-plotly-plot"))
    .filter(e => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.labels?.length || e.title
                   || e.alt || e.textContent.trim()))
    .map(e => e.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("screen", SCREENS)
def test_every_control_has_a_name_and_nothing_sticks_out_in_a_narrow_window(new_page, shipped, screen):
    page = new_page(color_scheme="light")
    page.set_viewport_size({"width": 1024, "height": 768})
    page.goto(f"{shipped}/{screen}")
    page.wait_for_selector(".dynat-question")
    settled(page)
    if screen not in ("learn", "check", "train", "runs", "compare", "paper"):
        page.wait_for_selector(".dy-body[aria-label], .dy-pixels[aria-label]")  # told a moment after it is drawn
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(STICKS_OUT) == [] and page.evaluate(SIDEWAYS) == 0
    page.set_viewport_size({"width": 640, "height": 400})  # as 1280 at twice the size
    page.wait_for_function(  # charts follow their box a moment later
        f"() => innerWidth === 640 && ({STICKS_OUT})().length === 0 && ({SIDEWAYS})() === 0"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_links_and_buttons_show_that_the_keyboard_is_on_them(new_page, shipped, scheme):
    page = new_page(color_scheme=scheme)
    page.goto(f"{shipped}/train")
    page.wait_for_selector(".dynat-question")
    settled(page)
    for kind, name in (("link", "Epochs"), ("button", "Estimate the cost")):
        spot = page.get_by_role(kind, name=name)
        spot.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        style = spot.evaluate("e => [getComputedStyle(e).outlineStyle, getComputedStyle(e).outlineWidth]")
        assert style == ["solid", "2px"], name


def test_the_menu_says_which_of_its_screens_is_open(new_page, shipped):
    page = new_page(color_scheme="light")
    page.goto(f"{shipped}/smoothness")
    page.get_by_role("button", name="More: Smoothness").wait_for()

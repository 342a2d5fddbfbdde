"""The scrubber in a real browser: keys, drag, live updates, themes, brushing, and no message while the cursor moves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.pages import drawn, press, press_at_once, settled  # noqa: E402

pytestmark = pytest.mark.browser
APP = "tests/browser/apps/scrub.py"
COUNT_MESSAGES = """() => {
  const send = WebSocket.prototype.send;
  window.sent = 0;
  WebSocket.prototype.send = function (...rest) { window.sent++; return send.apply(this, rest); };
}"""
NOTE_PACE = """() => {
  const real = window.setInterval;
  window.paces = [];
  window.setInterval = (act, pace, ...rest) => { window.paces.push(pace); return real(act, pace, ...rest); };
}"""
PLAYS = """() => {
  const space = new KeyboardEvent("keydown", {key: " ", bubbles: true, cancelable: true});
  document.querySelector(".dy").dispatchEvent(space);
  return document.querySelector(".dy-play").getAttribute("aria-label");
}"""
COLORS = """() => {
  const root = document.querySelector(".dy");
  return [root.style.getPropertyValue("--dy-s0"), document.querySelector(".dy-plot .xtitle").style.fill];
}"""


@pytest.fixture
def show(new_page, serve) -> Callable[..., Page]:
    """show(query, **media) -> the page once its charts stand."""

    def go(query: str = "", **media) -> Page:
        page = new_page(**media)
        page.goto(f"{serve(APP)}/?{query}")
        page.wait_for_selector(".dy[data-ready]")
        settled(page)
        return page

    return go


def at(page: Page) -> int:
    """The cursor, once the frame in which it is drawn has come."""
    drawn(page)
    return int(page.locator(".dy-bar .dy-range").input_value())


def report(page: Page) -> str:
    return page.get_by_text("report: Report(").inner_text()


def test_keys_move_the_cursor_wherever_the_focus_is_but_not_in_an_input(show):
    page = show("epoch=5")
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft", "Shift+ArrowRight")
    assert at(page) == 16
    press(page, "Home")
    assert at(page) == 0
    press(page, "End")
    assert at(page) == 30
    page.get_by_role("button", name="Jump to 25").focus()
    press(page, "ArrowLeft")
    assert at(page) == 29
    page.get_by_label("A text input").click()
    press(page, "ArrowLeft", "r", "c")
    assert at(page) == 29
    expect(page.locator(".dy-range").first).to_have_attribute(
        "aria-valuetext", re.compile("epoch 29 of 30, Dynamic: median")
    )
    page.locator(".dy").focus()
    press(page, "g", "1", "2")
    assert at(page) == 29  # half typed
    press(page, "Enter")
    assert at(page) == 12
    press(page, "?")
    expect(page.locator("dialog.dy-keys")).to_be_visible()
    press(page, "ArrowRight", "Escape")
    expect(page.locator("dialog.dy-keys")).to_be_hidden()
    assert at(page) == 12


def test_everything_on_the_page_follows_the_cursor_and_axes_stay(show):
    page = show("epoch=5&form=box")
    marks = "() => [...document.querySelectorAll('.dy-marks')].map(m => m.innerHTML)"
    ranges = "() => [...document.querySelectorAll('.dy-plot')].map(g => [g.layout.xaxis.range, g.layout.yaxis.range])"
    before, axes = page.evaluate(marks), page.evaluate(ranges)
    notes = page.locator(".dy-notes").all_inner_texts()
    press(page, "Shift+ArrowRight")
    drawn(page)
    assert all(a != b for a, b in zip(before, page.evaluate(marks), strict=True)) and len(before) == 6
    assert all(a != b for a, b in zip(notes, page.locator(".dy-notes").all_inner_texts(), strict=True))
    assert page.evaluate(ranges) == axes
    expect(page.locator(".dy-sentence")).to_contain_text("Epoch 15: Dynamic's threshold was 0.042 (box FOSC)")


def test_a_drag_sends_nothing_until_it_ends(show):
    page = show("epoch=0")
    page.evaluate(COUNT_MESSAGES)
    box = page.locator(".dy-bar .dy-range").bounding_box()
    assert box
    page.mouse.move(box["x"] + 9, box["y"] + box["height"] / 2)
    page.mouse.down()
    for k in range(1, 41):
        page.mouse.move(box["x"] + 9 + k / 40 * (box["width"] - 18) * 0.5, box["y"] + box["height"] / 2)
    page.wait_for_timeout(500)
    assert at(page) == 15
    assert page.evaluate("window.sent") == 0
    page.mouse.up()
    expect(page.get_by_text("report: Report(i=15,")).to_be_visible()


def test_live_updates_keep_cursor_focus_zoom_and_a_drag_under_way(show):
    page = show("live=1&epoch=5&epochs=90")  # one more each second: enough for a slow machine, too
    assert at(page) == 5
    number, plot = page.locator(".dy-number"), page.locator(".dy-plot").nth(2)
    plot.evaluate("g => { g.same = true; }")
    area = plot.bounding_box()
    assert area
    page.mouse.move(area["x"] + 90, area["y"] + 60)  # a zoom by mouse
    page.mouse.down()
    page.mouse.move(area["x"] + 160, area["y"] + 62, steps=5)
    page.mouse.up()
    zoomed = plot.evaluate("g => g.layout.xaxis.range.map(v => v.toFixed(3))")
    press(page, "g", "9")
    slider = page.locator(".dy-bar .dy-range").bounding_box()
    have = page.locator(".dy-of").inner_text()
    expect(page.locator(".dy-of")).not_to_have_text(have)
    assert number.input_value() == "9" and at(page) == 5
    assert page.evaluate("document.activeElement.className") == "dy-number"
    assert plot.evaluate("g => g.same && g.layout.xaxis.range.map(v => v.toFixed(3))") == zoomed
    assert zoomed != ["-0.500", "90.500"]
    press(page, "Escape")
    middle = slider["y"] + slider["height"] / 2
    place = lambda e: slider["x"] + 9 + e / 90 * (slider["width"] - 18)  # noqa: E731
    page.mouse.move(place(5), middle)
    page.mouse.down()
    page.mouse.move(place(3), middle, steps=4)
    have = page.locator(".dy-of").inner_text()
    expect(page.locator(".dy-of")).not_to_have_text(have)
    assert at(page) == 3
    page.mouse.move(place(2), middle, steps=4)
    assert at(page) == 2
    page.mouse.up()
    press(page, "f")
    expect(page.get_by_label("follow latest")).to_be_checked()
    latest = at(page)
    page.wait_for_function("before => +document.querySelector('.dy-bar .dy-range').value > before", arg=latest)
    press(page, "ArrowLeft")
    expect(page.get_by_label("follow latest")).not_to_be_checked()


def test_the_server_moves_the_cursor_only_by_a_jump_and_play_runs_to_the_end(show):
    page = show("epoch=5")
    press(page, "ArrowRight")
    expect(page.get_by_text("report: Report(i=6,")).to_be_visible()
    page.get_by_role("button", name="Jump to 25").click()
    expect(page.locator(".dy-sentence")).to_contain_text("Epoch 25:")
    press(page, "ArrowRight")
    expect(page.get_by_text("report: Report(i=26,")).to_be_visible()
    assert at(page) == 26
    assert page.evaluate(PLAYS) == "Pause"
    expect(page.get_by_text("report: Report(i=30,")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.get_by_role("button", name="Test images").click()  # other views under the same cursor
    expect(page.locator(".dy-sentence")).to_contain_text("Epoch 30: Dynamic withstands PGD-20 on")
    expect(page.locator("figure", has_text="When did they stop?")).to_contain_text("every step of the attack")
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(NOTE_PACE)
    page.locator(".dy").focus()
    press(page, "Home", " ")
    page.wait_for_function("+document.querySelector('.dy-bar .dy-range').value > 0")
    assert page.evaluate("paces[0]") == 600  # ms: slowly where motion is unwanted


def test_forms_kinds_and_runs_are_switched_in_the_browser(show):
    page = show("epoch=5")
    slope = page.locator("figure").first
    press(page, "r")
    expect(slope.locator(".xtitle")).to_have_text("FOSC, box form (loss units, nats)")
    press(page, "v", "v")
    drawn(page)
    assert slope.locator(".dy-plot").evaluate("g => g.data.map(t => t.type)") == ["heatmap", "heatmap"]
    assert slope.locator(".dy-plot").evaluate("g => g.data[0].z.length > 50 && g.data[0].z[0].length") == 31
    press(page, "2")
    expect(page.get_by_role("button", name="Standard")).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".dy-sentence")).not_to_contain_text("Standard")
    assert slope.locator(".dy-plot").evaluate("g => g.data.map(t => t.visible)") == [True, False]
    press(page, "1")  # the last one stays
    expect(page.get_by_role("button", name="Dynamic")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text(re.compile(r"chosen=.'form': 'box', 'kind': 'heatmap'., hidden=\(1,\)"))).to_be_visible()


def test_the_pointer_brushes_a_histogram_reads_a_bar_and_clicks_a_curve(show):
    page = show("epoch=5&form=box")
    area = page.locator(".dy-plot").first.bounding_box()
    assert area
    left, bottom = area["x"] + 50, area["y"] + area["height"] - 60
    page.mouse.move(left + 10, bottom)
    page.mouse.down()
    page.mouse.move(left + 300, bottom, steps=4)
    page.mouse.up()
    expect(page.locator(".dy-selection")).to_contain_text(
        re.compile(r"\d+ images with box FOSC 0 to .* at epoch 5 \(Dynamic \d+, Standard \d+\)")
    )
    expect(page.get_by_text("selection=Selection(measure='fosc', low=0")).to_be_visible()
    page.get_by_role("button", name="Open in Trajectory").click()
    expect(page.get_by_text("done: [('open-selection', 1)]")).to_be_visible()
    before = page.locator(".dy-selection").inner_text()
    press(page, "Shift+ArrowRight")
    expect(page.locator(".dy-selection")).not_to_have_text(before)
    page.get_by_role("button", name="Clear the selection").click()
    expect(page.locator(".dy-selection")).to_be_hidden()
    stops = page.locator(".dy-plot").nth(1).bounding_box()
    curve = page.locator(".dy-plot").nth(2).bounding_box()
    assert stops and curve
    page.mouse.move(stops["x"] + stops["width"] - 22, stops["y"] + 60)
    expect(page.locator(".dy-tip")).to_contain_text("Standard: 100 % (500 of 500)")
    page.mouse.click(curve["x"] + curve["width"] - 14, curve["y"] + 60)
    assert at(page) == 30
    with page.expect_download() as saved:
        page.locator("figure").nth(2).locator(".modebar-btn").click()
    assert saved.value.suggested_filename == "accuracy-epoch-30.svg"
    picture = Path(saved.value.path()).read_text(encoding="utf-8")
    assert "How often is it right? (epoch 30)" in picture and "Standard: " in picture and "var(--" not in picture


def test_keys_brush_the_histogram_that_has_the_focus(show):
    page = show("epoch=5&form=box")
    heard = page.locator(".dy-said")  # by those who do not see it
    expect(heard).to_contain_text("Epoch 5")  # said of the cursor when it rests, which would come between
    first = page.locator(".dy-brushable").first
    for _ in range(60):  # as somebody who has no pointer comes there
        press(page, "Tab")
        if first.evaluate("e => e === document.activeElement"):
            break
    assert first.evaluate("e => e === document.activeElement && getComputedStyle(e).outlineStyle === 'solid'")
    chosen = page.locator(".dy-selection")
    press(page, "]")
    expect(heard).to_contain_text("images with box FOSC")
    expect(chosen).to_contain_text(re.compile(r"\d+ images with box FOSC .* at epoch 5"))
    fullest = chosen.inner_text()
    press(page, "}", "}")
    expect(chosen).not_to_have_text(fullest)
    press(page, "{", "{")
    expect(chosen).to_have_text(fullest)
    press(page, "]")
    expect(chosen).not_to_have_text(fullest)
    press(page, "[")
    expect(chosen).to_have_text(fullest)
    press(page, "ArrowRight")
    assert at(page) == 6  # the cursor's keys go on working
    expect(page.get_by_text("selection=Selection(measure='fosc'")).to_be_visible()
    page.get_by_role("button", name="Open in Trajectory").focus()
    press(page, "Enter")
    expect(page.get_by_text("done: [('open-selection', 1)]")).to_be_visible()


def test_the_theme_is_followed_at_run_time_and_the_cursor_stays(show):
    page = show("epoch=5", color_scheme="light")
    press(page, "ArrowRight")
    light = page.evaluate(COLORS)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.querySelector('.dy').style.colorScheme === 'dark'")
    page.wait_for_function(f"light => ({COLORS})()[1] !== light", arg=light[1])  # the letters of the charts follow
    dark = page.evaluate(COLORS)
    assert light[0] == "#0072B2" and dark[0] == "#4DB1EC" and light[1] != dark[1]
    assert at(page) == 6


def test_a_path_is_stepped_through_and_its_keys_reach_the_page(show):
    page = show("scene=trajectory&versus=1&surface=1&epoch=4")
    now = page.locator("figure", has_text="Now").locator("canvas")
    before = now.evaluate("c => c.toDataURL()")
    press(page, "ArrowRight")
    drawn(page)
    assert now.evaluate("c => c.toDataURL()") != before
    expect(page.locator(".dy-sentence")).to_contain_text("Step 5: relative FOSC is")
    for key, action in (("ArrowUp", "image-previous"), ("ArrowDown", "image-next"), ("m", "swap-model")):
        press(page, key)
        expect(page.get_by_text(f"('{action}', 1)]")).to_be_visible()
    press_at_once(page, *["ArrowDown"] * 4)
    expect(page.get_by_text("('image-next', 4)]")).to_be_visible()
    press(page, "r")
    expect(page.locator(".dy-sentence")).to_contain_text("paper FOSC")
    slider = page.get_by_label("Threshold c")
    slider.fill("1")
    expect(page.locator(".dy-outcome")).to_contain_text("Stopped after 1 of 10 steps, 2 gradients instead of 10")
    slider.focus()
    press(page, "Home")
    expect(page.locator(".dy-outcome")).to_contain_text("would not have stopped before the last step")
    assert at(page) == 5  # the threshold slider keeps its own keys


def test_an_empty_run_says_so(show):
    page = show("scene=empty")
    expect(page.locator(".dy-sentence")).to_contain_text("Nothing is recorded yet")
    press(page, "ArrowRight", " ")
    expect(page.locator(".dy-range").first).to_be_disabled()

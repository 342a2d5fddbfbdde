"""All runs, the microscope and the threshold slider in a real browser: keys, ticks, undo, links, two cursors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from dynat_core.store import bookkeeping  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from dynat_core.views.threshold import CURVES, Recorded, thresholds, truncated  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.pages import press_at_once, settled, tick, wait_query  # noqa: E402
from tests.running import tiny  # noqa: E402
from ui.microscope import edges  # noqa: E402

pytestmark = pytest.mark.browser
DEMOS = ("demo-digits-dynamic", "demo-digits-standard")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store with two shipped runs and three stopped ones."""
    made = tmp_path_factory.mktemp("kept") / "store"
    for name in DEMOS:
        shutil.copytree(ROOT / "checkpoints" / name, made / name)
    for seed, name in enumerate(("run-a", "run-b", "run-c")):
        (RunStore(made).create(tiny(seed=seed), name).folder / "stop").touch()
    return made


@pytest.fixture
def show(new_page, serve, folder) -> Callable[[str], Page]:
    """show(path) -> the page once it stands."""
    address = serve("app.py", DYNAT_STORE=str(folder), DYNAT_WORKER_IDLE="2")

    def go(path: str) -> Page:
        page = new_page()
        page.goto(f"{address}/{path}")
        expect(page.locator(".dynat-question")).to_be_visible()
        settled(page)
        return page

    return go


def titles(folder: Path) -> set[str]:
    return {run.id for run in RunStore(folder).list()}


def test_runs_are_deleted_and_undo_brings_them_back(show, folder):
    page = show("runs?find=run-&by=title")
    expect(page.get_by_text("3 of 5 runs")).to_be_visible()
    tick(page, 0)
    expect(page.get_by_label("Title")).to_be_visible()  # of the one that is chosen; what is below has moved by now
    tick(page, 2)
    expect(page.get_by_text("2 runs chosen")).to_be_visible()
    settled(page)  # the buttons of one run are gone, and those of two stand
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 runs deleted.")).to_be_visible()
    assert titles(folder) == {*DEMOS, "run-b"}
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    assert titles(folder) == {*DEMOS, "run-a", "run-b", "run-c"}


def test_a_run_is_named_tagged_and_archived_with_the_keyboard_alone(show, folder):
    page = show("runs?find=run-b")
    expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()
    page.get_by_label("Find").focus()
    for _ in range(40):  # on to the table
        if page.evaluate("document.activeElement?.tagName === 'CANVAS'"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    expect(page.get_by_label("Title")).to_be_visible()
    settled(page)  # with all that follows it
    page.get_by_label("Title").focus()
    page.keyboard.type("Named <b>by keys</b>")
    page.keyboard.press("Tab")
    page.keyboard.type("paper, table 2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("run-b is saved.")).to_be_visible()
    run = RunStore(folder).open("run-b")
    assert run.title == "Named <b>by keys</b>" and bookkeeping.label(run).tags == ("paper", "table 2")
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.get_by_text("Taken back.")).to_be_visible()
    assert bookkeeping.label(RunStore(folder).open("run-b")) == bookkeeping.Label()


def test_a_demo_is_refused_with_one_sentence_and_the_others_go(show, folder):
    page = show("runs?by=oldest&find=d")
    rows = page.get_by_text(re.compile(r"\d of 5 runs"))
    expect(rows).to_be_visible()
    page = show("runs?find=demo-digits-dynamic")
    tick(page, 0)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("is a shipped demo and stays")
    assert set(DEMOS) <= titles(folder)
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_brushing_the_histogram_gives_its_images_and_the_link_says_so(show, folder):
    page = show("trajectory?run=demo-digits-standard")
    page.wait_for_selector(".st-key-trace .dy[data-ready]")
    ends = page.locator(".st-key-microscope [data-testid=stSlider] input")
    ends.first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    table = RunStore(folder).open("demo-digits-standard").samples("last", split="test")
    low = edges(table.relative_fosc.to_numpy(float), "relative_fosc")[4]
    only = f"relative_fosc={low:g},"
    wait_query(page, only=only)  # where the four presses lead to; on a slow machine the link says the ones between, too
    n = int((table.relative_fosc >= low).sum())
    expect(page.locator(".st-key-left")).to_contain_text(f"{n} of 500 images")
    again = show(f"trajectory?run=demo-digits-standard&only={only}")
    expect(again.locator(".st-key-left")).to_contain_text(f"{n} of 500 images")


def test_listed_images_are_walked_through_with_the_arrow_keys_and_left_with_show_all(show):
    page = show("trajectory?run=demo-digits-standard&images=42,3,17")
    page.wait_for_selector(".st-key-trace .dy[data-ready]")
    expect(page.locator(".st-key-listed")).to_contain_text("3 images from the check")
    expect(page.locator(".st-key-left")).to_contain_text("3 of 3 images")
    page.locator(".dynat-question").click()
    for image in ("3", "17", "42"):
        page.keyboard.press("ArrowDown")
        wait_query(page, image=image)
    press_at_once(page, "ArrowDown", "ArrowDown")  # held down: from the last to the first and on
    wait_query(page, image="17")
    page.get_by_role("button", name="show all").click()
    expect(page.locator(".st-key-left")).to_contain_text("500 of 500 images")
    expect(page.locator(".st-key-listed")).to_have_count(0)


def test_two_cursors_on_one_page_each_have_their_own_keys(show, folder):
    run = RunStore(folder).open("demo-digits-standard")
    curves = run.curves(30, CURVES)
    c = thresholds([Recorded(run.title, "standard", curves)])
    page = show("trajectory?run=demo-digits-standard&threshold=30&step=4")
    page.wait_for_selector(".st-key-threshold-picture .dy[data-ready]")
    step = page.locator(".st-key-trace .dy-bar .dy-range")
    limit = page.locator(".st-key-threshold-picture .dy-bar .dy-range")
    expect(limit).to_have_value("30")
    limit.focus()
    page.keyboard.press("ArrowRight")
    expect(limit).to_have_value("31")
    expect(step).to_have_value("4")
    page.locator(".dynat-question").click()
    page.keyboard.press("ArrowRight")
    expect(step).to_have_value("5")
    expect(limit).to_have_value("31")
    gradients = truncated(curves, c).gradients[31]
    said = page.locator(".st-key-threshold-picture .dy-sentence")
    expect(said).to_contain_text(f"at most {float(c[31]):g} nats")
    expect(said).to_contain_text(f"{gradients:.1f} of 10 gradients an image")
    expect(page.locator(".st-key-threshold-picture")).to_contain_text("This is about evaluation on a fixed model")

"""The screens in a real browser: scrub, keys, deep links, Back, a live run, launch and stop, dark theme, no torch."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from dynat_core.store.runs import Run, RunStore  # noqa: E402
from dynat_core.store.workers import worker_alive  # noqa: E402
from tests.browser.pages import (  # noqa: E402
    PATIENCE,
    button,
    press,
    press_at_once,
    settled,
    turn_light,
    wait_cursor,
    wait_query,
)
from tests.running import until  # noqa: E402
from tests.stores import demos, settings  # noqa: E402

pytestmark = pytest.mark.browser
PICTURES = {"Overview": "overview-picture", "Epochs": "epochs-picture", "Trajectory": "trace"}
SCREENS = ("", "epochs", "trajectory", "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A store with three finished runs; its workers end with the tests."""
    made = tmp_path_factory.mktemp("screens") / "store"
    shutil.copytree(demos(), made)
    yield made
    for run in RunStore(made).list():
        if run.running:
            run.request_stop()
    until(lambda: not any(run.running for run in RunStore(made).list()), "runs stop")


@pytest.fixture(scope="module")
def address(serve, folder) -> str:
    return serve("app.py", DYNAT_STORE=str(folder), DYNAT_WORKER_IDLE="2")


@pytest.fixture
def show(new_page, address) -> Callable[..., Page]:
    """show(path, **media) -> the page once it stands."""

    def go(path: str = "", at: str = address, **media) -> Page:
        page = new_page(**media)
        page.goto(f"{at}/{path}")
        expect(page.locator(".dynat-question")).to_be_visible()
        settled(page)
        if not path.startswith("train"):
            page.wait_for_selector(".dy[data-ready], [data-testid=stAlert]")
        return page

    return go


def go(page: Page, name: str) -> None:
    """Take the menu to another screen and wait for its picture."""
    page.get_by_role("link", name=name, exact=True).click()
    wait_query(page, name.lower() if name != "Overview" else "")
    page.wait_for_selector(f".st-key-{PICTURES[name]} .dy[data-ready]")


# ------------------------------------------------------------------------------------------------------ every screen


@pytest.mark.parametrize("path", SCREENS)
def test_each_screen_stands_in_both_themes_and_fetches_nothing_from_elsewhere(show, address, path):
    page = show(path, color_scheme="dark")
    for turn in (None, turn_light):
        if turn is not None:
            turn(page)
        expect(page.locator('[data-testid="stException"]')).to_have_count(0)
        wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wide <= 1280  # nothing sticks out sideways
    urls = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert urls and all(url.startswith((address, "data:", "blob:")) for url in urls)


def test_the_menu_leads_on_and_back_to_the_same_place(show):
    page = show("epochs?run=demo-digits-standard&epoch=2")
    go(page, "Trajectory")
    go(page, "Epochs")
    wait_query(page, "epochs", run="demo-digits-standard", epoch="2")
    wait_cursor(page, 2)


def test_an_empty_store_is_explained(show, serve, tmp_path_factory):
    there = serve("app.py", DYNAT_STORE=str(tmp_path_factory.mktemp("empty")))
    page = show("train", at=there)
    for name in ("Overview", "Epochs", "Trajectory"):
        page.get_by_role("link", name=name, exact=True).click()
        wait_query(page, name.lower() if name != "Overview" else "")
        settled(page)
        expect(page.get_by_text("make demos").first).to_be_visible()


# ------------------------------------------------------------------------------------------------- scrub, keys, Back


def test_scrubbing_epochs_writes_the_link_and_back_returns(show):
    page = show("epochs?epoch=1")
    wait_cursor(page, 1)
    press_at_once(page, "ArrowRight", "ArrowRight")  # where the cursor rests in between would be a step of Back, too
    wait_query(page, epoch="3")
    page.locator(".dy-switches button", has_text="box").click()
    wait_query(page, epoch="3", form="box")
    settled(page)
    page.wait_for_timeout(1500)  # Back within a second of a change may be taken for a slow browser's old query string
    page.go_back()
    wait_query(page, epoch="3", form=None)
    expect(page.locator(".dy-switches button", has_text="relative")).to_have_attribute("aria-pressed", "true")
    page.go_back()
    wait_query(page, epoch="1")
    wait_cursor(page, 1)


def test_splits_change_by_the_switch_and_stay_in_the_link(show):
    page = show("epochs")
    page.get_by_role("radio", name="test images").click()
    wait_query(page, split="test")
    expect(page.get_by_text("Nothing stops early here")).to_be_visible()


def test_a_brush_on_test_images_opens_them_in_trajectory(show):
    page = show("epochs?split=test&epoch=6")
    plot = page.locator(".dy-plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] * 0.5
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, middle, steps=8)
    page.mouse.up()
    page.locator(".dy-open").click()
    wait_query(page, "trajectory", epoch="6", pick="*")
    brushed = re.compile(r"brushed: relative FOSC .* \(\d+\)")
    expect(page.get_by_role("combobox", name="Which images?")).to_have_value(brushed)


def test_keys_step_through_the_attack_and_through_the_images(show, folder):
    page = show("trajectory?step=2")
    wait_cursor(page, 2)
    image = page.get_by_role("spinbutton", name="image number")
    first = image.input_value()
    assert first
    press(page, "ArrowRight", "ArrowRight", "ArrowRight")
    wait_query(page, step="5")
    press(page, "ArrowDown")
    wait_query(page, image="*")
    expect(image).not_to_have_value(first)
    wait_cursor(page, 5)  # another image, the same step
    image.focus()
    shown = int(image.input_value())
    there = RunStore(folder).open("demo-digits-standard").samples(6, split="test")["index"]
    after = next(i for i in sorted(map(int, there)) if i > shown + 1)
    press(page, *["ArrowUp"] * (after - shown))  # in the field itself, faster than the screen follows
    wait_query(page, image=str(after))
    expect(image).to_have_value(str(after))
    page.locator(".dynat-question").click()
    names = page.locator(".dy-legend .dy-chip")
    before = names.all_inner_texts()
    press(page, "m")
    wait_query(page, run="demo-digits-dynamic,demo-digits-standard")
    expect(names.first).to_have_text(before[1])


def test_overview_opens_its_image_where_the_cursor_is(show):
    page = show("")
    wait_cursor(page, 4)
    press(page, "ArrowRight")
    wait_query(page, step="5")
    page.get_by_role("button", name="Open this image").click()
    wait_query(page, "trajectory", step="5", run="demo-digits-standard,demo-digits-dynamic", image="*")
    page.wait_for_selector(".st-key-trace .dy[data-ready]")
    wait_cursor(page, 5)


# ---------------------------------------------------------------------------------------------------- the helper


def test_what_was_not_recorded_is_computed_and_the_slice_drawn(show):
    page = show("trajectory?attack=7,eps/4,margin,clean")
    page.wait_for_selector(".st-key-trace .dy[data-ready]")
    expect(page.locator(".dy-of")).to_have_text(re.compile("of 7"))
    page.get_by_text("Loss slice").click()
    expect(page.get_by_text(re.compile("the path is projected onto it"))).to_be_visible()
    page.get_by_role("button", name="PGD-7").click()
    page.get_by_role("textbox", name="step size").fill("-3")
    page.get_by_role("button", name="Attack", exact=True).click()
    expect(page.get_by_text(re.compile("must be a size in pixels above 0"))).to_be_visible()


# ------------------------------------------------------------------------------------------------- a run of one's own


def test_a_run_is_estimated_launched_watched_stopped_and_resumed(show, folder):
    page = show("train?preset=quick")
    field = page.get_by_role("textbox", name="c_max")
    field.fill("-1")
    press(page, "Enter")
    expect(page.locator(".dynat-problem")).to_have_text("c_max must be 0 or more (got -1.0).")
    expect(page.get_by_role("button", name="Start the run")).to_be_disabled()
    field.fill("0.1")
    press(page, "Enter")
    page.get_by_role("button", name="Estimate the cost").click()
    expect(page.get_by_text(re.compile("would stop after the first step"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Use c_max")).click()
    expect(field).not_to_have_value("0.1")
    page.get_by_role("textbox", name="epochs", exact=True).fill("4000")  # more than it gets to on any machine
    press(page, "Enter")
    expect(page.get_by_text("The settings have changed since the last estimate")).to_be_visible()
    settled(page)  # the estimate is gone, and the buttons have moved
    page.get_by_role("textbox", name="name", exact=True).fill("Mine <b>")
    page.get_by_role("button", name="Start the run").click()  # the click is what leaves the field
    page.get_by_role("button", name="Watch it").click()
    run = watched_run(page, folder)
    stays_where_the_cursor_is(page)
    go(page, "Overview")
    button(page, "Stop").click()
    expect(page.get_by_text("It was stopped and kept its checkpoint")).to_be_visible()
    assert run.state == "stopped"
    there = len(run.records())
    button(page, "Resume").click()
    until(lambda: len(run.records()) > there, "the resumed run goes on")
    expect(button(page, "Watch")).to_be_visible()
    button(page, "Stop").click()
    until(lambda: run.state == "stopped", "the run stops again")


def watched_run(page: Page, folder: Path) -> Run:
    """The run in the address, once it has three epochs."""
    wait_query(page, "epochs", run="*")
    run = RunStore(folder).open(page.url.partition("run=")[2].partition("&")[0])
    until(lambda: len(run.records()) > 3, "epochs arrive")
    return run


def stays_where_the_cursor_is(page: Page) -> None:
    """New epochs arrive; the cursor stays until it is told to go to the latest."""
    page.wait_for_function("+document.querySelector('.dy-bar .dy-range')?.value >= 3")  # it follows at first
    press(page, "Home", "ArrowRight", "ArrowRight")
    wait_query(page, epoch="2")
    text = page.locator(".dy-of").inner_text()
    page.wait_for_function("text => (document.querySelector('.dy-of')?.textContent ?? text) !== text", arg=text)
    wait_cursor(page, 2)
    expect(page.get_by_text("Mine <b>", exact=True).first).to_be_visible()
    page.locator(".dy-latest").click()
    page.wait_for_function("+document.querySelector('.dy-bar .dy-range')?.value > 3")


def test_killing_the_web_server_leaves_the_run_and_no_helper(window, serve, tmp_path, folder):
    store = tmp_path / "store"
    shutil.copytree(folder / "demo-digits-standard", store / "demo-digits-standard")
    there = serve("app.py", DYNAT_STORE=str(store), DYNAT_WORKER_IDLE="2")
    server = serve.process(there)
    with window.new_page() as page:  # unwatched: what it says when its server is gone is its own affair
        page.set_default_timeout(PATIENCE)
        page.goto(f"{there}/trajectory?attack=3,eps/4,ce,clean")
        page.wait_for_selector(".dy[data-ready]")
        run = RunStore(store).create(settings("dynamic", epochs=4000), "mine")
        page.goto(f"{there}/train")
        page.get_by_role("button", name="Start the run").click()  # and with it a worker
        until(lambda: len(run.records()) > 1, "the run goes")
        helpers = [pid for pid, words in children(server.pid).items() if "dynat_core.work.helper" in words]
        assert helpers
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10)
        until(lambda: not any(alive(pid) for pid in helpers), "the helper ends with its server")
    seen = len(run.records())
    until(lambda: len(run.records()) > seen + 1, "the run goes on")
    for each in RunStore(store).list():
        if each.state in ("running", "queued"):
            each.request_stop()
    until(lambda: not worker_alive(store), "the worker ends")


def children(pid: int) -> dict[int, str]:
    """pid -> command line of the processes that `pid` started."""
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    rows = (line.split(None, 2) for line in done.stdout.splitlines())
    return {int(row[0]): row[2] for row in rows if int(row[1]) == pid and "defunct" not in row[2]}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------- without torch


@pytest.fixture(scope="module")
def view_only(serve, folder, tmp_path_factory) -> str:
    """A server in an install without torch."""
    blocked = tmp_path_factory.mktemp("no-torch")
    (blocked / "sitecustomize.py").write_text(
        "import sys\nfor name in ('torch', 'torchvision', 'sklearn'):\n    sys.modules[name] = None\n"
    )
    return serve("app.py", DYNAT_STORE=str(folder), PYTHONPATH=str(blocked))


def test_without_torch_recorded_runs_and_paths_are_there(show, view_only):
    page = show("trajectory", at=view_only)
    wait_cursor(page, 4)
    press(page, "ArrowRight")
    wait_query(page, step="5")
    expect(page.locator(".dynat-state")).to_have_text("view only")
    go(page, "Epochs")
    press(page, "Home")
    wait_query(page, epoch="0")
    page.goto(f"{view_only}/train")
    expect(page.get_by_text("Training needs torch")).to_be_visible()
    expect(page.get_by_role("button", name="Start the run")).to_be_disabled()


def test_teacher_mode_is_larger_and_simpler(show):
    page = show("epochs")
    size = "getComputedStyle(document.documentElement).fontSize"
    usual = float(page.evaluate(size)[:-2])
    expect(page.get_by_text("Reproduce and keep").first).to_be_visible()
    page = show("epochs?teach=1")
    assert float(page.evaluate(size)[:-2]) > usual
    expect(page.get_by_text("Reproduce and keep")).to_have_count(0)
    go(page, "Trajectory")
    wait_query(page, "trajectory", teach="1")

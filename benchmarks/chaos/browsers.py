"""Two people in two browsers do things to the same run at the same moment."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.screens import FAILED
from dynat_core.store import bookkeeping
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import stop_workers
from tests.running import tiny, until, worker_once
from tools.install_browser import find_browser

ROOT = Path(__file__).resolve().parents[2]
_STOP = '[class*="-stop-{}"] button'  # of one run; the browser has one of its own
ACTIONS = ("rename", "tag", "archive", "delete", "stop")


def two_browsers(ledger: Ledger, address: str, store: RunStore, rng: random.Random, rounds: int) -> None:
    """In each round both act on one run, the second without having seen what the first did."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(find_browser()), args=["--no-sandbox", "--headless", "--disable-gpu"]
        )
        try:
            for number in range(rounds):
                run = store.create(tiny(seed=str(number), epochs="400"), f"both-{number}")
                pair = [(ACTIONS[number % 5], rng.choice(ACTIONS)), (ACTIONS[number % 5],) * 2][number % 2]
                run.request_stop()
                worker = None
                if "stop" in pair:  # there is something to stop
                    run.resume()
                    worker = worker_once(store.folder)
                    until(lambda run=run: run.running, "the run begins")
                pages = [_open(browser, address, run.id, action) for action in pair]
                for page, action in zip(pages, pair, strict=True):
                    _prepare(page, action, run.id)
                for page, action in zip(pages, pair, strict=True):
                    _act(page, action, run.id)
                    ledger.fault(f"two browsers: {action}")
                if "stop" in pair:
                    until(lambda run=run: run.state != "running", "the run stops, or is gone")
                for page, action in zip(pages, pair, strict=True):
                    _settled(page)
                    text = page.locator("body").inner_text()
                    ledger.screens += 1
                    if FAILED in text or "Traceback" in text:
                        ledger.problem(f"{pair}, browser of {action}: {text[:300]}")
                    page.context.close()
                _came_out(ledger, store, run.id, pair)
                if worker is not None:
                    stop_workers(store.folder)
                    worker.wait(120)
                    if run.folder.exists():
                        run.request_stop()
        finally:
            browser.close()


def _came_out(ledger: Ledger, store: RunStore, id: str, pair: tuple[str, ...]) -> None:
    """What must be so afterwards, whoever was first."""
    there, deleted = (store.folder / id).exists(), [entry.id for entry in bookkeeping.deleted(store)].count(id)
    if there + deleted != 1:
        ledger.problem(f"{pair}: {id} is there {int(there)} and in the trash {deleted} times")
    if there and "stop" in pair and store.open(id).state != "stopped":
        ledger.problem(f"{pair}: {id} is {store.open(id).state}")
    if there and pair == ("rename", "tag"):
        label = bookkeeping.label(store.open(id))
        if not label.title or not label.tags:
            ledger.problem(f"{pair}: one change took back the other ({label})")


def _open(browser: Any, address: str, id: str, action: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{address}/train" if action == "stop" else f"{address}/runs?find={id}")
    page.wait_for_selector(".dynat-question")
    _settled(page)
    return page


def _prepare(page: Any, action: str, run: str) -> None:
    """Everything up to the last click."""
    if action == "stop":
        page.locator(_STOP.format(run)).wait_for()
        return
    box = page.locator('[data-testid="stDataFrame"]').bounding_box()
    page.mouse.click(box["x"] + 17, box["y"] + 34 + 14)
    page.get_by_role("button", name="Delete").wait_for()
    if action == "rename":
        page.get_by_label("Title").fill(f"Named {id(page)}")
    if action == "tag":
        page.get_by_label("Tags").fill("both")


def _act(page: Any, action: str, run: str) -> None:
    """The click that does it; it returns before the server has answered."""
    if action == "stop":
        page.locator(_STOP.format(run)).click(no_wait_after=True)
        return
    name = {"rename": "Save", "tag": "Save", "archive": "Archive", "delete": "Delete"}[action]
    page.get_by_role("button", name=name, exact=True).click(no_wait_after=True)


def _settled(page: Any) -> None:
    page.wait_for_timeout(1000)  # for what was clicked to arrive
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')

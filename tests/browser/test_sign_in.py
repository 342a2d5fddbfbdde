"""Signing in with a real provider on this machine, in a real browser: who may look, change, or see nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("authlib", reason="signing in needs requirements-signin.txt")
from playwright.sync_api import BrowserContext, Page, expect  # noqa: E402

from dynat_core.store.runs import RunStore  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.pages import PATIENCE, settled, tick  # noqa: E402
from tests.forged import Forged  # noqa: E402
from tests.oidc import Provider  # noqa: E402
from tests.running import tiny  # noqa: E402
from tests.servers import free_port  # noqa: E402

pytestmark = pytest.mark.browser
ROLES = """
[dynat]
editors = ["ada@lab.test"]
viewers = ["*@lab.test"]
"""
PEOPLE = {
    "Ada": {"email": "ada@lab.test", "email_verified": True},
    "Ben": {"email": "ben@lab.test", "email_verified": True},
    "Eve": {"email": "eve@elsewhere.test", "email_verified": True},
    "Mallory": {"email": "ada@lab.test", "email_verified": False},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store with a shipped run and two of one's own."""
    made = tmp_path_factory.mktemp("signed") / "store"
    shutil.copytree(ROOT / "checkpoints" / "demo-digits-standard", made / "demo-digits-standard")
    for seed, name in enumerate(("run-a", "run-b")):
        (RunStore(made).create(tiny(seed=seed), name).folder / "stop").touch()
    return made


@pytest.fixture(scope="module")
def address(serve, folder, tmp_path_factory) -> Iterator[str]:
    """A server whose people sign in."""
    with Provider(PEOPLE) as provider:
        port = free_port()
        file = tmp_path_factory.mktemp("secrets") / "secrets.toml"
        file.write_text(provider.secrets(f"http://127.0.0.1:{port}/oauth2callback", ROLES))
        yield serve("app.py", port, DYNAT_STORE=str(folder), STREAMLIT_SECRETS_FILES=str(file))


@pytest.fixture
def visit(chromium, address) -> Iterator[Callable[[str, str], Page]]:
    """visit(name, path) -> the page as somebody sees it who has signed in; "" for nobody."""
    contexts: list[BrowserContext] = []

    def go(name: str, path: str = "") -> Page:
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/{path}")
        if name:
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.get_by_role("link", name=name, exact=True).click()
            page.wait_for_url(re.compile(re.escape(address)))
            settled(page)
            if path:
                page.goto(f"{address}/{path}")
        page.wait_for_selector(".dynat-question, [data-testid=stMain] button")
        settled(page)
        return page

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize("path", ["", "runs", "train", "check", "trajectory?run=demo-digits-standard"])
def test_nobody_sees_anything_but_the_way_in(visit, path):
    page = visit("", path)
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    words = "Dynat Sign in to look at the runs of this machine. Sign in"
    expect(page.locator('[data-testid="stMain"]')).to_have_text(words, use_inner_text=True)


def test_an_editor_deletes_and_takes_it_back(visit, folder):
    page = visit("Ada", "runs")
    expect(page.get_by_text("ada@lab.test")).to_be_visible()
    tick(page, 0)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("1 run deleted.")).to_be_visible()
    assert len(RunStore(folder).list()) == 2
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    assert len(RunStore(folder).list()) == 3


def test_a_viewer_looks_and_every_button_that_changes_something_is_dead_and_says_why(visit, folder):
    page = visit("Ben", "runs")
    expect(page.get_by_text("ben@lab.test")).to_be_visible()
    tick(page, 0)
    for name in ("Delete", "Archive", "Save"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    settled(page)  # nothing moves under the pointer any more
    page.get_by_role("button", name="Delete").hover(force=True)
    expect(page.get_by_text("You may look here, not change anything")).to_be_visible()
    page.goto(page.url.replace("/runs", "/train"))
    expect(page.get_by_role("button", name="Start the run")).to_be_disabled()
    page.goto(page.url.replace("/train", "/trajectory?run=demo-digits-standard"))
    expect(page.locator(".dy-sentence")).to_contain_text("Step 4")
    assert len(RunStore(folder).list()) == 3


@pytest.mark.parametrize("name", ["Eve", "Mallory"])
def test_an_account_that_is_on_no_list_or_whose_address_is_not_verified_sees_nothing(visit, name):
    page = visit(name)
    expect(page.get_by_text("may not look at anything here")).to_be_visible()
    assert page.locator(".dynat-question").count() == 0
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_signing_out_leads_back_to_the_way_in(visit):
    page = visit("Ben")
    page.get_by_role("button", name="ben@lab.test").click()
    with page.expect_navigation():  # the way out leads over another address
        page.get_by_role("button", name="Sign out").click()
    settled(page)
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_a_forged_press_of_a_dead_button_does_nothing(visit, address, folder):
    """What a browser would never send: the button's own message, over the viewer's own connection."""
    page = visit("Ben", "runs")
    cookies = "; ".join(f"{c['name']}={c['value']}" for c in page.context.cookies())
    with Forged(address, cookies) as line:
        line.open("runs")
        line.select("All runs", [0])
        assert line.is_disabled("Delete")
        line.press("Delete")
        assert "You may look here, not change anything" in line.words()
        line.open("train")
        assert line.is_disabled("Start the run")
        line.press("Start the run")
        assert "You may look here, not change anything" in line.words()
    assert len(RunStore(folder).list()) == 3


def test_the_same_press_by_an_editor_is_heard(visit, address, folder):
    page = visit("Ada", "runs")
    cookies = "; ".join(f"{c['name']}={c['value']}" for c in page.context.cookies())
    with Forged(address, cookies) as line:
        line.open("runs")
        line.select("All runs", [0])
        line.press("Archive")
        assert "1 run archived." in line.words()


def test_a_cookie_that_was_not_signed_here_is_nobody_s(visit, address):
    page = visit("Ada")
    cookies = "; ".join(f"{c['name']}={c['value'][:-3]}AAA" for c in page.context.cookies())
    with Forged(address, cookies) as line:
        line.open("runs")
        assert "Sign in to look at the runs" in line.words()

"""What a real browser makes of a run that somebody gave a wicked name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from dynat_core.store.runs import RunStore  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.pages import PATIENCE, settled  # noqa: E402

pytestmark = pytest.mark.browser
DEMOS = ("demo-digits-dynamic", "demo-digits-standard")
NAME = "[x](javascript:alert(1)) ![y](http://far.away/y.png) <b>z</b> $a^2$ `q www.far.away @ink"
LINK = '<a href="http://far.away">click</a> :red[s]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("wicked") / "store"
    for name, title in zip(DEMOS, (NAME, LINK), strict=True):
        shutil.copytree(ROOT / "checkpoints" / name, made / name)
        RunStore(made).open(name).set_label(title=title, tags=[NAME[:39]], note=LINK)
    return made


PATHS = ("", "epochs", "runs", "smoothness?of=demo-digits-standard", f"compare?run={','.join(DEMOS)}")


@pytest.mark.parametrize("path", PATHS)
def test_a_wicked_name_is_only_a_name(chromium, serve, folder, path):
    address = serve("app.py", DYNAT_STORE=str(folder), DYNAT_WORKER_IDLE="2")
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page, far, dialogs = context.new_page(), [], []
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: far.append(request.url) if "far.away" in request.url else None)
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    try:
        page.goto(f"{address}/{path}")
        expect(page.locator(".dynat-question")).to_be_visible()
        settled(page)
        page.wait_for_timeout(500)
        assert not far and not dialogs
        for selector in ('[href^="javascript"]', '[href*="far.away"]', '[src*="far.away"]', "svg a"):
            assert page.locator(selector).count() == 0, selector
        if path != "smoothness?of=demo-digits-standard":  # has formulas of its own
            assert page.locator(".katex").count() == 0
        assert not page.get_by_text("error of its own").count()
    finally:
        context.close()

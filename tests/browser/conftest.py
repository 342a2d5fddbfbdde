"""A real Chromium and real Streamlit servers for the tests of screens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import free_port
from tools.install_browser import find_browser

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("demo-digits-dynamic", "demo-digits-standard", "demo-digits-unsecured")


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """The browser; without one these tests are skipped loudly, and fail with CI=true."""
    path = find_browser()
    if path is None:
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)("no Chromium: run make test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(path), args=["--no-sandbox", "--headless", "--disable-gpu", "--process-per-site"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def window(chromium) -> Iterator:
    """The window that pages share.

    An empty page of the servers' site stays open in it: the process of its pages (--process-per-site) then lives from
    test to test and has compiled all scripts already, so that a page takes a third of the time to load.
    """
    with chromium.new_context(viewport={"width": 1280, "height": 800}) as made:
        stays = made.new_page()
        stays.route("**/*", lambda route: route.fulfill(body=""))
        stays.goto("http://127.0.0.1/")
        yield made


@pytest.fixture
def new_page(window) -> Iterator[Callable]:
    """new_page(**media) -> an empty page, with a theme or less motion; trouble in it fails the test at its end."""
    from tests.browser.pages import PATIENCE, watch

    pages, troubles = [], []

    def open_one(**media):
        page = window.new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.emulate_media(**media)
        watch(page, troubles)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert not troubles


class Servers:
    """servers(script, **environment) -> address: a Streamlit server on a free port; asked again, the same server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple, str] = {}
        self._processes: dict[str, subprocess.Popen] = {}

    def __call__(self, script: Path | str, port: int | None = None, **environment: str) -> str:
        """port: where a server must stand whose address somebody else knows; any free one by default."""
        key = (str(script), port, *sorted(environment.items()))
        if key not in self._known:
            self._known[key] = self._start(ROOT / script, port or free_port(), environment)
        return self._known[key]

    def process(self, address: str) -> subprocess.Popen:
        """The server at an address."""
        return self._processes[address]

    def _start(self, script: Path, port: int, environment: dict[str, str]) -> str:
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port),
                   "--server.address", "127.0.0.1", "--server.headless", "true"]  # fmt: skip
        log = self._folder / f"server-{port}.log"
        with open(log, "wb") as out:
            server = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=out, stderr=out)
        address = f"http://127.0.0.1:{port}"
        self._processes[address] = server
        _await(address, server, log)
        return address

    def end(self) -> None:
        """End them all."""
        for server in self._processes.values():
            server.terminate()
        for server in self._processes.values():
            server.wait(timeout=60)


@pytest.fixture(scope="session")
def serve(tmp_path_factory) -> Iterator[Servers]:
    """Streamlit servers, ended after the tests; what they print is kept beside pytest's other temporary files."""
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.end()


@pytest.fixture(scope="session")
def shipped(serve, tmp_path_factory) -> str:
    """The address of a server with the three shipped digits runs, which no test changes."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in SHIPPED:
        shutil.copytree(ROOT / "checkpoints" / name, folder / name)
    return serve("app.py", DYNAT_STORE=str(folder))


def _await(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"streamlit ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"streamlit did not answer at {address}")

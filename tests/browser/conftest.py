"""A real Chromium and real Streamlit servers for the tests of screens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.install_browser import find_browser

ROOT = Path(__file__).resolve().parents[2]
QUIET = ("_stcore/health", "_stcore/host-config")  # Streamlit's own probes on sub-pages answer 404


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """The browser; without one these tests are skipped loudly, and fail with CI=true."""
    path = find_browser()
    if path is None:
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)("no Chromium: run make test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(path), args=["--no-sandbox", "--headless", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """serve(script, **environment) -> address: a Streamlit server on a free port, ended after the tests."""
    servers: list[subprocess.Popen] = []
    known: dict[tuple, str] = {}

    def start(script: Path | str, **environment: str) -> str:
        key = (str(script), *sorted(environment.items()))
        if key not in known:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = [sys.executable, "-m", "streamlit", "run", str(ROOT / script), "--server.port", str(port),
                       "--server.address", "127.0.0.1", "--server.headless", "true"]  # fmt: skip
            servers.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
            )
            known[key] = f"http://127.0.0.1:{port}"
            _await(known[key], servers[-1])
        return known[key]

    yield start
    for server in servers:
        server.terminate()
    for server in servers:
        server.wait(timeout=10)


def _await(address: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"streamlit ended: {server.stderr.read().decode() if server.stderr else ''}")
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"streamlit did not answer at {address}")

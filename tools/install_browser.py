"""See to it that the browser tests have a browser: `python tools/install_browser.py`.

Takes the first of these that really starts: the one named by DYNAT_BROWSER; a Chromium or Chrome on this machine;
one from apt-get, where this user may use it; Playwright's own. Prints the path that was found as its last line.
Where none can be had it says so loudly and exits 0, so that the other tests still run; with CI=true it exits 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


def starts(browser: str) -> bool:
    """Whether this browser draws an empty page. A file that is there may still lack libraries, or be an empty shell."""
    command = [browser, *FLAGS, "--dump-dom", "data:text/html,<p>here</p>"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "here" in done.stdout


def candidates() -> Iterator[str]:
    """Browsers that may be on this machine, the wanted one first."""
    named = os.environ.get("DYNAT_BROWSER")
    if named:
        yield named
        return
    for name in NAMES:
        found = shutil.which(name)
        if found:
            yield found
    yield from (place for place in PLACES if Path(place).exists())
    own = playwright_chromium()
    if own is not None and own.exists():
        yield str(own)


def playwright_chromium() -> Path | None:
    """Where Playwright keeps the Chromium it downloads; None without Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def find_browser() -> str | None:
    """The path of a browser that starts, or None."""
    return next((browser for browser in candidates() if starts(browser)), None)


def as_root() -> list[str] | None:
    """What to put before a command that needs root; None where this user may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def attempt(command: list[str], seconds: int = 600) -> bool:
    """Run a command in the open; a failure is only one way less."""
    print("+", " ".join(command), flush=True)
    try:
        return subprocess.run(command, timeout=seconds).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, flush=True)
        return False


def install_with_apt() -> None:
    """Debian has `chromium`; Ubuntu's package of that name only points to a snap, which `starts` then finds out."""
    root = as_root()
    if root is None or not shutil.which("apt-get"):
        return
    quiet = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    attempt([*quiet, "update"], 180)
    attempt([*quiet, "install", "-y", "--no-install-recommends", "chromium"])


def install_with_playwright() -> None:
    """Playwright's Chromium into the user's cache; its system libraries too, where this user may install them."""
    attempt([sys.executable, "-m", "playwright", "install", "chromium"])
    if as_root() is not None and shutil.which("apt-get") and find_browser() is None:
        attempt([sys.executable, "-m", "playwright", "install-deps", "chromium"])


def main() -> int:
    """Find a browser, or get one."""
    browser = find_browser()
    for install in (install_with_apt, install_with_playwright):
        if browser is None and not os.environ.get("DYNAT_BROWSER"):
            install()
            browser = find_browser()
    if browser is not None:
        print(browser)
        return 0
    strict = os.environ.get("CI", "").lower() == "true"
    named = os.environ.get("DYNAT_BROWSER")
    print("*" * 100, file=sys.stderr)
    if named:
        print(f"{named}, named by DYNAT_BROWSER, does not start.", file=sys.stderr)
    print(
        "NO BROWSER: no Chromium or Chrome starts here and none could be installed. Install one (Debian: apt install\n"
        "chromium), or name it with DYNAT_BROWSER=/path/to/chromium. "
        + ("With CI=true that is a failure." if strict else "THE BROWSER TESTS ARE SKIPPED."),
        file=sys.stderr,
    )
    print("*" * 100, file=sys.stderr)
    return 1 if strict else 0


if __name__ == "__main__":
    sys.exit(main())

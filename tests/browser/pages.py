"""Pages of the browser: what goes wrong in one, when it stands still, and what its address and its cursor say."""

from __future__ import annotations

from playwright.sync_api import Page, expect

PATIENCE = 60_000  # ms: a wait ends as soon as its condition holds, so slow machines only need more of it
_HERE = ("http://127.0.0.1:", "file:", "data:", "blob:")
_PROBES = ("_stcore/health", "_stcore/host-config")  # Streamlit's own, which sub-pages answer with 404
expect.set_options(timeout=PATIENCE)


def watch(page: Page, troubles: list[str]) -> None:
    """Add to `troubles` what goes wrong in the page from now on: errors of its scripts and in its console, and what it
    asks of other machines."""
    page.on("request", lambda asked: None if asked.url.startswith(_HERE) else troubles.append(asked.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" and not _probe(said) else None)


def _probe(message) -> bool:
    return any(part in (message.location or {}).get("url", "") for part in _PROBES)


def brightness(page: Page) -> tuple[float, float]:
    """How light the ground and the letters of a screen are, from 0 to 1."""
    ground, ink = page.evaluate("""() => {
        const light = color => color.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 765;
        const app = document.querySelector(".stApp"), words = document.querySelector(".dynat-question");
        return [light(getComputedStyle(app).backgroundColor), light(getComputedStyle(words).color)];
    }""")
    return ground, ink


def turn_light(page: Page) -> None:
    """Change the theme of a screen that was opened in the dark, and wait until it has followed."""
    ground, ink = brightness(page)
    assert ground < 0.15 and ink > 0.7
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/[0-9]+/g)[0] > 229"
    )
    settled(page)
    ground, ink = brightness(page)
    assert ground > 0.9 and ink < 0.3


def settled(page: Page) -> None:
    """Wait until no script of the server runs for the page."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def drawn(page: Page) -> None:
    """Wait until the frame with the last change is drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_query(page: Page, screen: str | None = None, **values: str | None) -> None:
    """Wait until the address is that of `screen` and has these values; None: without it, "*": whatever it is."""
    page.wait_for_function(
        """([screen, values]) => {
            const query = new URLSearchParams(location.search), there = location.pathname.split("/").pop();
            return (screen === null || there === screen) && Object.entries(values).every(([name, value]) =>
                value === "*" ? query.has(name) : query.get(name) === value);
        }""",
        arg=[screen, values],
    )


def wait_cursor(page: Page, i: int) -> None:
    """Wait until the page's cursor is at `i`."""
    page.wait_for_function("i => document.querySelector('.dy-bar .dy-range')?.value === i", arg=str(i))


def press(page: Page, *keys: str) -> None:
    """Press the keys one after another."""
    for key in keys:
        page.keyboard.press(key)

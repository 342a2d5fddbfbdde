"""Pages of the browser: what goes wrong in one, when it stands still, and what its address and its cursor say."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

PATIENCE = 180_000  # ms: a wait ends as soon as its condition holds, so slow machines only need more of it
_HERE = ("http://127.0.0.1:", "file:", "data:", "blob:")
_PROBES = ("_stcore/health", "_stcore/host-config")  # Streamlit's own, which sub-pages answer with 404
expect.set_options(timeout=PATIENCE)
_LIGHT = """() => {
    const light = color => color.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 765;
    const app = document.querySelector(".stApp"), words = document.querySelector(".dynat-question");
    return [light(getComputedStyle(app).backgroundColor), light(getComputedStyle(words).color)];
}"""


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
    ground, ink = page.evaluate(_LIGHT)
    return ground, ink


def turn_light(page: Page) -> None:
    """Change the theme of a screen that was opened in the dark, and wait until it has followed."""
    ground, ink = brightness(page)
    assert ground < 0.15 and ink > 0.7
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"() => {{ const [ground, ink] = ({_LIGHT})(); return ground > 0.9 && ink < 0.3; }}")
    settled(page)


def settled(page: Page) -> None:
    """Wait until no script of the server runs for the page.

    Right after a key or a click this says nothing: the script has not begun yet. Wait for what it does instead.
    """
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


def press_at_once(page: Page, *keys: str) -> None:
    """Press the keys so fast that nothing comes between them, as no machine is too slow to see them."""
    page.evaluate(
        """keys => { for (const key of keys) {
            const how = {key, bubbles: true, cancelable: true};
            (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent("keydown", how));
        } }""",
        list(keys),
    )


def button(page: Page, name: str) -> Locator:
    """A button of the screen; while a script runs for long, the frame around it has one called Stop, too."""
    return page.get_by_test_id("stMainBlockContainer").get_by_role("button", name=name, exact=True)


def tick(page: Page, row: int) -> None:
    """Tick the checkbox of a row of the screen's table; its cells are drawn on a canvas."""
    expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()  # there before it is, the box takes no click
    box = page.get_by_test_id("stDataFrame").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 17, box["y"] + 34 + 29 * row + 14)

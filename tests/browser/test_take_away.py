"""What is taken away, in a real browser: reports opened from disk without a network, pictures saved at the cursor."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("playwright")
from PIL import Image  # noqa: E402
from playwright.sync_api import Page, expect  # noqa: E402

from dynat_core.reports import comparison_report, report  # noqa: E402
from dynat_core.store.evaluations import evaluations  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from tests.browser.pages import settled  # noqa: E402
from tests.ladders import make_ladder  # noqa: E402

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
PAIR = ("demo-digits-dynamic", "demo-digits-standard")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store with copies of the two shipped digits runs, one with a small ladder."""
    target = tmp_path_factory.mktemp("take-away") / "store"
    for name in PAIR:
        shutil.copytree(ROOT / "checkpoints" / name, target / name)
    make_ladder(RunStore(target).open(PAIR[0]), 20)
    return target


@pytest.fixture
def opened(chromium, tmp_path) -> Iterator[Callable[..., Page]]:
    """opened(content, **media) -> the file, opened from disk with the network off; any request or error fails."""
    contexts, troubles = [], []

    def go(content: bytes, **media) -> Page:
        (tmp_path / "report.html").write_bytes(content)
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 800}, offline=True, **media))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        asked = ("file:", "data:")
        page.on("request", lambda r: None if r.url.startswith(asked) else troubles.append(r.url))
        page.goto((tmp_path / "report.html").as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert not troubles


def reports(folder: Path) -> dict[str, bytes]:
    runs = [RunStore(folder).open(name) for name in PAIR]
    return {
        "run": report.run_report(runs[0]),
        "evaluation": report.evaluation_report(runs[0], evaluations(runs[0].folder)[0]),
        "comparison": comparison_report.comparison_report(runs),
    }


@pytest.mark.parametrize("kind", ["run", "evaluation", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_from_disk_without_a_network_in_both_themes(opened, folder, kind, scheme):
    content = reports(folder)[kind]
    assert len(content) < 5_000_000 and b"<script" not in content
    page = opened(content, color_scheme=scheme)
    expect(page.locator("h1")).to_be_visible()
    ground, ink = page.evaluate("""() => {
        const light = color => color.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 765;
        const style = getComputedStyle(document.body);
        return [light(style.backgroundColor), light(style.color)];
    }""")
    assert ink - ground > 0.6 if scheme == "dark" else ground - ink > 0.6
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    for box in (svg.bounding_box() for svg in page.locator("figure svg").all()):
        assert box and box["width"] > 200 and box["height"] > 80
    assert "95 % intervals" in page.locator("body").inner_text()
    page.emulate_media(media="print")
    expect(page.locator("a[download]").first).to_be_hidden()


def test_the_table_in_a_report_opens_in_pandas(folder):
    links = re.findall(r'href="data:text/csv;base64,([^"]+)"', reports(folder)["comparison"].decode())
    table = pd.read_csv(io.BytesIO(base64.b64decode(links[0])))
    assert table["run"].tolist() == list(PAIR)


def test_a_title_is_text_in_a_report(opened, folder, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(folder, copy)
    run = RunStore(copy).open(PAIR[0])
    run.set_label(title="<img src=http://far.away/x onerror=alert(1)>")
    page = opened(report.run_report(RunStore(copy).open(PAIR[0])))
    expect(page.locator("h1")).to_have_text("<img src=http://far.away/x onerror=alert(1)>")


@pytest.fixture
def scrubbed(new_page, serve) -> Page:
    """The scrubber's own small page at epoch 5."""
    page = new_page()
    page.goto(f"{serve('tests/browser/apps/scrub.py')}/?epoch=5")
    page.wait_for_selector(".dy[data-ready]")
    return page


def test_a_picture_is_saved_at_the_cursor_in_three_forms_by_keyboard_alone(scrubbed, opened):
    page = scrubbed
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    expect(page.get_by_role("dialog", name="Save a picture")).to_be_visible()
    page.locator(".dy-which").select_option(label="How often is it right?")
    saved = {}
    for form in ("PNG", "SVG", "HTML"):
        page.get_by_role("button", name=form, exact=True).focus()
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == f"accuracy-epoch-6.{form.lower()}"
        saved[form] = Path(download.value.path()).read_bytes()
        expect(page.locator(".dy-saved")).to_have_text(f"Saved as accuracy-epoch-6.{form.lower()}")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Save a picture")).to_be_hidden()
    image = Image.open(io.BytesIO(saved["PNG"]))
    assert image.width > 600 and len(image.convert("RGB").getcolors(1 << 20) or ()) > 20
    assert b"How often is it right? (epoch 6)" in saved["SVG"] and b"var(--" not in saved["SVG"]
    alone = opened(saved["HTML"])
    expect(alone.locator("h1")).to_have_text("How often is it right?")
    expect(alone.locator("p")).to_contain_text("Epoch 6")
    assert b"<script" not in saved["HTML"] and alone.locator("body > svg").bounding_box()


def test_the_compare_screen_stands_in_the_dark_and_saves_what_it_shows(new_page, shipped):
    page = new_page(color_scheme="dark")
    page.goto(f"{shipped}/compare?run={','.join(PAIR)}")
    expect(page.get_by_text("Digits, Standard − Digits, Dynamic: ")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.wait_for_function("""() => {  // the letters of the chart are not dark on a dark ground
        const letters = document.querySelector(".js-plotly-plot .xtick text");
        const axis = letters ? getComputedStyle(letters).fill : "0 0 0";
        return axis.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) > 3 * 120;
    }""")
    with page.expect_download() as download:
        page.get_by_role("button", name="Report (HTML)").click()
    assert b"Which is better, and is it luck?" in Path(download.value.path()).read_bytes()
    page.get_by_role("button", name="Open image 0").click()
    page.wait_for_function("location.pathname.endsWith('/trajectory') && location.search.includes('image=0')")
    assert f"run={PAIR[0]}%2C{PAIR[1]}" in page.url or f"run={PAIR[0]},{PAIR[1]}" in page.url

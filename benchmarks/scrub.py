"""How fast scrubbing is in a real browser: `python benchmarks/scrub.py [--epochs 120] [--samples 10000] [--moves 120]`.

Two made-up runs are laid over each other and served on a loopback port. Every move of the cursor is timed twice: the
JavaScript it runs, and the time until the next painted frame (the second animation frame after it), beside what two
animation frames take when nothing happens. While the cursor moves no message may go to the server.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dynat_core import views  # noqa: E402
from dynat_core.recorded.packing import pack  # noqa: E402
from tests.servers import started  # noqa: E402
from tests.synthetic import named  # noqa: E402
from tools.install_browser import find_browser  # noqa: E402

COUNT_MESSAGES = """() => {
  const send = WebSocket.prototype.send;
  window.sent = 0;
  WebSocket.prototype.send = function (...rest) { window.sent++; return send.apply(this, rest); };
}"""
IDLE = """async n => {
  const times = [];
  for (let k = 0; k < n; k++) {
    const began = performance.now();
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    times.push(performance.now() - began);
  }
  return times;
}"""
MOVE = """async ([n, last]) => {
  const root = document.querySelector(".dy"), range = root.querySelector(".dy-bar .dy-range");
  const script = [], painted = [];
  for (let k = 0; k < n; k++) {
    range.value = Math.round((0.5 + 0.5 * Math.sin(k * 0.7)) * last);
    const began = performance.now();
    range.dispatchEvent(new Event("input", {bubbles: true}));
    const handled = performance.now() - began;
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    painted.push(performance.now() - began);
    script.push(handled + root.drawn);
  }
  return {script, painted};
}"""
WATCH = """() => {
  window.frames_ = []; window.long = [];
  const note = list => window.long.push(...list.getEntries().map(e => e.duration));
  new PerformanceObserver(note).observe({type: "longtask"});
  const tick = t => { window.frames_.push(t); window.watching = requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""


@contextmanager
def served(query: str) -> Iterator[str]:
    """The address of the benchmark's page, served while the block runs."""
    server = started(ROOT / "tests" / "browser" / "apps" / "scrub.py")
    try:
        yield f"{server.address}/?{query}"
    finally:
        server.end()


def told(name: str, times: list[float]) -> None:
    p50, p95 = np.percentile(times, [50, 95])
    print(f"{name:<48} p50 {p50:6.1f}   p95 {p95:6.1f} ms   ({len(times)} moves)")


def open_page(browser, address: str, context=None):
    """A page whose charts stand, and the seconds that took."""
    page = (context or browser.new_context(viewport={"width": 1280, "height": 800})).new_page()
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".dy[data-ready]", timeout=60_000)
    return page, time.perf_counter() - began


def drag(page) -> tuple[float, int]:
    """(frames per second, tasks over 50 ms) while the mouse drags the cursor over the whole range in 4 s."""
    box = page.locator(".dy-bar .dy-range").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 9, y)
    page.mouse.down()
    page.evaluate(WATCH)
    began = time.perf_counter()
    for k in range(240):
        page.mouse.move(box["x"] + 9 + k / 239 * (box["width"] - 18), y)
        time.sleep(max(0, began + (k + 1) / 60 - time.perf_counter()))
    frames = page.evaluate("() => { cancelAnimationFrame(window.watching); return window.frames_; }")
    page.mouse.up()
    return (len(frames) - 1) / (frames[-1] - frames[0]) * 1000, page.evaluate("window.long.length")


def describe(asked: argparse.Namespace) -> None:
    """Print what is drawn, and what of it travels."""
    runs = named("dynamic", "standard", epochs=asked.epochs, samples=asked.samples)
    began = time.perf_counter()
    scene = views.epochs(runs)
    built = time.perf_counter() - began
    blob, numbers = pack(scene.header(), scene.arrays), sum(a.nbytes for a in scene.arrays.values())
    busy = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{asked.epochs} epochs x {asked.samples:,} samples, 2 runs; {busy}")
    print(f"scene built in {built * 1000:.0f} ms; {len(blob) / 1000:.0f} kB, {numbers / 1000:.0f} kB of it numbers")


def measure(page, asked: argparse.Namespace) -> int:
    """Print the times of moves in each kind of view; return the messages sent while the cursor moved."""
    page.wait_for_timeout(1500)
    page.evaluate(COUNT_MESSAGES)
    page.evaluate(IDLE, 10)
    told("two animation frames, idle", page.evaluate(IDLE, asked.moves))
    sent = 0
    for kind in ("histogram", "cumulative", "heat map"):
        page.evaluate("window.sent = 0")
        page.evaluate(MOVE, [10, asked.epochs])
        found = page.evaluate(MOVE, [asked.moves, asked.epochs])
        told(f"{kind}: JavaScript of a move", found["script"])
        told(f"{kind}: to the next painted frame", found["painted"])
        sent += page.evaluate("window.sent")
        page.keyboard.press("v")
        page.wait_for_timeout(2500)
    page.evaluate("window.sent = 0")
    rate, long = drag(page)
    print(f"dragged by mouse for 4 s: {rate:.0f} frames per second, {long} tasks over 50 ms")
    return sent + page.evaluate("window.sent")


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast scrubbing is in a real browser.")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--moves", type=int, default=120)
    asked = parser.parse_args()
    browser_path = find_browser()
    if browser_path is None:
        print("There is no Chromium on this machine; run python tools/install_browser.py.", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    describe(asked)
    with served(f"epoch=0&epochs={asked.epochs}&samples={asked.samples}") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(browser_path), args=["--no-sandbox", "--headless", "--disable-gpu"]
        )
        open_page(browser, address)[0].close()  # the server makes up its numbers once
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page, cold = open_page(browser, address, context)
        page.close()
        page, warm = open_page(browser, address, context)
        print(f"first paint: cold {cold:.2f} s, warm {warm:.2f} s")
        sent = measure(page, asked)
        print(f"messages sent while the cursor moved: {sent}")
        browser.close()
    return 1 if sent else 0


if __name__ == "__main__":
    sys.exit(main())

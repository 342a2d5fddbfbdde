"""Many sessions at once, and one real browser among them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from typing import Any

from tests.sessions import Session
from tools.install_browser import find_browser

PAIR = "demo-digits-dynamic,demo-digits-standard"
IMAGES = 400  # test images that trajectories are asked of


class Crowd:
    """Sessions of three kinds, and what they waited for."""

    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.random = random.Random(seed)
        self.times: dict[str, list[float]] = defaultdict(list)
        self.lines: list[int] = []  # the longest "n before you" that each trajectory's wait showed
        self.errors: list[str] = []
        self.received = 0
        self._asked = 1000 * seed
        self._tasks: list[asyncio.Task[None]] = []
        self._leave = asyncio.Event()

    async def come(self, n: int, within: float) -> None:
        """Have n more sessions open their screens within so many seconds; returns when all of them are painted."""
        painted = []
        for _ in range(n):
            kind = (self._scrub, self._watch, self._ask)[len(self._tasks) % 3]
            painted.append(asyncio.Event())
            wait = self.random.uniform(0, within)
            self._tasks.append(asyncio.create_task(self._guarded(kind, wait, painted[-1])))
        await asyncio.gather(*(event.wait() for event in painted))

    async def leave(self) -> None:
        """All sessions end."""
        self._leave.set()
        await asyncio.gather(*self._tasks)

    async def _guarded(self, kind: Any, wait: float, painted: asyncio.Event) -> None:
        try:
            await asyncio.sleep(wait)
            async with Session(self.address) as tab:
                await kind(tab, painted)
                self.received += tab.bytes
        except Exception as error:  # noqa: BLE001 - whatever it was is counted, and the others go on
            self.errors.append(f"{type(error).__name__}: {error}"[:200])
        finally:
            painted.set()

    async def _scrub(self, tab: Session, painted: asyncio.Event) -> None:
        self.times["first paint, epochs"].append(await tab.open("epochs", run=PAIR))
        painted.set()
        while await self._stays(tab, 2, 6):
            self.times["cursor let go"].append(await tab.let_go("epochs", self.random.randrange(31)))

    async def _watch(self, tab: Session, painted: asyncio.Event) -> None:
        self.times["first paint, live run"].append(await tab.open("epochs", run="live"))
        painted.set()
        while await self._stays(tab, 5, 5):
            pass
        self.times["live part repeated"] += tab.repeats

    async def _ask(self, tab: Session, painted: asyncio.Event) -> None:
        self.times["first paint, trajectory"].append(await tab.open("trajectory", run="demo-digits-standard"))
        painted.set()
        while await self._stays(tab, 3, 8):
            self._asked += 1
            query = {"run": PAIR.split(",")[self._asked % 2], "image": str(self._asked % IMAGES), "epoch": "30"}
            steps = 11 + self._asked // IMAGES % 10  # never asked before, never recorded
            took = await tab.open("trajectory", attack=f"{steps},eps/4,ce,random", **query)
            self.times["trajectory computed"].append(took)
            told = [int(line.partition(" before you")[0].rpartition(" ")[2]) for line in tab.said if " before" in line]
            self.lines.append(max(told, default=0))

    async def _stays(self, tab: Session, least: float, most: float) -> bool:
        """Wait a moment, as people do; whether the session goes on after it."""
        self.errors += tab.errors
        tab.errors.clear()
        try:
            await asyncio.wait_for(self._leave.wait(), self.random.uniform(least, most))
        except TimeoutError:
            return True
        return False


async def chromium(address: str) -> dict[str, Any]:
    """A real browser: seconds to its first paint, and the messages it sends while the cursor moves."""
    path = find_browser()
    if path is None:
        return {"chromium": "none on this machine"}
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(path), args=["--no-sandbox", "--headless", "--disable-gpu"]
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        sent: list[int] = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda said: sent.append(len(said))))
        began = time.perf_counter()
        await page.goto(f"{address}/epochs?run={PAIR}", wait_until="commit", timeout=120_000)
        await page.wait_for_selector(".dy[data-ready]", timeout=120_000)
        painted = time.perf_counter() - began
        await page.wait_for_timeout(2000)
        sent.clear()
        moved = """async () => {
          const range = document.querySelector(".dy .dy-bar .dy-range");
          for (let k = 0; k < 60; k++) {
            range.value = k % 31;
            range.dispatchEvent(new Event("input", {bubbles: true}));
            await new Promise(done => requestAnimationFrame(done));
          }
        }"""
        await page.evaluate(moved)
        moves = len(sent)
        await browser.close()
    return {"first paint": round(painted, 2), "messages during 60 moves": moves}

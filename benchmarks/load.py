"""Fifty people at once on one machine: `make load`, or `python benchmarks/load.py [--sessions 50] [--seconds 60]`.

Real websocket sessions on the loopback (see `tests/sessions.py`) and one real Chromium beside them, on a server as
`make run` starts it, while a run trains on a core of its own. A third of the sessions scrubs finished runs, a third
watches the run that trains, a third asks for one computed trajectory after another. The first ten come, then all the
others within a second; they leave; everybody comes once more. The run's pace is measured alone before, between and
after, and with the sessions there. Everything ends by itself after about five minutes.

Browsers and sessions are held on the last core, the training on the first; the server may use all. The numbers are
printed and written to benchmarks/results/load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dynat_core.presets import preset  # noqa: E402
from dynat_core.store.run import Run  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from tests.sessions import Server, Session, served  # noqa: E402
from tools.install_browser import find_browser  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "load.json"
PAIR = "demo-digits-dynamic,demo-digits-standard"
ALONE = 25.0  # seconds of training without sessions, three times
FORGOTTEN = 20  # seconds after which the server forgets a session that left; 120 if nobody says otherwise
ENDLESS = {
    "epochs": 10_000,
    "recording.paths": False,
    "recording.probes": 0,
    "recording.test_images": 50,
    "strategy.steps": 40,
}
IMAGES = 400  # test images that trajectories are asked of


def about() -> dict[str, Any]:
    """The machine, the versions, and how busy it was already."""
    model = "?"
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("streamlit", "websockets", "torch")},
        "load before": round(os.getloadavg()[0], 1),
    }


def p(times: list[float], share: float) -> float | None:
    """A percentile in seconds, None of nothing."""
    return round(float(np.percentile(times, share)), 3) if times else None


# -------------------------------------------------------------------------------------------------------- the training


class Training:
    """A run that trains on its own core, and how fast."""

    def __init__(self, run: Run, core: int) -> None:
        self.run = run
        work = f"from dynat_core.work.worker import run_job; run_job({str(run.folder)!r})"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*on(core), sys.executable, "-c", work], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )

    async def begun(self) -> None:
        """Wait for its third epoch."""
        while len(self.run.records()) < 4:
            if self.process.poll() is not None:
                raise SystemExit("The training ended by itself.")
            await asyncio.sleep(0.1)

    async def pace(self, seconds: float) -> dict[str, float]:
        """Epochs a second between the first and the last that end within so many seconds, and the share of a core."""
        ends: list[float] = []
        began, before, known = time.perf_counter(), self._cpu(), self._epochs()
        while time.perf_counter() - began < seconds:
            if (now := self._epochs()) > known:
                ends += [time.perf_counter()] * (now - known)
                known = now
            await asyncio.sleep(0.02)
        share = (self._cpu() - before) / (time.perf_counter() - began)
        return {"epochs_per_second": (len(ends) - 1) / (ends[-1] - ends[0]), "share_of_core": share}

    def _epochs(self) -> int:
        return self._lines(self.run.folder / "epochs.jsonl")

    @staticmethod
    def _lines(path: Path) -> int:
        return path.read_bytes().count(b"\n")

    def _cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.run.request_stop()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def on(core: int) -> tuple[str, ...]:
    """What starts a command on one core, where that can be said."""
    return ("taskset", "-c", str(core)) if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else ()


@contextmanager
def trained(store: Path) -> Iterator[Training]:
    """An endless run in `store`, working while the block runs."""
    config = preset("demo-digits-standard").with_values({"name": "Digits, live", **ENDLESS})
    training = Training(RunStore(store).create(config, "live"), core=0)
    try:
        yield training
    finally:
        training.end()


# -------------------------------------------------------------------------------------------------------- the sessions


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


# ------------------------------------------------------------------------------------------------------------- the day


async def measured(server: Server, training: Training, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything, in the order of the docstring above."""
    memory: dict[str, dict[str, float]] = {"nobody was here yet": server.memory()}
    async with Session(server.address) as first:  # torch comes into the helper, the code into the server
        for page in ("epochs", "trajectory"):
            await first.open(page, run="demo-digits-standard")
        await first.open("trajectory", run="demo-digits-standard", image="1", attack="10,eps/5,ce,random", epoch="30")
    memory["0 sessions, warm"] = server.memory()
    await training.begun()
    alone, crowded = [await training.pace(ALONE)], []

    crowd = Crowd(server.address, seed=1)
    early = min(10, asked.sessions)
    await crowd.come(early, within=1)
    await asyncio.sleep(5)
    memory[f"{early} sessions"] = server.memory()
    await crowd.come(asked.sessions - early, within=1)
    crowded.append(await training.pace(asked.seconds))
    memory[f"{asked.sessions} sessions"] = server.memory()
    await crowd.leave()
    memory["they left"] = server.memory()
    alone.append(await training.pace(max(ALONE, FORGOTTEN + 5)))
    await _visit(server)
    memory["they are forgotten"] = server.memory()

    again = Crowd(server.address, seed=2)
    await again.come(asked.sessions, within=1)
    real = asyncio.create_task(chromium(server.address))
    crowded.append(await training.pace(asked.seconds * 2 / 3))
    memory["all of them again"] = server.memory()
    browser = await real
    await again.leave()
    alone.append(await training.pace(max(ALONE, FORGOTTEN + 5)))
    await _visit(server)
    memory["forgotten again"] = server.memory()
    return _told(memory, alone, crowded, [crowd, again], browser, asked)


async def _visit(server: Server) -> None:
    """Somebody comes and goes: sessions past their time are dropped when another ends."""
    async with Session(server.address) as tab:
        await tab.open("")


def _told(memory: Any, alone: Any, crowded: Any, crowds: list[Crowd], browser: Any, asked: Any) -> dict[str, Any]:
    names = sorted({name for crowd in crowds for name in crowd.times})
    times = {name: [t for crowd in crowds for t in crowd.times.get(name, [])] for name in names}
    before, after = memory["0 sessions, warm"]["web"], memory[f"{asked.sessions} sessions"]["web"]
    quiet, busy = (np.mean([pace["epochs_per_second"] for pace in paces]) for paces in (alone, crowded))
    return {
        "sessions": asked.sessions,
        "seconds": {k: {"n": len(t), "p50": p(t, 50), "p95": p(t, 95), "most": p(t, 100)} for k, t in times.items()},
        "questions before one's own": {"p50": p(crowds[0].lines + crowds[1].lines, 50),
                                       "most": max(crowds[0].lines + crowds[1].lines, default=0)},
        "errors": sorted(set(crowds[0].errors + crowds[1].errors)),
        "received_mb_per_session": round(sum(c.received for c in crowds) / len(crowds) / asked.sessions / 1e6, 2),
        "memory_mb": {when: {k: round(v) for k, v in found.items()} for when, found in memory.items()},
        "memory_mb_per_session": round((after - before) / asked.sessions, 2),
        "chromium among them": browser,
        "training": {
            "alone": [{k: round(v, 3) for k, v in pace.items()} for pace in alone],
            "with sessions": [{k: round(v, 3) for k, v in pace.items()} for pace in crowded],
            "slower_percent": round(100 * (1 - busy / quiet), 1),
        },
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """The table."""
    print(f"{found['sessions']} sessions; load {found['about']['load before']} before, "
          f"{found['about']['load after']} after, {found['about']['cores']} cores")  # fmt: skip
    for name, t in found["seconds"].items():
        print(f"  {name:<26} p50 {t['p50']:6.2f}  p95 {t['p95']:6.2f}  most {t['most']:6.2f} s   ({t['n']})")
    line = found["questions before one's own"]
    print(f"  questions before one's own: p50 {line['p50']:.0f}, at most {line['most']}; errors: {found['errors']}")
    for when, memory in found["memory_mb"].items():
        print(f"  memory, {when:<20} web {memory['web']:5} MB, helpers {memory['helpers']:5} MB")
    print(f"  memory per session {found['memory_mb_per_session']} MB")
    print(f"  Chromium among them: {found['chromium among them']}")
    print(f"  training on its own core: {found['training']['slower_percent']} % slower with them", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="that the first crowd stays")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found: dict[str, Any] = {"about": about()}
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores - 1})  # we, the sessions and the browser; the server gets all cores back
    everywhere = ("taskset", "-c", f"0-{cores - 1}") if on(0) else ()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        shutil.copytree(ROOT / "checkpoints", store, ignore=shutil.ignore_patterns(".*"))
        options = {"server.disconnectedSessionTTL": str(FORGOTTEN)}
        with trained(store) as training, served(store, prefix=everywhere, options=options) as server:
            found |= asyncio.run(measured(server, training, asked))
    found["about"]["load after"] = round(os.getloadavg()[0], 1)
    asked.results.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()

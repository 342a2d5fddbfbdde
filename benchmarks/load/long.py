"""Long runs, large stores and a server that stays up: `python -m benchmarks.load.long`, a part of `make load`.

A run of 1,000 epochs and a store of 1,000 runs are made up from a shipped one: listing the store, opening the run and
its epochs screen are timed, with the bytes that go to the browser. Then websocket sessions look at screens one after
another, a new session every 20 views, and the memory of the web process is noted after 200, 1,000 and 2,000 views.
The numbers are printed and written to benchmarks/results/long.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load.machine import about
from dynat_core.store.runs import RunStore
from tests.servers import ROOT, Server, served
from tests.sessions import Session
from tests.stores import lengthened, multiplied

RESULTS = ROOT / "benchmarks" / "results" / "long.json"
DEMO = ROOT / "checkpoints" / "demo-digits-dynamic"
FORGOTTEN = 2  # seconds after which the server forgets a session that left
VIEWS = (
    ("", {}),
    ("epochs", {}),
    ("trajectory", {}),
    ("runs", {}),
    ("epochs", {"run": "demo-digits-standard"}),
    ("compare", {}),
    ("trajectory", {"run": "demo-digits-standard", "image": "12"}),
    ("train", {}),
    ("check", {}),
    ("learn", {}),
)


def median_of(task: Callable[[], Any], n: int = 3) -> float:
    """The median of n times, in seconds."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        task()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times), 3)


def fresh(work: str) -> dict[str, float]:
    """Seconds and processor seconds of `work`, the medians of three processes that have read nothing before."""
    said = []
    for _ in range(3):
        program = TIMED.format(work=work)
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        said.append([float(word) for word in done.stdout.split()])
    wall, processor = (round(statistics.median(times), 3) for times in zip(*said, strict=True))
    return {"first": wall, "first, processor": processor}


TIMED = """
import time
from dynat_core.store.runs import RunStore
began, spent = time.perf_counter(), time.process_time()
{work}
print(time.perf_counter() - began, time.process_time() - spent)
"""


def listing(store: Path) -> dict[str, float]:
    """Seconds to list all runs with state and title: the first time in a process, and again."""
    work = f"[(run.id, run.state, run.title) for run in RunStore({str(store)!r}).list()]"
    known = RunStore(store)
    return {
        "runs": len(known.list()),
        **fresh(work),
        "again": median_of(lambda: [(run.id, run.state, run.title) for run in known.list()]),
    }


def opening(store: Path) -> dict[str, float]:
    """Seconds to read a long run's whole history: the first time in a process, and again."""
    run = RunStore(store).open("long")
    return {
        "epochs": len(run.history()) - 1,
        **fresh(f"len(RunStore({str(store)!r}).open('long').history())"),
        "again": median_of(run.history),
    }


async def screens(server: Server) -> dict[str, Any]:
    """Seconds and kB of screens on the long run and on the large store, the first time and again in a new tab."""
    found: dict[str, Any] = {}
    cases = {
        "epochs of the long run": ("epochs", {"run": "long"}),
        "two long runs": ("epochs", {"run": "long,long-2"}),
        "trajectory of the long run": ("trajectory", {"run": "long"}),
        "all runs": ("runs", {}),
        "overview": ("", {}),
    }
    async with Session(server.address) as tab:
        await tab.open("learn")  # the code is there, nothing of these is
    for name, (page, query) in cases.items():
        taken, spent = [], server.processor()["web"]
        for _ in range(4):
            async with Session(server.address) as tab:
                taken.append((await tab.open(page, **query), tab.bytes, list(tab.errors)))
            if len(taken) == 1:
                spent = server.processor()["web"] - spent
        found[name] = {
            "first": round(taken[0][0], 3),
            "first, processor": round(spent, 3),
            "again": round(statistics.median(t for t, *_ in taken[1:]), 3),
            "kB": round(taken[0][1] / 1000),
            "errors": taken[0][2],
        }
    return found


async def viewing(server: Server, views: int) -> dict[str, float]:
    """MB of the web process after so many views; twenty a session, and every session left before the next comes."""
    marks = sorted({0, views // 10, views // 4, views // 2, 3 * views // 4, views})
    memory: dict[str, float] = {}
    done = 0
    while True:
        if done in marks:
            memory[str(done)] = round(server.memory()["web"], 1)
        if done >= views:
            return memory
        async with Session(server.address) as tab:
            until = min(m for m in (*marks, done + 20) if m > done)
            while done < until:
                page, query = VIEWS[done % len(VIEWS)]
                await tab.open(page, **query)
                done += 1


def show(found: dict[str, Any]) -> None:
    """The table."""
    said = found["about"]
    print(f"long runs; load {said['load before']} before, {said['load after']} after, {said['cores']} cores")
    for name in ("listing", "opening"):
        print(f"  {name:<28} " + ", ".join(f"{key} {value:g}" for key, value in found[name].items()))
    for name, screen in found["screens"].items():
        first = f"first {screen['first']:.2f} s ({screen['first, processor']:.2f} s of a processor)"
        print(f"  {name:<28} {first}, again {screen['again']:.2f} s, {screen['kB']} kB")
    print("  web process, MB after views  " + ", ".join(f"{n}: {mb:.0f}" for n, mb in found["memory_mb"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found: dict[str, Any] = {"about": about()}
    options = {"server.disconnectedSessionTTL": str(FORGOTTEN)}
    with tempfile.TemporaryDirectory() as folder:
        many, plain = Path(folder) / "many", Path(folder) / "plain"
        shutil.copytree(ROOT / "checkpoints", plain, ignore=shutil.ignore_patterns(".*"))
        shutil.copytree(plain, many)
        multiplied(DEMO, many, asked.runs - len(os.listdir(many)) - 2)
        for name in ("long", "long-2"):
            lengthened(DEMO, many / name, asked.epochs)
        found["listing"], found["opening"] = listing(many), opening(many)
        with served(many, options=options) as server:
            found["screens"] = asyncio.run(screens(server))
        with served(plain, options=options) as server:
            found["memory_mb"] = asyncio.run(viewing(server, asked.views))
    found["about"]["load after"] = round(os.getloadavg()[0], 1)
    asked.results.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()

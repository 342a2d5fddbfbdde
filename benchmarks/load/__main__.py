"""Fifty people at once on one machine: `make load`, or `python -m benchmarks.load [--seconds 60]`.

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
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.crowd import Crowd, chromium
from benchmarks.load.machine import about, on
from benchmarks.load.training import Training, trained
from tests.servers import ROOT, Server, served
from tests.sessions import Session

RESULTS = ROOT / "benchmarks" / "results" / "load.json"
CORES = "cores used with all sessions"
ALONE = 25.0  # seconds of training without sessions, three times
FORGOTTEN = 20  # seconds after which the server forgets a session that left; 120 if nobody says otherwise


def p(times: Sequence[float], share: float) -> float | None:
    """A percentile in seconds, None of nothing."""
    return round(float(np.percentile(times, share)), 3) if times else None


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
    spent = server.processor()
    crowded.append(await training.pace(asked.seconds))
    busy = {who: round((now - spent[who]) / asked.seconds, 3) for who, now in server.processor().items()}
    memory[f"{asked.sessions} sessions"] = server.memory()
    await crowd.leave()
    memory["they left"] = server.memory()
    alone.append(await training.pace(max(ALONE, FORGOTTEN + 5)))
    await _visit(server)
    memory["they are forgotten"] = server.memory()

    again = Crowd(server.address, seed=2)
    before = server.processor()["web"]
    await again.come(asked.sessions, within=1)
    each = round((server.processor()["web"] - before) / asked.sessions, 3)
    real = asyncio.create_task(chromium(server.address))
    crowded.append(await training.pace(asked.seconds * 2 / 3))
    memory["all of them again"] = server.memory()
    browser = await real
    await again.leave()
    alone.append(await training.pace(max(ALONE, FORGOTTEN + 5)))
    await _visit(server)
    memory["forgotten again"] = server.memory()
    found = _told(memory, alone, crowded, [crowd, again], browser, asked)
    return found | {CORES: busy, "processor_seconds_per_first_paint": each}


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
    print("  cores used with all sessions: " + ", ".join(f"{k} {v:.2f}" for k, v in found[CORES].items()))
    print(f"  memory per session {found['memory_mb_per_session']} MB; "
          f"processor time per first paint {found['processor_seconds_per_first_paint']} s")  # fmt: skip
    print(f"  Chromium among them: {found['chromium among them']}")
    for how in ("alone", "with sessions"):
        paces = found["training"][how]
        rates, shares = ([pace[k] for pace in paces] for k in ("epochs_per_second", "share_of_core"))
        print(f"  training {how:<14} {rates} epochs a second, with {shares} of its core")
    print(f"  training on its own core: {found['training']['slower_percent']} % slower with them")
    if found["about"]["load before"] > 0.5:
        print("  The machine had other work: the pace of the training says little.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=50, help="that the first crowd stays")
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

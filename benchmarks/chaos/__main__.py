"""`make chaos`: hundreds of faults in a store of its own, then: is a recorded epoch lost, twice there, or another than
that of a run nobody disturbed, and does every screen open?

    python -m benchmarks.chaos --seed 1 --share 1 --to benchmarks/results/chaos.json

The seed decides what is struck and when; what a process is doing at that moment, no seed decides. `--share .1` is a
short form. It ends with code 1 if anything did not hold. Full disks and read-only ones are real file systems in
memory, for which it has to run as root; elsewhere they are left out and said so. Ends by itself in about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chaos import damage
from benchmarks.chaos.jobs import Jobs, can_mount
from benchmarks.chaos.ledger import Ledger
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Check
from dynat_core.store.run import Run
from tests.running import finished_run, load_torch, tiny

FAKETIME = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def chaos(ledger: Ledger, folder: Path, seed: int, share: float, browsers: bool = True) -> None:
    """Inject `share` of the full number of faults into stores below `folder`."""
    rng = random.Random(seed)
    load_torch()
    twin = finished_run(folder / "twin", tiny(**{"recording.keep_weights": "all"}))
    jobs = Jobs(ledger, folder, twin, rng)

    def some(n: int) -> int:
        return max(1, round(n * share))

    ledger.say("a job's process, killed and stopped at random moments")
    jobs.signals(some(60))
    ledger.say("files of a run that goes on, damaged")
    jobs.damaged(damage.KINDS, damage.GOING_ON[:: max(1, round(1 / share))])
    ledger.say("a run folder deleted while the job runs")
    jobs.deleted(some(6))
    ledger.say("quotas, full and read-only disks")
    jobs.limits(some(12))
    if can_mount(folder / "disk"):
        jobs.full(folder / "disk", some(8))
        jobs.read_only(folder / "disk", some(6))
    else:
        ledger.say("  full and read-only file systems are left out: they need root")
    ledger.say("clock jumps")
    jobs.clock(next((path for path in FAKETIME if Path(path).exists()), None), some(2))
    if share < 0.5:
        long = None
    else:
        ledger.say("the undisturbed twin of a long run")
        long = finished_run(folder / "long", tiny(epochs="200"))
    screens_of(ledger, folder, jobs, twin, rng, share)
    if long is not None:
        whole_processes(ledger, folder, twin, long, rng, some(30))
    if browsers:
        in_browsers(ledger, folder, rng, some(8))


def screens_of(ledger: Ledger, folder: Path, jobs: Jobs, twin: Run, rng: random.Random, share: float) -> None:
    """Damage every file of a finished run in every way; open the screens on this and on all that was left before."""
    from benchmarks.chaos.screens import Screens

    ledger.say("files of a finished run, damaged; screens")
    shutil.copytree(twin.folder, jobs.snapshots / "whole")
    made = evaluations.create(jobs.snapshots / "whole", Check(), "check-1")
    (made.folder / "result.json").write_text("{}")
    Run(jobs.snapshots / "whole").set_label(title="Whole", tags=["a"])
    for name in damage.FINISHED[:: max(1, round(0.5 / share))]:
        for kind, harm in damage.KINDS.items():
            copy = jobs.snapshots / f"finished-{kind}-{name.replace('/', '-')}"
            shutil.copytree(jobs.snapshots / "whole", copy)
            harm(copy / name, rng)
            ledger.fault(f"file {kind}: finished run")
    screens = Screens(ledger, jobs.snapshots)
    try:
        names = sorted(path.name for path in jobs.snapshots.iterdir() if not path.name.startswith("."))
        for name in names:
            screens.of([name, "whole"] if name != "whole" else ["whole"], name)
        screens.all("everything above", run=["whole"])
    finally:
        screens.close()


def whole_processes(ledger: Ledger, folder: Path, twin: Run, long: Run, rng: random.Random, n: int) -> None:
    """Strike supervisor, job, helper and server in one long run."""
    from benchmarks.chaos.processes import House
    from dynat_core.store.runs import RunStore

    ledger.say("supervisor, job, helper and server of one long run, and more workers")
    store = folder / "house"
    shutil.copytree(twin.folder, store / "asked")
    house = House(ledger, store, rng, store / "asked")
    try:
        run = RunStore(store).create(long.config)
        house.strike(run, n, epochs_left=20)
        ledger.compare(run, long, "faults of whole processes")
        ledger.say(f"  the long run was started {len(run.starts())} times")
    finally:
        house.close()


def in_browsers(ledger: Ledger, folder: Path, rng: random.Random, rounds: int) -> None:
    """Two browsers on one server."""
    from benchmarks.chaos.browsers import two_browsers
    from dynat_core.store.runs import RunStore
    from tests.servers import served
    from tools.install_browser import find_browser

    if find_browser() is None:
        ledger.say("two browsers are left out: there is none")
        return
    ledger.say("two browsers at one run")
    store = RunStore(folder / "both")
    store.folder.mkdir()
    with served(store.folder) as server:
        two_browsers(ledger, server.address, store, rng, rounds)


def main() -> int:
    """Run it, print and write what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of faults")
    parser.add_argument("--to", type=Path, metavar="FILE.json", help="where to write the figures")
    arguments = parser.parse_args()
    began = time.monotonic()
    ledger = Ledger(say=lambda words: print(f"{time.monotonic() - began:6.0f} s  {words}", flush=True))
    folder = Path(tempfile.mkdtemp(prefix="dynat-chaos-"))
    try:
        chaos(ledger, folder, arguments.seed, arguments.share)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {
        "seed": arguments.seed,
        "share": arguments.share,
        "seconds": round(time.monotonic() - began),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[2], "python": platform.python_version()},
        **ledger.to_json(),
    }
    print(json.dumps(found, indent=1))
    if arguments.to:
        arguments.to.write_text(json.dumps(found, indent=1) + "\n")
    return ledger.code


if __name__ == "__main__":
    sys.exit(main())

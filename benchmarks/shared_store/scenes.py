"""What people do with a cluster's store, done on two machines that share a real file system."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.chaos.ledger import Ledger
from benchmarks.shared_store.machines import Machine, Server, free_port
from dynat_core.store.run import Run
from tests.running import finished_run, shared_run

PATIENCE = 400.0  # seconds: a busy machine starts Ray's processes slowly
LEASE = 6.0  # seconds, shorter than usual so that all of it takes minutes
DYNAT = (sys.executable, "-m", "dynat_core")
SETTINGS = ("--preset", "quick", "--set", "epochs=12", "--set", "data.train_size=320", "--set", "data.test_size=60",
            "--set", "strategy.steps=3", "--set", "recording.steps=5", "--set", "recording.paths=true")  # fmt: skip
_WEIGHTS = """
import sys
from safetensors.torch import load_file
from dynat_core.store.runs import RunStore
run = RunStore(sys.argv[1]).open(sys.argv[2])
print("weights", len(load_file(run.weights("best"))), len(load_file(run.weights("last"))), len(run.samples("last")))
"""
_SCREENS = """
import json, sys
from pathlib import Path
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.screens import Screens
ledger = Ledger(say=lambda words: None)
screens = Screens(ledger, Path(sys.argv[1]))
for page in ("app.py", "pages/train.py", "pages/epochs.py"):
    screens.open(page, "a shared store", run=sys.argv[2:])
screens.close()
print("screens", json.dumps([ledger.screens, ledger.problems]))
"""


class House:
    """Two machines, a Ray cluster over both, and what came of everything in `found`. `ledger` counts and tells."""

    def __init__(self, ledger: Ledger, server: Server, folder: Path) -> None:
        self.ledger, self.server, self.store = ledger, server, folder / "store"
        self.truth = server.export  # what the server has, whoever sees it
        self.folder, self.found, self.number = folder, {}, 0
        self.machines: list[Machine] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        port = free_port()
        self.address = f"127.0.0.2:{port}"  # of this machine's loopback, and none that Ray takes for another name of it
        self.a = self.machine("--head", f"--port={port}", "--include-dashboard=false")
        self.b = self.machine(f"--address={self.address}")
        self._watch()

    def machine(self, *ray: str) -> Machine:
        """One more machine, a node of the cluster with one processor."""
        self.number += 1
        settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
        lease = {"DYNAT_LEASE": str(LEASE), "DYNAT_WORKERS": "elsewhere"}
        made = Machine("abcdefgh"[self.number - 1], self.server, self.store, **settings, **lease)
        self.machines.append(made)
        program = str(Path(sys.executable).with_name("ray"))
        made.start(program, "start", *ray, f"--node-ip-address=127.0.0.{self.number + 1}", "--num-cpus=1", "--block",
                   f"--object-store-memory={80 * 2**20}", "--disable-usage-stats")  # fmt: skip
        self.wait(lambda: self._nodes(self.a if self.machines[1:] else made) >= len(self._alive()), "Ray's nodes")
        return made

    def _alive(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.process.poll() is None]

    def _nodes(self, machine: Machine) -> int:
        program = f"import ray; ray.init('{self.address}', logging_level=50); print(len(ray.nodes()), "
        program += "sum(n['Alive'] for n in ray.nodes()))"
        said = machine.say(sys.executable, "-c", program)
        return int(said.split()[-1]) if re.search(r"^\d+ \d+\s*$", said, re.M) else 0

    def close(self) -> None:
        for machine in reversed(self._alive()):
            machine.kill()

    # -- looking

    def wait(self, happened: Callable[[], object], what: str) -> float:
        """Seconds until it happened. Raises RuntimeError if it does not."""
        began = time.monotonic()
        while not happened():
            if time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"never: {what}")
            time.sleep(0.02)
        return time.monotonic() - began

    def run(self, id: str) -> Run:
        return Run(self.truth / id)

    def epochs(self, id: str) -> int:
        try:
            return (self.truth / id / "epochs.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def working(self, machine: Machine) -> list[str]:
        """The runs that a process on this machine has the log of open."""
        return [id for id in machine.open_files("log.txt") if (self.truth / id / "lease.json").exists()]

    def _watch(self) -> None:
        """Note when an epoch is there and when the first machine sees it."""
        self.there: dict[tuple[str, int], float] = {}
        self.seen: dict[tuple[str, int], float] = {}
        words = (sys.executable, "-m", "benchmarks.shared_store.watch", str(self.store))
        watcher = self.a.start(*words, stdout=subprocess.PIPE)

        def note() -> None:
            for line in watcher.stdout or ():
                moment, id, _, epochs = json.loads(line)
                for epoch in range(epochs):
                    self.seen.setdefault((id, epoch), moment)

        def look() -> None:
            while watcher.poll() is None:
                for path in self.truth.glob("*/epochs.jsonl"):
                    for epoch in range(self.epochs(path.parent.name)):
                        self.there.setdefault((path.parent.name, epoch), time.time())
                time.sleep(0.05)

        for task in (note, look):
            threading.Thread(target=task, daemon=True).start()

    # -- scenes

    def do(self, machine: Machine, *words: str, **how: Any) -> str:
        """What a command of Dynat said."""
        return machine.say(*DYNAT, *words, **how)

    def note(self, name: str, value: Any) -> None:
        self.found[name] = round(value, 2) if isinstance(value, float) else value
        self.ledger.say(f"  {name}: {self.found[name]}")

    def properties(self) -> None:
        """The command that people have for this."""
        said = self.do(self.a, "doctor", "--shared", self.address)
        self.note("doctor", [line for line in said.splitlines() if re.match(r"(good|note|bad) ", line)] or said)

    def dispatch(self, *options: str) -> subprocess.Popen[str]:
        """A dispatcher on the first machine."""
        return self.a.start(*DYNAT, "worker", "--ray", self.address, *options)

    def runs_and_a_lost_node(self) -> None:
        """Three runs on two nodes: one is stopped and resumed from the other machine, then its machine is lost."""
        ids = ["r1", "r2", "r3"]
        dispatcher = self.dispatch()
        for id in ids:
            self.do(self.a, "train", *SETTINGS, "--id", id)
        self.wait(lambda: any(self.epochs(id) >= 2 for id in self.working(self.b)), "the other machine trains")
        (far,) = self.working(self.b)
        stopping = self.a.start(*DYNAT, "stop", far)
        self.wait(lambda: (self.truth / far / "stop").exists(), "it is asked to stop")
        self.note("seconds until a run on the other machine has stopped", self.wait(
            lambda: not (self.truth / far / "lease.json").exists(), "it stops"))  # fmt: skip
        stopping.wait()
        self.ledger.fault("stop and resume from the other machine")
        self.do(self.a, "resume", far)
        self.wait(lambda: any(self.epochs(id) >= 2 for id in self.working(self.b)), "the other machine trains again")
        (lost,) = self.working(self.b)
        starts = len(self.run(lost).starts())
        self.b.kill()
        self.ledger.fault("machine lost under a run")
        replaced = self.machine(f"--address={self.address}")
        self.b = replaced
        began = time.monotonic()
        self.wait(lambda: len(self.run(lost).starts()) > starts or self.run(lost).state == "finished", "it goes on")
        self.note("seconds until the lost machine's run went on, after another had joined", time.monotonic() - began)
        self.wait(lambda: any(self.run(id).state == "finished" for id in ids), "the first is finished")
        done = next(id for id in ids if self.run(id).state == "finished")
        self.do(self.b, "evaluate", done, "--kind", "check", "--n", "40", "--no-wait")
        self.wait(lambda: all(self.run(id).state == "finished" for id in ids), "all are finished")
        twin = finished_run(self.folder / "twin", self.run(done).config)
        for id in ids:
            self.ledger.compare(self.run(id), twin, f"what befell {id} on {self.server.programs[-1]}")
        self.note("starts of the three runs", [len(self.run(id).starts()) for id in ids])
        self.wait(lambda: list((self.truth / done / "evaluations").glob("*/result.json")), "it is measured")
        for machine in (self.a, self.b):
            self.note(f"weights and tables read on {machine.name}",
                      machine.say(sys.executable, "-c", _WEIGHTS, str(self.store), lost).split()[-4:])  # fmt: skip
        self.do(self.a, "delete", "r3")
        listed = [self.do(machine, "runs") for machine in (self.a, self.b)]
        if listed[0] != listed[1] or "r3" in listed[1] or "r2" not in listed[1]:
            self.ledger.problem(f"the machines list other runs: {listed}")
        said = self.a.say(sys.executable, "-c", _SCREENS, str(self.store), lost)
        opened, problems = json.loads(said.rpartition("screens ")[2] or "[0, []]") if "screens [" in said else (0, said)
        self.note("screens opened on a", opened)
        for sentence in problems if isinstance(problems, list) else [f"screens: {problems[-300:]}"]:
            self.ledger.problem(sentence)
        began = time.monotonic()
        self.do(self.b, "worker", "--stop")
        dispatcher.wait(PATIENCE)
        self.note("seconds of worker --stop from the other machine", time.monotonic() - began)

    def shared_run_and_a_lost_node(self) -> None:
        """One run over two of three machines; one of its two is lost."""
        spare = self.machine(f"--address={self.address}")
        self.do(self.a, "train", *SETTINGS, "--id", "s1")
        dispatcher = self.dispatch("--once", "--split", "2")
        self.wait(lambda: self.epochs("s1") >= 3, "it is shared and trains")
        # One of the machines beside the head is part of it, as its recorder or not.
        recording = [machine for machine in (self.b, spare) if "s1" in self.working(machine)]
        sharing = [machine for machine in (self.b, spare) if machine.runs("TrainWorker")]
        dying = (recording or sharing)[0]
        self.ledger.fault(f"machine lost under a shared run, its {'first' if recording else 'second'} worker")
        self.b = spare if dying is self.b else self.b
        dying.kill()
        self.note("seconds until the shared run had finished on the machines left", self.wait(
            lambda: self.run("s1").state == "finished", "the shared run is finished"))  # fmt: skip
        dispatcher.wait(PATIENCE)
        twin = shared_run(self.folder / "shared-twin", self.run("s1").config)
        self.ledger.compare(self.run("s1"), twin, "a machine lost under a shared run")
        self.note("workers at each start of the shared run", [s.get("workers", 1) for s in self.run("s1").starts()])

    def delays(self) -> None:
        """How long after it was on the server an epoch was seen by the other machine."""
        found = sorted(self.seen[key] - moment for key, moment in self.there.items() if key in self.seen)
        if found:
            self.note("epochs seen on a", len(found))
            self.note("seconds until an epoch is seen, median and most", [round(found[len(found) // 2], 2),
                                                                         round(found[-1], 2)])  # fmt: skip

    def two_lone_workers(self) -> None:
        """What the guide says not to do: workers of two single machines on one store."""
        self.wait(
            lambda: time.time() - _changed(self.truth / ".worker" / "cluster.json") > LEASE + 1, "no cluster works"
        )
        self.do(self.a, "train", *SETTINGS, "--id", "w1", "--set", "epochs=40")
        first = self.a.start(*DYNAT, "worker", "--once")
        self.wait(lambda: self.epochs("w1") >= 2, "the first machine's worker trains")
        second = self.b.start(*DYNAT, "worker", "--once")
        second.wait(PATIENCE)
        first.wait(PATIENCE)
        lines = [json.loads(line)["epoch"] for line in (self.truth / "w1" / "epochs.jsonl").read_text().splitlines()]
        both = len(self.run("w1").starts())
        self.note("lone workers of two machines: starts of one run, epochs recorded more than once",
                  [both, len(lines) - len(set(lines))])  # fmt: skip


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0

"""Faults of whole processes in one long run: supervisor, job, analysis helper, web server, each as people start it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.chaos.jobs import PAUSED
from benchmarks.chaos.ledger import Ledger
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment, ensure_worker, worker_alive, worker_states
from dynat_core.work.analyst import Analyst, Answer
from tests.running import job_process, until, worker_once
from tests.servers import Server, started

TARGETS = ["supervisor", "job", "helper", "server", "job", "supervisor", "second worker"]
KINDS = ("kill", "pause", "pause-kill")


class House:
    """A store with everything that works on it: `fault` strikes one of them, and brings it back as a person would."""

    def __init__(self, ledger: Ledger, folder: Path, rng: random.Random, demo: Path) -> None:
        """demo: a finished run to ask the analysis helper about, copied into the store already."""
        self.ledger, self.rng, self.demo = ledger, rng, demo
        self.store = RunStore(folder)
        self.answers = 0
        self.images = [int(index) for index in Run(demo).samples("last")["index"]]  # to ask about, one after another
        self.workers: list[subprocess.Popen[bytes]] = []
        os.environ["OMP_NUM_THREADS"] = "1"  # as the twin
        self.analyst = Analyst(folder)
        self.server = self._serve()

    def close(self) -> None:
        """End everything that is left."""
        self.analyst.close()
        for process in (self.server.process, *self.workers):
            if process.poll() is None:
                process.kill()
            process.wait(30)

    def strike(self, run: Run, n: int, epochs_left: int) -> None:
        """`n` faults at random moments while `run` trains; then it finishes."""
        done = 0
        deck: list[str] = []
        while done < n and len(run.records()) <= run.config.epochs - epochs_left:
            self._see_to(run)
            if self.rng.random() < 0.7:  # into its training, else wherever it happens to be, most often starting
                self._gets_on(run)
            time.sleep(self.rng.uniform(0, 0.7))
            if not deck:
                deck = self.rng.sample(TARGETS, k=len(TARGETS))
            done += self._fault(run, deck.pop())
        self._see_to(run)
        until(lambda: self._see_to(run) or run.state == "finished", "the run finishes")

    def _see_to(self, run: Run) -> None:
        """What a person does who finds it standing still: resume what failed, start a worker."""
        if run.state == "failed":
            run.resume()
        if run.state != "finished" and not worker_alive(self.store.folder):
            ensure_worker(self.store.folder)
        if self.server.process.poll() is not None:
            self.server = self._serve()

    def _gets_on(self, run: Run) -> None:
        """Wait for a record that is not there yet."""
        before = len(run.records())
        until(lambda: len(run.records()) > before or run.state == "finished" or self._see_to(run), "the run gets on")

    def _fault(self, run: Run, who: str) -> bool:
        """One fault at one of them; says whether there was something to strike."""
        if who == "second worker":
            return self._second_worker()
        pid = {
            "supervisor": lambda: next((s["pid"] for s in worker_states(self.store.folder)), None),
            "job": lambda: job_process(run),
            "helper": self._asked,
            "server": lambda: self.server.process.pid,
        }[who]()
        if pid is None or not strike(pid, kind := self.rng.choice(KINDS)):
            return False
        words = {"kill": "kill -9", "pause": "SIGSTOP, SIGCONT", "pause-kill": "SIGSTOP, kill -9"}[kind]
        self.ledger.fault(f"{who}: {words}")
        if who == "helper":
            self._answered_after_all()
        if who == "server" and kind != "pause":
            self.server.process.wait(30)
        if who == "server" and kind == "pause":
            until(self.server.answers, "the web server answers")
        return True

    def _second_worker(self) -> bool:
        """One more worker of the same store, at the same moment as another."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        if len(self.workers) > 2:
            return False
        for _ in range(2):
            self.workers.append(worker_once(self.store.folder))
            self.ledger.fault("one more worker started at once")
        return True

    # -- the analysis helper

    def _ask(self) -> Answer:
        question = {
            "store": str(self.store.folder),
            "run": self.demo.name,
            "epoch": 2,
            "index": self.images[self.answers],
        }
        return self.analyst.ask("trajectory", question)

    def _asked(self) -> int | None:
        """The helper's process id, while it computes or is about to."""
        self._ask()
        time.sleep(self.rng.uniform(0, 1))
        return self.analyst.helper_pid

    def _answered_after_all(self) -> None:
        """A person whose question failed asks again."""

        def answered() -> bool:
            answer = self._ask()
            if answer.state == "failed":
                if "ended unexpectedly" not in (answer.error or ""):
                    self.ledger.problem(f"the helper answers: {answer.error}")
                    return True
                self.analyst.forget("trajectory")
            return answer.state == "ready"

        until(answered, "the helper answers")
        self.answers += 1

    # -- the web server

    def _serve(self) -> Server:
        return started(environment=child_environment(self.store.folder))


def strike(pid: int, kind: str) -> bool:
    """Send the signals of a kind; False if the process is gone already."""
    try:
        if kind != "kill":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(PAUSED)
        os.kill(pid, signal.SIGCONT if kind == "pause" else signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False

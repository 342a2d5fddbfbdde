"""Faults of a job's process and of the disk below it. Each job is a real process, forked from this one, which has torch
loaded already: so hundreds of starts fit into minutes."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.chaos.ledger import Ledger
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment
from tests.running import in_child, served, silence, train_here, until

PAUSED = 0.15  # seconds that a process is stopped for


class Jobs:
    """Runs of one setting in one store, each held against the same undisturbed twin."""

    def __init__(self, ledger: Ledger, folder: Path, twin: Run, rng: random.Random) -> None:
        self.ledger, self.store, self.twin, self.rng = ledger, RunStore(folder / "jobs"), twin, rng
        self.snapshots = folder / "snapshots"
        self.snapshots.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        assert in_child(lambda: train_here(self.store.create(twin.config))) == 0
        self.lasts = time.monotonic() - began  # seconds of an undisturbed run

    def new(self) -> Run:
        """A queued run."""
        return self.store.create(self.twin.config)

    def keep(self, run: Run, after: str) -> None:
        """Put a copy of the folder aside as a fault left it; the screens are shown it later."""
        target = self.snapshots / f"{len(list(self.snapshots.iterdir())):04d}-{after}"
        shutil.copytree(run.folder, target, symlinks=True, ignore=shutil.ignore_patterns(".writing-*"))

    def interrupted(self, epochs: int) -> Run:
        """A run that was left after `epochs` records."""
        run = self.new()
        assert in_child(lambda: train_here(run, lambda: len(run.records()) >= epochs)) == 0
        return run

    def to_the_end(self, run: Run) -> None:
        """Let it finish undisturbed, as a person would: what failed is resumed, what a sentence asks for is done."""
        for _ in range(4):
            if run.state == "finished":
                return
            if run.state == "failed":
                if "to train it again from the start" in (run.problem or ""):
                    _remove(run.folder / "resume.safetensors")
                    _remove(run.folder / "epochs.jsonl")
                run.resume()
            in_child(lambda: quietly(run))

    # -- the process

    def signals(self, n: int) -> None:
        """kill -9, a pause, and a pause with a kill -9 in it, each at a random moment, again and again in one run."""
        left = n
        while left > 0:
            run = self.new()
            while run.state != "finished":
                child = served(run)
                end = time.monotonic() + self.rng.uniform(0, self.lasts)
                while time.monotonic() < end and child.is_alive():
                    time.sleep(0.002)
                if child.is_alive() and left > 0:
                    kind = self.rng.choice(["kill", "kill", "pause", "pause-kill"])
                    self._signal(child, kind)
                    left -= 1
                    if kind != "pause":
                        child.join(30)
                        self.keep(run, kind)
                child.join(120)
            self.ledger.compare(run, self.twin, "signals to the job")

    def _signal(self, child: Any, kind: str) -> None:
        pid = child.pid or 0
        if kind != "kill":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(PAUSED)
        os.kill(pid, signal.SIGCONT if kind == "pause" else signal.SIGKILL)
        words = {"kill": "kill -9", "pause": "SIGSTOP, SIGCONT", "pause-kill": "SIGSTOP, kill -9"}
        self.ledger.fault(f"job process: {words[kind]}")

    # -- its folder

    def deleted(self, n: int) -> None:
        """The run folder is removed while the job works in it: the job ends, and nothing else is touched."""
        for _ in range(n):
            run = self.new()
            child = served(run)
            until(lambda run=run, child=child: run.records() or not child.is_alive(), "a record")
            time.sleep(self.rng.uniform(0, self.lasts / 3))
            shutil.rmtree(run.folder, ignore_errors=True)
            shutil.rmtree(run.folder, ignore_errors=True)  # a file that it made meanwhile
            self.ledger.fault("run folder deleted while the job runs")
            child.join(60)
            if child.is_alive():
                self.ledger.problem("the job of a deleted run does not end")
                child.kill()
            shutil.rmtree(run.folder, ignore_errors=True)
            if [r.id for r in self.store.list() if r.id == run.id]:
                self.ledger.problem(f"{run.id} is listed after it was deleted")

    def damaged(self, kinds: dict[str, Callable[[Path, random.Random], None]], names: tuple[str, ...]) -> None:
        """Every file of an interrupted run is damaged in every way, then the run goes on."""
        run = self.interrupted(2)
        for name in names:
            for kind, damage in kinds.items():
                copy = self.store.folder / f"damaged-{name.replace('/', '-')}-{kind}"
                shutil.copytree(run.folder, copy)
                (copy / "error.json").unlink(missing_ok=True)
                before = Run(copy).records()
                damage(copy / name, self.rng)
                self.ledger.fault(f"file {kind}: run that goes on")
                broken = Run(copy)
                self.keep(broken, f"{kind}-{name.replace('/', '-')}")
                in_child(lambda copy=copy: quietly(Run(copy)))
                if broken.state == "failed" and name != "epochs.jsonl" and broken.records() != before:
                    self.ledger.problem(f"{name} {kind}: records changed by a run that could not go on")
                self._mend(copy, name)
                self.to_the_end(Run(copy))
                self.ledger.compare(Run(copy), self.twin, f"{name} {kind}", but=(name, "error.json"))

    def _mend(self, folder: Path, name: str) -> None:
        """What a person does who reads the sentence: take away what is in a file's place."""
        if (folder / name).is_symlink() or (folder / name).is_dir():
            _remove(folder / name)

    # -- the disk

    def limits(self, n: int) -> None:
        """A quota: no file may grow past so many bytes (RLIMIT_FSIZE of the job's process)."""
        for _ in range(n):
            limit = int(10 ** self.rng.uniform(2, 4.7))
            run = self.interrupted(self.rng.randint(0, 2)) if self.rng.random() < 0.5 else self.new()

            def work(run: Run = run, limit: int = limit) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                quietly(run)

            in_child(work)
            self.ledger.fault("quota on file sizes")
            self.keep(run, "quota")
            self.to_the_end(run)
            self.ledger.compare(run, self.twin, f"a limit of {limit} bytes a file")

    def full(self, folder: Path, n: int) -> None:
        """A small file system of its own fills up while the job writes, then somebody makes room. Needs root."""
        for _ in range(n):
            with mounted(folder, "1m") as disk:
                store = RunStore(disk / "store")
                run = store.create(self.twin.config)
                epochs = self.rng.randint(0, 2)
                if epochs:
                    in_child(lambda run=run, epochs=epochs: train_here(run, lambda: len(run.records()) >= epochs))
                filled = disk / "filler"
                free = shutil.disk_usage(disk).free
                filled.write_bytes(b"x" * max(0, free - self.rng.randint(0, 60_000)))
                in_child(lambda run=run: quietly(run))
                self.ledger.fault("disk full")
                self.keep(run, "full")
                filled.unlink()
                self.to_the_end(run)
                self.ledger.compare(run, self.twin, "a full disk")

    def read_only(self, folder: Path, n: int) -> None:
        """The file system turns read-only while the job works, and comes back. Needs root."""
        for _ in range(n):
            with mounted(folder, "8m") as disk:
                run = RunStore(disk / "store").create(self.twin.config)
                child = served(run)
                time.sleep(self.rng.uniform(0, self.lasts))
                remounted = subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode
                if remounted:  # a file is open for writing this very moment: what a disk with an error does, it cannot
                    child.kill()
                child.join(60)
                self.ledger.fault("disk turns read-only")
                self.keep(run, "read-only")
                if not remounted:
                    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
                self.to_the_end(run)
                self.ledger.compare(run, self.twin, "a read-only disk")

    # -- the clock

    def clock(self, library: str | None, n: int, starts: int = 3) -> None:
        """Real processes under another clock: libfaketime where it is installed moves the wall clock of each start by
        years, forth and back; the files' times are moved as well."""
        for _ in range(n):
            run = self.new()
            while run.state != "finished":
                days = self.rng.choice([-9000, -400, -1, 1, 400, 9000])
                shift = {"LD_PRELOAD": library, "FAKETIME": f"{days:+d}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
                environment = {**child_environment(self.store.folder), **(shift if library else {})}
                environment["OMP_NUM_THREADS"] = "1"
                child = subprocess.Popen(
                    [sys.executable, "-m", "dynat_core", "job", str(run.folder), "--parent", str(os.getpid())],
                    env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                epochs = len(run.records())
                until(lambda run=run, e=epochs, c=child: len(run.records()) > e or c.poll() is not None, "it goes on")
                if child.poll() is None and len(run.starts()) < starts:
                    child.kill()
                child.wait(120)
                for path in run.folder.rglob("*"):
                    os.utime(path, (t := time.time() + 86_400 * days, t))
                self.ledger.fault("clock jump" if library else "clock jump (times of files)")
                self.keep(run, "clock")
            self.ledger.compare(run, self.twin, "clock jumps")


def quietly(run: Run) -> None:
    """Work on a run in this process, a child, which prints nowhere."""
    silence()
    train_here(run)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small file system in memory at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a file system."""
    try:
        with mounted(folder, "64k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

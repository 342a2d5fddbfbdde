"""The worker process: takes waiting jobs in their turns and runs each in a child process of its own, so that every job
gets fresh code and gives its memory back. No torch here; a supervisor costs little while it waits.

A worker works for one device, and one job at a time runs on it: the device's lock is held while a job runs, by the
child too, so that a device is not free before the last process that uses it is gone. Several workers of one store share
the work and never a job.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from dynat_core import machine
from dynat_core.errors import JobError
from dynat_core.files import replace_file
from dynat_core.places import PACKAGE
from dynat_core.store import logs
from dynat_core.store.jobs import CLAIM_PATIENCE, UNFINISHED, Job, exclusive, open_lock, take
from dynat_core.store.layout import LOG
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import (
    ANY,
    WORKER_LOG,
    child_environment,
    cluster_alive,
    idle_seconds,
    worker_alive,
    worker_file,
    worker_folder,
)
from dynat_core.work.backlog import Backlog, Task, stamp

PATIENCE = 120.0  # seconds a job gets to reach its next batch when it is asked to end
SETTLED = 4.0  # seconds that replaced code must stay as it is before a worker begins again with it
_LOOK = 0.2  # seconds between looks at the queue and at the child


class Supervisor:
    """One worker of `store`. device: the one it works for; any that is free if None. presence: an open alive file of
    that device that is already held, if whoever started us took it."""

    def __init__(
        self, store: Path | str, *, device: str | None = None, once: bool = False, presence: int | None = None
    ) -> None:
        self.store = RunStore(Path(store).absolute())
        self.folder = worker_folder(self.store.folder)
        self.device = device
        self.once = once
        self.idle = idle_seconds()
        self.backlog = Backlog(self.store)
        self._asked = 0  # how often this process was told to end
        self._code = _Code()
        if cluster_alive(self.store.folder):
            raise JobError("A cluster works on this store, and this machine's own workers would be in its way.")
        if presence is None and not worker_alive(self.store.folder):
            (self.folder / "stop").unlink(missing_ok=True)  # it was meant for workers that are gone
        # What is there now was meant for others; whoever started us has taken it away already.
        self._stop_file = stamp(self.folder / "stop") if presence is None else None
        self._presence = open_lock(worker_file(self.folder, device or ANY, "alive")) if presence is None else presence
        take(self._presence, fcntl.LOCK_SH, patience=1)

    def work(self) -> None:
        """Take jobs until told to end, or until there has been nothing to do for a while."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        self._show(None, None)
        quiet_since = time.monotonic()
        while not self.ending:
            logs.keep_short(self.folder / WORKER_LOG)
            if self._code.replaced():
                self._begin_again()
            found = self._next()
            if found:
                with contextlib.closing(found[2]):
                    self._run(*found)
                quiet_since = time.monotonic()
            elif (self.once or time.monotonic() - quiet_since > self.idle) and self._leave():
                return
            else:
                time.sleep(_LOOK)

    @property
    def ending(self) -> bool:
        """Whether this worker was told to end, by a signal or by `worker --stop`."""
        return self._asked > 0 or stamp(self.folder / "stop") != self._stop_file

    def _told(self, *_: object) -> None:
        self._asked += 1

    def _leave(self) -> bool:
        """End for lack of work, unless some came just now: nobody starts a worker while this is decided."""
        with exclusive(self.folder / "start.lock", patience=1) as held:
            if not held or self._mine():
                return False
            os.close(self._presence)
            return True

    def _begin_again(self) -> NoReturn:
        """Become a worker of the code that is there now: this one's would take its new settings for damage. It counts
        as alive all the while."""
        print("the code was replaced; this worker begins again with the new one", flush=True)
        if stamp(self.folder / "stop") == self._stop_file:  # the wish was for others, and the new one would take it
            (self.folder / "stop").unlink(missing_ok=True)
        os.set_inheritable(self._presence, True)
        device = ["--device", self.device] if self.device else []
        words = ["worker", "--presence", str(self._presence), *device, *(["--once"] if self.once else [])]
        command = [sys.executable, "-m", "dynat_core", *words]
        os.execve(sys.executable, command, child_environment(self.store.folder))  # noqa: S606 - this Python itself

    # -- the queue

    def _mine(self) -> list[tuple[Task, list[str]]]:
        """(task, devices it may take here) for what waits. What asks for a device that this machine lacks is anybody's:
        it fails with a sentence."""
        found = []
        for task in self.backlog.waiting():
            devices = machine.devices_for(task.device)
            if self.device in devices:
                devices = [self.device]
            elif self.device is not None and set(devices) & set(machine.devices()):
                continue
            found.append((task, devices))
        return found

    def _next(self) -> tuple[Task, str, _Held] | None:
        """(task, device, their held locks) for the first task that is free and whose device is."""
        for task, devices in self._mine():
            for device in devices:
                lock = open_lock(worker_file(self.folder, device, "lock"))
                if take(lock, fcntl.LOCK_EX):
                    claim = self._claim(task)
                    if claim is not None:
                        return task, device, _Held(lock, claim)
                    os.close(lock)
                    break
                os.close(lock)
        return None

    def _claim(self, task: Task) -> int | None:
        """The held lock of the job, or None if somebody else has it or has just done it. It goes to the child, so that
        no other worker takes the job while its process is still starting."""
        if Job(task.folder).state not in UNFINISHED:
            return None
        try:
            claim = open_lock(task.folder / "lock")
        except (JobError, OSError) as error:
            print(f"{task.id} could not be started: {error}", flush=True)
            self._died(task, str(error))
            return None
        if take(claim, fcntl.LOCK_EX, CLAIM_PATIENCE):
            return claim
        os.close(claim)
        return None

    # -- one job

    def _run(self, task: Task, device: str, held: _Held) -> None:
        self._show(device, task.id)
        ended_by_us = False
        job = Job(task.folder)
        try:
            try:
                child = self._start(task, device, held)
            finally:
                held.hand_over()
            ended_by_us = self._watch(child, job)
            if child.returncode != 0 and not ended_by_us and job.state in UNFINISHED:
                code = child.returncode
                self._died(task, f"signal {-code}" if code < 0 else f"exit code {code}")
        except OSError as error:
            print(f"{task.id} could not be started: {error}", flush=True)
            self._died(task, str(error.strerror))
        finally:
            self._show(None, None)

    def _died(self, task: Task, how: str) -> None:
        if self.backlog.died(task, how):
            time.sleep(_LOOK)

    def _start(self, task: Task, device: str, held: _Held) -> subprocess.Popen[bytes]:
        asked = task.device
        place = device if asked in ("auto", "cuda") and device.startswith("cuda:") and device != "cuda:0" else asked
        print(f"{task.id} on {device}", flush=True)
        logs.put_aside(task.folder / LOG)
        job = ["job", str(task.folder), "--device", place, "--parent", str(os.getpid()), "--claim", str(held.job)]
        with open(task.folder / LOG, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dynat_core", *job],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(held.device, held.job),
                env=_shared_out(child_environment(self.store.folder), device),
                start_new_session=True,  # Ctrl-C in our terminal is ours to pass on
            )

    def _watch(self, child: subprocess.Popen[bytes], job: Job) -> bool:
        """Wait for the child; pass on that it should end. Returns whether it was asked to."""
        asked_at = None
        while True:
            try:
                child.wait(_LOOK)
                return asked_at is not None
            except subprocess.TimeoutExpired:
                pass
            if asked_at is None and (self.ending or job.stop_requested):
                # It writes what is needed to go on. Before it began, nothing is lost and the signal just ends it.
                asked_at = time.monotonic()
                child.terminate()
            elif asked_at is not None and (self._asked > 1 or time.monotonic() - asked_at > PATIENCE):
                child.kill()

    def _show(self, device: str | None, busy_with: str | None) -> None:
        """For display only, so a full disk is no reason to stop."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        device = device or self.device or machine.devices_for("auto")[0]
        state = {"device": device, "busy_with": busy_with, "since": since, "pid": os.getpid()}
        with contextlib.suppress(OSError):
            path = worker_file(self.folder, self.device or ANY, "json")
            replace_file(path, json.dumps(state).encode(), durable=False)


def _shared_out(environment: dict[str, str], device: str) -> dict[str, str]:
    """`environment` with the threads that a job on `device` may take, where the CPU does several at a time."""
    threads = machine.cpu_threads() if machine.is_cpu(device) else None
    return environment if threads is None else {"OMP_NUM_THREADS": str(threads), **environment}


class _Code:
    """The code of this package on disk, looked at now and then: an upgrade replaces it under a living worker."""

    def __init__(self) -> None:
        self._began_with = self._seen = _code_stamp()
        self._looked = self._since = time.monotonic()

    def replaced(self) -> bool:
        """Whether it is another than this process began with, and has stayed so for a while: no copying goes on."""
        now = time.monotonic()
        if now - self._looked < SETTLED / 2:
            return False
        self._looked = now
        found = _code_stamp()
        if found != self._seen:
            self._seen, self._since = found, now
        return found != self._began_with and now - self._since >= SETTLED


def _code_stamp() -> int:
    """A number that changes when a file of the package does; 0 while they cannot be read."""
    try:
        stats = [(str(path), path.stat()) for path in PACKAGE.rglob("*.py")]
    except OSError:
        return 0
    return hash(tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)))


class _Held:
    """The locks of a device and of the job that is to run on it, as open files; closing one lets go of its lock."""

    def __init__(self, device: int, job: int) -> None:
        self.device, self.job = device, job

    def hand_over(self) -> None:
        """The job's lock is its process's alone from now on."""
        os.close(self.job)

    def close(self) -> None:
        os.close(self.device)

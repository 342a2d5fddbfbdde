"""The worker process: takes waiting jobs, oldest first, and runs each in a child process of its own, so that every job
gets fresh code and gives its memory back. No torch here; a supervisor costs little while it waits.

Only one job at a time runs on a device: its lock is held while a job runs, by the child too, so that a device is not
free before the last process that uses it is gone. Several workers of one store share the work and never a job.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from dynat_core.files import replace_file
from dynat_core.places import PACKAGE
from dynat_core.store import logs
from dynat_core.store.evaluations import Evaluation, waiting
from dynat_core.store.jobs import (
    UNFINISHED,
    WORKER_LOG,
    Job,
    child_environment,
    exclusive,
    open_lock,
    take,
    worker_folder,
)
from dynat_core.store.run import EPOCHS, LOG, Run
from dynat_core.store.runs import RunStore

IDLE = 60.0  # seconds without work after which a worker ends; DYNAT_WORKER_IDLE changes it
PATIENCE = 120.0  # seconds a job gets to reach its next batch when it is asked to end
DEATHS = 3  # times a job's process may die without a new record
SETTLED = 4.0  # seconds that replaced code must stay as it is before a worker begins again with it
_LOOK = 0.2  # seconds between looks at the queue and at the child


@dataclass(frozen=True)
class Task:
    """A job to do: a run, or a measurement inside one. device: as asked for. own: not one that somebody's own program
    works on."""

    id: str
    folder: Path
    device: str
    created: datetime
    own: bool = True


def _evaluation_task(run: Run, asked: Evaluation) -> Task:
    return Task(asked.id, asked.folder, run.config.device, asked.created)


class Supervisor:
    """One worker of `store`. presence: an open alive.lock that is already held, if whoever started us took it."""

    def __init__(self, store: Path | str, *, once: bool = False, presence: int | None = None) -> None:
        self.store = RunStore(Path(store).absolute())
        self.folder = worker_folder(self.store.folder)
        self.once = once
        self.idle = float(os.environ.get("DYNAT_WORKER_IDLE") or IDLE)
        # An older wish to stop was meant for other workers; whoever started us has taken it away already.
        self._stop_file = _stamp(self.folder / "stop") if presence is None else None
        self._asked = 0  # how often this process was told to end
        self._deaths: dict[str, tuple[int, int]] = {}  # task id -> (deaths in a row, how far it was)
        # Died too often, and not even that could be written down: task id -> when its folder was last changed.
        self._hopeless: dict[str, int | None] = {}
        self._finished: dict[str, Run] = {}
        self._code = _Code()
        self._presence = open_lock(self.folder / "alive.lock") if presence is None else presence
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
                with contextlib.closing(_Held(found[2])):
                    self._run(*found)
                quiet_since = time.monotonic()
            elif (self.once or time.monotonic() - quiet_since > self.idle) and self._leave():
                return
            else:
                time.sleep(_LOOK)

    @property
    def ending(self) -> bool:
        """Whether this worker was told to end, by a signal or by `worker --stop`."""
        return self._asked > 0 or _stamp(self.folder / "stop") != self._stop_file

    def _told(self, *_: object) -> None:
        self._asked += 1

    def _leave(self) -> bool:
        """End for lack of work, unless some came just now: nobody starts a worker while this is decided."""
        with exclusive(self.folder / "start.lock", patience=1) as held:
            if not held or self._waiting():
                return False
            os.close(self._presence)
            return True

    def _begin_again(self) -> NoReturn:
        """Become a worker of the code that is there now: this one's would take its new settings for damage. It counts
        as alive all the while."""
        print("the code was replaced; this worker begins again with the new one", flush=True)
        if _stamp(self.folder / "stop") == self._stop_file:  # the wish was for others, and the new one would take it
            (self.folder / "stop").unlink(missing_ok=True)
        os.set_inheritable(self._presence, True)
        words = ["worker", "--presence", str(self._presence), *(["--once"] if self.once else [])]
        command = [sys.executable, "-m", "dynat_core", *words]
        os.execve(sys.executable, command, child_environment(self.store.folder))

    # -- the queue

    def _waiting(self) -> list[Task]:
        """What is to be done: measurements first, which are short, then runs; each oldest first."""
        tasks = [_evaluation_task(run, asked) for run in self._finished.values() for asked in waiting(run.folder)]
        runs = []
        for run in self.store.list(skip=self._finished):
            if run.state == "finished":
                self._finished[run.id] = (
                    run  # never opened again: hundreds of runs are looked at several times a second
                )
            if run.state != "broken":
                tasks += [_evaluation_task(run, asked) for asked in waiting(run.folder)]
                runs.append(Task(run.id, run.folder, run.config.device, run.created, own=run.kind != "external"))
        tasks = sorted(tasks, key=lambda t: (t.created, t.id)) + sorted(runs, key=lambda t: (t.created, t.id))
        return [task for task in tasks if self._to_do(task)]

    def _to_do(self, task: Task) -> bool:
        state = Job(task.folder).state if task.own else "finished"
        hopeless = task.id in self._hopeless and self._hopeless[task.id] == _stamp(task.folder)  # resuming touches it
        return state in UNFINISHED and not hopeless

    def _next(self) -> tuple[Task, str, int] | None:
        """(task, device, held lock of the device) for the first task whose device is free."""
        for task in self._waiting():
            for device in devices_for(task.device):
                lock = open_lock(self.folder / (re.sub(r"\W", "-", device) + ".lock"))
                if take(lock, fcntl.LOCK_EX):
                    if Job(task.folder).state in UNFINISHED:  # another worker may have done it a moment ago
                        return task, device, lock
                    os.close(lock)
                    break
                os.close(lock)
        return None

    # -- one job

    def _run(self, task: Task, device: str, lock: int) -> None:
        self._show(device, task.id)
        ended_by_us = False
        job = Job(task.folder)
        try:
            child = self._start(task, device, lock)
            ended_by_us = self._watch(child, job)
            if child.returncode != 0 and not ended_by_us and job.state in UNFINISHED:
                code = child.returncode
                self._died(task, f"signal {-code}" if code < 0 else f"exit code {code}")
        except OSError as error:
            print(f"{task.id} could not be started: {error}", flush=True)
            self._died(task, str(error.strerror))
        finally:
            self._show(None, None)

    def _start(self, task: Task, device: str, lock: int) -> subprocess.Popen[bytes]:
        asked = task.device
        place = device if asked in ("auto", "cuda") and device.startswith("cuda:") and device != "cuda:0" else asked
        print(f"{task.id} on {device}", flush=True)
        logs.put_aside(task.folder / LOG)
        job = ["job", str(task.folder), "--device", place, "--parent", str(os.getpid())]
        with open(task.folder / LOG, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dynat_core", *job],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                env=child_environment(self.store.folder),
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

    def _died(self, task: Task, how: str) -> None:
        """Count a death; the third without a new record fails the job."""
        done = _progress(task.folder)
        count, before = self._deaths.get(task.id, (0, -1))
        count = count + 1 if done <= before else 1
        self._deaths[task.id] = count, max(done, before)
        print(f"{task.id} died ({how}), {count} of {DEATHS}", flush=True)
        if count < DEATHS:
            time.sleep(_LOOK)
            return
        self._deaths.pop(task.id)
        memory = ", most often for lack of memory" if how == "signal 9" else ""
        sentence = f"Its process ended {DEATHS} times ({how}{memory}) without a new record; the end of {LOG} says more."
        try:
            Job(task.folder).fail(sentence)
        except OSError as error:
            print(f"{task.id}: {sentence} Nor could that be recorded: {error.strerror}.", flush=True)
            self._hopeless[task.id] = _stamp(task.folder)

    def _show(self, device: str | None, busy_with: str | None) -> None:
        """For display only, so a full disk is no reason to stop."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        state = {"device": device or devices_for("auto")[0], "busy_with": busy_with, "since": since, "pid": os.getpid()}
        with contextlib.suppress(OSError):
            replace_file(self.folder / "state.json", json.dumps(state).encode(), durable=False)


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
    """Closes a descriptor, and with it lets go of its lock."""

    def __init__(self, file: int) -> None:
        self._file = file

    def close(self) -> None:
        os.close(self._file)


def devices_for(asked: str) -> list[str]:
    """The devices a job that asks for `asked` may run on; the first one that is free is taken."""
    if asked == "auto":
        asked = os.environ.get("DYNAT_DEVICE") or "auto"
    if asked in ("auto", "cuda"):
        gpus = [f"cuda:{n}" for n in range(gpu_count())]
        return gpus or (["cpu"] if asked == "auto" else ["cuda:0"])
    return [asked]


@functools.cache
def gpu_count() -> int:
    """How many CUDA devices the driver shows this process, without torch; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    except (OSError, AttributeError):
        pass
    return 0


def _stamp(path: Path) -> int | None:
    """When `path` was last changed, or None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _progress(folder: Path) -> int:
    """A number that grows with every record of a run, and with every state a measurement can go on from."""
    return _size(folder / EPOCHS) + (_stamp(folder / "state.bin") or 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

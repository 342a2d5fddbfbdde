"""A job is a folder with a lock: its state is derived from the files in it and never stored, so nothing can go stale.

    run.json      what was asked (request.json for jobs of other kinds)
    lock          held with flock while a process works on the job; a lock dies with its process
    lease.json    on a cluster instead of the lock: touched while a node works on the job (see `work.lease`)
    starts.jsonl  one line per start
    status.json   progress, for display only
    stop          an empty file: not wanted any more
    error.json    why the job failed: {"error": one sentence, "traceback": text}
    result.json   the job is finished

Each file has one writer; a file is replaced in one step, or lines are appended and readers ignore a torn last line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynat_core import machine
from dynat_core.errors import JobError
from dynat_core.files import read_json, replace_file, writing
from dynat_core.places import ROOT
from dynat_core.store.logs import put_aside

STATES = ("queued", "running", "interrupted", "stopped", "failed", "finished", "broken")
UNFINISHED = ("queued", "interrupted")  # what a worker takes
_COUNTS = ("epoch", "epochs", "batch", "batches", "share", "eta_s")  # of a status
CLAIM_PATIENCE = 0.2  # seconds: somebody who looks at the state holds the lock, shared, for an instant


class Job:
    """The job in `folder`, which must exist; nothing is read until it is asked for."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @property
    def state(self) -> str:
        """One of STATES except "broken", which only those who read the request can tell."""
        folder = str(self.folder)  # joined as text: this is called for hundreds of folders at a time
        if os.path.exists(folder + "/result.json"):
            return "finished"
        if _is_locked(folder + "/lock") or _touched(f"{folder}/{LEASE_FILE}"):
            return "running"
        if os.path.exists(folder + "/error.json"):
            return "failed"
        if os.path.exists(folder + "/stop"):
            return "stopped"
        if os.path.exists(folder + "/starts.jsonl"):
            return "interrupted"
        return "queued"

    @contextlib.contextmanager
    def claim(self, held: int | None = None) -> Iterator[None]:
        """Hold the job while it is worked on. Raises JobError if another process does or if it is read-only.

        held: an open file that holds its lock already; it is closed at the end.
        """
        if _touched(self.folder / LEASE_FILE):
            raise JobError(f"{self.folder.name} is being worked on by a cluster; wait for it, or stop it first.")
        if held is not None:
            os.set_inheritable(held, False)
            with contextlib.closing(os.fdopen(held)):
                yield
            return
        with exclusive(self.folder / "lock", patience=CLAIM_PATIENCE) as held:
            if not held:
                raise JobError(f"{self.folder.name} is already being worked on; wait for it, or stop it first.")
            yield

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked for the job to end."""
        return os.path.exists(self.folder / "stop")

    def request_stop(self) -> None:
        """Ask whoever works on the job to end at the next batch; a queued job will not be started."""
        with writing(self.folder):
            (self.folder / "stop").touch()

    def allow(self) -> None:
        """Want the job again: forget that it was stopped or that it failed."""
        with writing(self.folder):
            (self.folder / "stop").unlink(missing_ok=True)
            (self.folder / "error.json").unlink(missing_ok=True)
            os.utime(self.folder)  # a worker that had given up sees that it is asked for again

    def write_status(self, status: dict[str, Any]) -> None:
        """Replace what is shown as progress."""
        replace_file(self.folder / "status.json", json.dumps(status).encode(), durable=False)

    def status(self) -> dict[str, Any] | None:
        """The last progress written, or None; for display only. What should be a number and is none is left out."""
        found = read_json(self.folder / "status.json")
        return found and {key: value for key, value in found.items() if key not in _COUNTS or _counts(value)}

    def fail(self, sentence: str, traceback: str = "") -> None:
        """Record why the job failed. Raises OSError where even that cannot be written."""
        replace_file(self.folder / "error.json", json.dumps({"error": sentence, "traceback": traceback}).encode())

    def error(self) -> dict[str, str] | None:
        """{"error": sentence, "traceback": text} of a failed job, or None."""
        if not os.path.exists(self.folder / "error.json"):
            return None
        found = read_json(self.folder / "error.json") or {}
        return {
            "error": str(found.get("error") or "The job failed and could not record why; its log may say more."),
            "traceback": str(found.get("traceback") or ""),
        }


def _counts(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < 1e15)


# ------------------------------------------------------------------------------------------------------------ locks

LEASE_FILE = "lease.json"
LEASE = 30.0  # seconds that a lease lasts without renewal; DYNAT_LEASE changes it, for all nodes alike


def lease_seconds() -> float:
    """How long a lease lasts without renewal."""
    return float(os.environ.get("DYNAT_LEASE") or LEASE)


def _touched(path: Path | str) -> bool:
    """Whether a node of a cluster touched the file within the time of a lease. Opened first, since only then a network
    file system asks its server how old it is."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return time.time() - os.fstat(file).st_mtime < lease_seconds()
    finally:
        os.close(file)


def _is_locked(path: str) -> bool:
    """Whether a process holds the file's lock exclusively. Never creates the file, so it works on a read-only store."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def open_lock(path: Path) -> int:
    """A file descriptor to hold a lock with; whoever closes it lets go. Raises JobError where it cannot be written."""
    with writing(path.parent):
        if path.is_symlink():
            raise JobError(f"{path} is a link and is not followed; remove it.")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def take(file: int, kind: int, patience: float = 0.0) -> bool:
    """Try for `patience` seconds to get lock `kind` (LOCK_EX or LOCK_SH) on an open file; say whether it was got."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)


@contextlib.contextmanager
def exclusive(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the lock at `path` exclusively; gives whether it was got within `patience` seconds."""
    file = open_lock(path)
    try:
        yield take(file, fcntl.LOCK_EX, patience)
    finally:
        os.close(file)


# ---------------------------------------------------------------------------------------------------------- workers
# A worker works for one device of this machine (cpu, cuda:0, ...), or, started by hand without one, for "any".
# store/.worker/cpu.alive    held shared by every living worker of that device, so it says whether there is one
# store/.worker/cpu.json     what that worker does, for display only
# store/.worker/cpu.lock     held while a job runs on the device
# store/.worker/cluster.json what the cluster does instead, rewritten while its dispatcher lives, on whatever machine
# store/.worker/start.lock   held while workers are started, and while one decides to end for lack of work
# store/.worker/worker.log   what they print
# store/.worker/stop         touched to end the workers; each ends when it changes after their start

CLUSTER_FILE = "cluster.json"
WORKER_LOG = "worker.log"
ANY = "any"  # instead of a device: a worker that takes whatever is free
_started: list[subprocess.Popen[Any]] = []


def worker_folder(store: Path) -> Path:
    """The hidden folder of the store's workers, made if need be. Raises JobError where it cannot be written."""
    folder = store / ".worker"
    with writing(store):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def worker_file(folder: Path, device: str, ending: str) -> Path:
    """The file of a device in the workers' folder: ending is alive, json or lock."""
    return folder / f"{device.replace(':', '-')}.{ending}"


def worker_alive(store: Path) -> bool:
    """Whether a worker process lives for this store on this machine, or a cluster works on it."""
    return cluster_alive(store) or any(_held(path) for path in (Path(store) / ".worker").glob("*.alive"))


def cluster_alive(store: Path) -> bool:
    """Whether a cluster works on this store."""
    return _touched(Path(store) / ".worker" / CLUSTER_FILE)


def worker_states(store: Path | str) -> list[dict[str, Any]]:
    """What each living worker does, by device: {"device": str, "busy_with": run id | None, "since": ISO time | None,
    "pid": int | None}; for display."""
    folder = Path(store) / ".worker"
    found = []
    for path in sorted(folder.glob("*.alive")):
        if _held(path):
            state = read_json(path.with_suffix(".json")) or {}
            named = {"device": path.stem.replace("-", ":")}
            found.append({**named, **{key: state.get(key) for key in ("busy_with", "since", "pid")}})
            if named["device"] == ANY:
                found[-1]["device"] = state.get("device")
    if cluster_alive(Path(store)):
        state = read_json(folder / CLUSTER_FILE) or {}
        same = {key: state.get(key) for key in ("since", "pid")}
        busy = enumerate(state.get("busy_with") or [])
        found += [{"device": f"cluster:{n}", "busy_with": job, **same} for n, job in busy]
    return found


def worker_state(store: Path | str) -> dict[str, Any]:
    """{"alive": bool, "device": str | None, "busy_with": run id | None, "since": ISO time | None} of the first worker
    that is busy, or else of the first; for display."""
    found = sorted(worker_states(store), key=lambda state: state["busy_with"] is None)
    nothing = {"alive": False, "device": None, "busy_with": None, "since": None}
    return {**nothing, "alive": True, **{k: found[0][k] for k in nothing if k != "alive"}} if found else nothing


def ensure_worker(store: Path | str) -> None:
    """Start `python -m dynat_core worker` for every device of this machine that has none: detached, so they outlive
    whoever called. Does nothing where a cluster works, or where DYNAT_WORKERS=elsewhere says that others see to them.

    Raises JobError where the store cannot be written.
    """
    store = Path(store).absolute()
    if os.environ.get("DYNAT_WORKERS") == "elsewhere" or cluster_alive(store):
        return
    folder = worker_folder(store)
    with exclusive(folder / "start.lock", patience=5):
        for device in _without_worker(store):
            put_aside(folder / WORKER_LOG)
            with open(folder / WORKER_LOG, "ab") as log:
                process = start_worker(store, device, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            # Whoever started a worker must also take note of its end, or it stays in the process table.
            _started[:] = [*(p for p in _started if p.poll() is None), process]


def _without_worker(store: Path) -> list[str]:
    """The devices that need a worker; none while the present ones are ending. start.lock must be held."""
    folder, devices = store / ".worker", machine.devices()
    if not worker_alive(store):
        (folder / "stop").unlink(missing_ok=True)  # from now on one is meant for the new workers
        return devices
    if (folder / "stop").exists() or (len(devices) == 1 and _held(worker_file(folder, ANY, "alive"))):
        return []
    return [device for device in devices if not _held(worker_file(folder, device, "alive"))]


def start_worker(store: Path, device: str, *options: str, **how: Any) -> subprocess.Popen[Any]:
    """A worker process for `device`, in a session of its own. how: its streams, as for Popen."""
    presence = open_lock(worker_file(worker_folder(store), device, "alive"))
    try:
        # Taken here and inherited, so that a worker counts as alive from its very first moment.
        take(presence, fcntl.LOCK_SH, patience=1)
        return subprocess.Popen(
            [sys.executable, "-m", "dynat_core", "worker", "--device", device, "--presence", str(presence), *options],
            start_new_session=True,
            pass_fds=(presence,),
            env=child_environment(store),
            **how,
        )
    finally:
        os.close(presence)


def _held(path: Path) -> bool:
    """Whether somebody holds the lock at `path`."""
    for _ in range(3):  # another onlooker holds the lock for an instant, so one refusal proves nothing
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if take(file, fcntl.LOCK_EX):
                return False
        finally:
            os.close(file)
        time.sleep(0.005)
    return True


def stop_workers(store: Path | str) -> None:
    """Ask every worker of this store to end; their jobs are kept, interrupted at the next batch."""
    path = worker_folder(Path(store)) / "stop"
    with writing(path.parent):
        path.touch()


KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 36)}  # bytes


def child_environment(store: Path) -> dict[str, str]:
    """The environment of a worker or job process: the same store, and this very package whatever its folder.

    Compute threads sleep while they wait for each other: spinning, two on two busy cores took ten times as long. Memory
    stays with the process (glibc only): giving large arrays back and asking for them again took up to a third of it.
    """
    package = str(ROOT)
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    path = os.pathsep.join(dict.fromkeys(paths))
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        **KEPT_MEMORY,
        **os.environ,
        "DYNAT_STORE": str(store),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }

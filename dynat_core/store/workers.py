"""The workers of a store: which live, what each does, and how one is started. Each works for one device of this machine
(cpu, cuda:0, ...), or, started by hand without one, for "any".

    store/.worker/cpu.alive    held shared by every living worker of that device, so it says whether there is one
    store/.worker/cpu.json     what that worker does, for display only
    store/.worker/cpu.lock     held while a job runs on the device
    store/.worker/cluster.json what the cluster does instead, rewritten while its dispatcher lives, on whatever machine
    store/.worker/start.lock   held while workers are started, and while one decides to end for lack of work
    store/.worker/worker.log   what they print
    store/.worker/stop         touched to end the workers; each ends when it changes after their start
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dynat_core import machine
from dynat_core.files import read_json, writing
from dynat_core.places import ROOT
from dynat_core.store.jobs import exclusive, open_lock, take, touched
from dynat_core.store.logs import put_aside

CLUSTER_FILE = "cluster.json"
WORKER_LOG = "worker.log"
ANY = "any"  # instead of a device: a worker that takes whatever is free
IDLE = 60.0  # seconds without work after which a worker ends; DYNAT_WORKER_IDLE changes it
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
    return touched(Path(store) / ".worker" / CLUSTER_FILE)


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


def ensure_worker(store: Path | str) -> None:
    """Start `python -m dynat_core worker` for every device of this machine that has none: detached, so they outlive
    whoever called. Does nothing where a cluster works, where DYNAT_WORKERS=elsewhere says that others see to them, or
    while another process starts them.

    Raises JobError where the store cannot be written, ConfigError where a worker would end at once with one.
    """
    store = Path(store).absolute()
    idle_seconds()
    if os.environ.get("DYNAT_WORKERS") == "elsewhere" or cluster_alive(store):
        return
    folder = worker_folder(store)
    with exclusive(folder / "start.lock", patience=5) as held:
        for device in _without_worker(store) if held else []:
            put_aside(folder / WORKER_LOG)
            with open(folder / WORKER_LOG, "ab") as log:
                process = start_worker(store, device, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            # Whoever started a worker must also take note of its end, or it stays in the process table.
            _started[:] = [*(p for p in _started if p.poll() is None), process]


def idle_seconds() -> float:
    """How long a worker waits for work before it ends. Raises ConfigError for a DYNAT_WORKER_IDLE that is no number of
    seconds; inf is one."""
    return machine.seconds("DYNAT_WORKER_IDLE", IDLE)


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


PATIENT = ("OMP_WAIT_POLICY", "PASSIVE")
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
        PATIENT[0]: PATIENT[1],
        **KEPT_MEMORY,
        **os.environ,
        "DYNAT_STORE": str(store),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }

"""Waiting jobs as tasks of a Ray cluster: `python -m dynat_core worker --ray ADDRESS`.

The store lies on a file system that all nodes share, under the same path. One dispatcher hands jobs out, in their
turns, as many at a time as the cluster has GPUs (or, without any, processors). A task works on one job, under a lease
(see `lease`), in a process of its own. When its node is lost the job is handed out again and goes on from its last
checkpoint, exactly as after a power cut on one machine. No torch here, and Ray is imported only when it is wanted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynat_core.errors import JobError
from dynat_core.files import replace_file
from dynat_core.store.jobs import LAG, Job, lease_seconds
from dynat_core.store.layout import LOG
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import CLUSTER_FILE, worker_alive, worker_folder
from dynat_core.work.backlog import Backlog, Task, stamp
from dynat_core.work.lease import Answer, Lease, Ledger

PATIENCE = 120.0  # seconds that jobs get to reach their next batch when all are to end
_LOOK = 0.2  # seconds between looks at the queue and at the tasks
_SHOW = 1.0  # seconds between two writes of what screens show
_PASSED_ON = ("DYNAT_DATA", "DYNAT_LEASE")  # variables that a node takes over where it has none of its own


def connect(address: str) -> Any:
    """The module ray, connected to the cluster at `address` (host:port). Raises JobError with one sentence."""
    if address.partition(":")[0] in ("127.0.0.1", "localhost"):
        # Ray would make this machine's own address of it, where a cluster that keeps to itself does not listen.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise JobError('Ray is not installed; install it with "pip install -r requirements-cluster.txt".') from error
    try:
        ray.init(address=address, namespace="dynat", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        sentence = f'No Ray cluster answers at {address}; start one with "ray start --head" and give its address.'
        raise JobError(sentence) from error
    return ray


class Dispatcher:
    """Hands the jobs of `store` to the cluster. split: how many workers share a training run that can be shared."""

    def __init__(self, store: Path | str, address: str, *, once: bool = False, split: int = 1) -> None:
        self.store = RunStore(Path(store).absolute())
        self.folder = worker_folder(self.store.folder)
        self.once, self.split = once, split
        if worker_alive(self.store.folder):
            raise JobError(
                "Workers of this machine (or another dispatcher) are at work on this store; "
                'end them first with "python -m dynat_core worker --stop".'
            )
        self.backlog = Backlog(self.store)
        self.seconds = lease_seconds()
        self.ray = connect(address)
        self.ledger = _ledger(self.ray, self.store.folder, self.seconds)
        self._tasks: dict[Any, tuple[Task, int]] = {}  # Ray's reference -> (job, slots it takes)
        self._owed: list[Task] = []  # their task was lost; their lease has yet to end
        self._left: dict[str, float] = {}  # job -> when its last task ended
        self._began = time.monotonic()
        self._stop_file, self._asked = stamp(self.folder / "stop"), 0
        self._shown = 0.0

    def work(self) -> None:
        """Hand out jobs until told to end, or with `once` until nothing is left to do."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        self.ray.get(self.ledger.end.remote(False))
        try:
            while not self.ending:
                slots = self._slots()
                self._show(slots)
                if not self._hand_out(slots) and self.once and not self._tasks and not self._still_owed():
                    return
                self._collect()
            self.ray.get(self.ledger.end.remote(True))
            until = time.monotonic() + PATIENCE
            while self._tasks and time.monotonic() < until:
                self._collect()
        finally:
            (self.folder / CLUSTER_FILE).unlink(missing_ok=True)
            self.ray.shutdown()

    @property
    def ending(self) -> bool:
        """Whether it was told to end, by a signal or by `worker --stop`."""
        return self._asked > 0 or stamp(self.folder / "stop") != self._stop_file

    def _told(self, *_: object) -> None:
        self._asked += 1

    # -- out and back

    def _slots(self) -> int:
        """How many jobs the cluster can do at once, as it is now."""
        total = self.ray.cluster_resources()
        return int(total.get("GPU") or total.get("CPU") or 0)

    def _hand_out(self, slots: int) -> int:
        """Give away what there is room for; returns how many jobs wait."""
        here = {task.id for task, _ in self._tasks.values()}
        waiting = [task for task in self.backlog.waiting() if task.id not in here]
        for task in waiting:
            if not self._settled(task):
                continue
            width = min(self._width(task), slots)
            if sum(taken for _, taken in self._tasks.values()) + max(width, 1) > slots:
                break
            self._tasks[self._start(task, width)] = task, width
        return len(waiting)

    def _settled(self, task: Task) -> bool:
        """Whether every node sees what the last one to work on it wrote: one that went on from less would lose it, and
        here even a finished run may still look unfinished."""
        begun = self._began if Job(task.folder).state == "interrupted" else float("-inf")
        return time.monotonic() - self._left.get(task.id, begun) > LAG

    def _width(self, task: Task) -> int:
        if self.split == 1:
            return 1
        from dynat_core.work.split import shares

        return self.split if shares(task.folder, self.split) else 1

    def _start(self, task: Task, width: int) -> Any:
        gpus = float(bool(self.ray.cluster_resources().get("GPU")) and task.device != "cpu")
        device = task.device if task.device == "cpu" else "auto" if not gpus else "cuda"
        wanted = "cuda" if task.device.startswith("cuda") else device  # without GPUs such a run fails with a sentence
        here = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # A task of a shared run only waits for its workers, which ask for processors and GPUs of their own.
        needs = {"num_cpus": 0} if width > 1 else {"num_cpus": 1, "num_gpus": gpus}
        how = {**needs, "max_retries": 0, "max_calls": 1, "name": task.id}
        remote = self.ray.remote(**how)(_work)
        print(f"{task.id} handed out{f', to {width} workers' if width > 1 else ''}", flush=True)
        return remote.remote(str(task.folder), wanted, width, bool(gpus), here, self.seconds)

    def _collect(self) -> None:
        """Take note of the tasks that ended."""
        if not self._tasks:
            time.sleep(_LOOK)
            return
        ended, _ = self.ray.wait(list(self._tasks), timeout=_LOOK)
        for reference in ended:
            task, _ = self._tasks.pop(reference)
            self._left[task.id] = time.monotonic()
            try:
                state, node = self.ray.get(reference)
                print(f"{task.id} {state} on node {node[:8]}", flush=True)
            except Exception as error:  # whatever Ray says of a process, a node or a connection that is gone
                how = type(error).__name__
                if self.backlog.died(task, how):
                    self._owed.append(task)

    def _still_owed(self) -> bool:
        self._owed = [task for task in self._owed if Job(task.folder).state == "running"]
        return bool(self._owed)

    def _show(self, slots: int) -> None:
        """For display, and so that nobody starts workers of this machine beside it."""
        if time.monotonic() - self._shown < _SHOW:
            return
        self._shown = time.monotonic()
        busy = [task.id for task, _ in self._tasks.values()]
        state = {
            "busy_with": [*busy, *[None] * (slots - len(busy))],
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "pid": os.getpid(),
        }
        with contextlib.suppress(OSError):
            replace_file(self.folder / CLUSTER_FILE, json.dumps(state).encode(), durable=False)


# ----------------------------------------------------------------------------------------------- what runs elsewhere


def _ledger(ray: Any, store: Path, seconds: float) -> Any:
    """The one ledger of this store in the cluster: found, or made. It outlives the dispatcher."""

    class Actor(Ledger):
        def __init__(self, seconds: float) -> None:
            import ray

            super().__init__(seconds, forgot=bool(ray.get_runtime_context().was_current_actor_reconstructed))

    how = {"name": _name(store), "lifetime": "detached", "get_if_exists": True, "num_cpus": 0, "max_restarts": -1}
    on_head = {"resources": {"node:__internal_head__": 0.001}}  # a node whose loss is that of the cluster anyway
    return ray.remote(Actor).options(**how, **on_head).remote(seconds)


def _name(store: Path) -> str:
    return f"leases of {store}"


class _Reached:
    """The ledger as a holder asks it."""

    def __init__(self, ray: Any, store: Path, patience: float) -> None:
        self._ray, self._patience = ray, patience
        self._actor = ray.get_actor(_name(store))

    def take(self, job: str, holder: str) -> bool:
        return self._ask(self._actor.take, job, holder)

    def renew(self, job: str, holder: str) -> Answer:
        return self._ask(self._actor.renew, job, holder)

    def release(self, job: str, holder: str) -> None:
        self._ask(self._actor.release, job, holder)

    def _ask(self, what: Any, job: str, holder: str) -> Any:
        return self._ray.get(what.remote(job, holder), timeout=self._patience)


def lease(folder: Path, seconds: float) -> Lease:
    """A lease on the job in `folder`, for the Ray process that this is."""
    import ray

    from dynat_core.work.worker import is_evaluation

    store = folder.parents[2] if is_evaluation(folder) else folder.parent
    context = ray.get_runtime_context()
    book = _Reached(ray, store, seconds / 3)
    return Lease(folder, book, holder=secrets.token_hex(8), where=context.get_node_id(), seconds=seconds)


def _work(
    folder: str, device: str, width: int, gpus: bool, environment: dict[str, str], seconds: float
) -> tuple[str, str]:
    """Do one job on this node; (its state then or "held" by another, node)."""
    import ray

    from dynat_core.work.worker import run_job

    for name, value in environment.items():
        os.environ.setdefault(name, value)
    node = ray.get_runtime_context().get_node_id()
    if width > 1:
        from dynat_core.work.split import run_shared

        return run_shared(Path(folder), device, width, gpus, environment, seconds), node
    claim = lease(Path(folder), seconds)
    try:
        with open(Path(folder) / LOG, "a") as log, redirect_stdout(log), redirect_stderr(log):
            return run_job(folder, device, lambda: claim.ending, claim), node
    except JobError:
        return "held", node

"""Tiny real runs, processes that work on them, and the comparison of what two runs recorded."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynat_core.config import Digits, Dynamic, Recording, RunConfig, Sgd
from dynat_core.files import read_lines
from dynat_core.store.formats import FORMAT
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600.0  # seconds: only a test that hangs comes near


def tiny(**changes: Any) -> RunConfig:
    """A digits run of well under a second that still has everything: several batches, paths, pruned weights."""
    return RunConfig(
        epochs=2,
        data=Digits(train_size=96, test_size=40, validation_size=30),
        strategy=Dynamic(steps=2, T_control=2, c_max=0.1),
        optimizer=Sgd(batch=32, lr=0.1),
        recording=Recording(steps=2, probes=2, path_steps=3, paths=True),
    ).with_values(changes)


def load_torch() -> None:
    """Load torch and the data here, once, so that forked children need not."""
    import torch

    import dynat_core.training.trainer  # noqa: F401
    from dynat_core.images import data

    torch.set_num_threads(1)
    data.load(tiny().data)
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)  # no backward here: its threads would not survive a fork on a machine with a GPU
    torch.optim.SGD([weight], lr=1.0).step()  # its first step imports a good part of torch


def in_child(task: Callable[[], object], patience: float = PATIENCE) -> int | None:
    """Run `task` in a forked process, which has torch already; return its exit code (negative: the signal)."""
    child = multiprocessing.get_context("fork").Process(target=task)
    child.start()
    child.join(patience)
    if child.is_alive():
        child.kill()
        raise AssertionError("the child hangs")
    return child.exitcode


def train_here(run: Run, ended: Callable[[], bool] | None = None) -> None:
    """Work on `run` as a job process does, with one thread.

    ended: asked between batches; with it each epoch is written before training goes on, so that it can ask for a number
    of records: on a busy machine the next epoch can be over before the last one is on the disk.
    """
    import torch

    from dynat_core.work import beside, worker

    class AtOnce(beside.Beside):
        def do(self, action: Callable[[], None]) -> None:
            super().do(action)
            self.settle()

    if ended is not None:
        worker.Beside = AtOnce  # pyright: ignore[reportPrivateImportUsage]  in this short-lived process alone
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this short-lived process
    worker.run_job(run.folder, ended=ended or (lambda: False))


def silence() -> None:
    """Let this short-lived process, and what it starts, print nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.stdout = sys.stderr = os.fdopen(os.dup(nowhere), "w")


def served(run: Run) -> Any:
    """A forked process that works on `run` as a supervisor's child does, this process being the supervisor."""
    from dynat_core.work.worker import serve_job

    owner = os.getpid()

    def serve() -> None:
        silence()
        serve_job(run.folder, None, owner)

    child = multiprocessing.get_context("fork").Process(target=serve)
    child.start()
    return child


def worker_once(store: Path, out: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A worker of `store` as somebody starts it by hand, which ends when nothing waits. out: as Popen's stdout."""
    command = [sys.executable, "-m", "dynat_core", "worker", "--once"]
    return subprocess.Popen(command, env=child_environment(store), cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)


def job_process(run: Run) -> int | None:
    """The process id of the child that works on `run`, or None. Found in /proc."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"job" in words and os.fsencode(str(run.folder)) in words:
                return int(entry)
    return None


def finished_run(store: Path, config: RunConfig) -> Run:
    """A run of `config` that nothing ever interrupted."""
    run = RunStore(store).create(config)
    assert in_child(lambda: train_here(run)) == 0
    assert run.state == "finished", run.problem
    return run


def sharing(run: Run, size: int = 2) -> list[Any]:
    """`size` forked processes that share `run` as workers of a cluster do; the first records it."""
    load_torch()
    meeting = run.folder.parent / f".meeting-{time.monotonic_ns()}"

    def work(rank: int) -> None:
        import torch

        from dynat_core.training.group import Group
        from dynat_core.work.worker import run_job, share_job

        silence()
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
        share_job(run.folder, None, Group()) if rank else run_job(run.folder, group=Group())

    children = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(size)]
    for child in children:
        child.start()
    return children


def shared_run(store: Path, config: RunConfig) -> Run:
    """A run of `config` that two processes share and nothing ever interrupted."""
    run = RunStore(store).create(config)
    for child in sharing(run):
        child.join(PATIENCE)
    assert run.state == "finished", run.problem
    return run


def until(happened: Callable[[], object], what: str) -> None:
    """Wait until `happened()` is true."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


def recorded(run: Run) -> dict[str, Any]:
    """Everything a run recorded, by file: bytes, or for epochs.jsonl the records without their timings."""
    found: dict[str, Any] = {}
    for path in sorted(run.folder.rglob("*")):
        name = str(path.relative_to(run.folder))
        if path.is_dir() or name in ("run.json", "starts.jsonl", "lock", "log.txt", "status.json", "label.json"):
            continue
        if name == "epochs.jsonl":
            found[name] = [{k: v for k, v in r.items() if not k.startswith("seconds/")} for r in read_lines(path)]
        else:
            found[name] = path.read_bytes()
    return found


def assert_same(run: Run, reference: Run) -> None:
    """Both recorded the same, bit for bit, and nothing is left over from an interruption."""
    found, wanted = recorded(run), recorded(reference)
    other = sorted(found.keys() ^ wanted.keys())
    assert not other, f"recorded by only one: {other}"
    differ = [name for name in found if found[name] != wanted[name]]
    assert not differ, f"recorded differently: {differ}"


def write_run(folder: Path, **changes: Any) -> Path:
    """A folder with only a run.json in it; `changes` replace its entries."""
    folder.mkdir(parents=True)
    request = {
        "format": FORMAT,
        "id": folder.name,
        "created": "2026-01-01T00:00:00+00:00",
        "kind": "training",
        "config": tiny().model_dump(mode="json"),
    }
    (folder / "run.json").write_text(json.dumps({**request, **changes}))
    return folder

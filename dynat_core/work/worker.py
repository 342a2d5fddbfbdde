"""What happens in a job's process: a training run, recorded as it goes, from its start or from where it was left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynat_core.errors import DynatError, RunError, StateError
from dynat_core.files import storage_sentence
from dynat_core.store import evaluations, logs
from dynat_core.store.jobs import Job
from dynat_core.store.layout import EPOCHS, LOG, RESUME
from dynat_core.store.run import Run
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.work.beside import Beside

if TYPE_CHECKING:
    from dynat_core.training.events import EpochDone, Progress, State
    from dynat_core.training.group import Alone

SHOW_EVERY = 0.5  # seconds between two writes of status.json
SAVE_EVERY = 120.0  # seconds of a long epoch after which it can be resumed in its middle


def run_job(
    folder: Path | str,
    device: str | None = None,
    ended: Callable[[], bool] = lambda: False,
    claim: AbstractContextManager[object] | None = None,
    group: Alone | None = None,
) -> str:
    """Work on the job in `folder` until it is done, stopped or failed; return its state then.

    device: overrides the one in its settings. ended: asked between batches; once true, the run is saved where it stands
    and left "interrupted". claim: held meanwhile, instead of the folder's lock. group: the processes that share a
    training run, of which this is the first; the others call `share_job`. Nothing here needs a supervisor or this
    machine's queue, so a cluster task can call it.
    Raises JobError if another process works on it, OSError if it failed and not even that could be recorded, and what
    a group's messages raise when one of its processes is gone: the run is left "interrupted" then.
    """
    folder = Path(folder).absolute()
    job = Job(folder)
    with claim or job.claim():
        _work_on(job, device, ended, group)
    return job.state


def share_job(folder: Path, device: str | None, group: Alone) -> None:
    """Train the run in `folder` beside the first process of `group`, which records it; ends when that one does."""
    from dynat_core.devices import choose, fit_threads
    from dynat_core.images import data
    from dynat_core.training.events import EpochDone, Progress
    from dynat_core.training.trainer import train

    config = RunStore(folder.parent).open(folder.name).config
    fit_threads(config.model.name, choose(device or config.device))
    dataset = data.load(config.data)
    for event in train(config, device=device, state=group.told(None), dataset=dataset, group=group):
        if isinstance(event, Progress | EpochDone) and _side_by_side(event, group) and group.agreed(False):
            return


def is_evaluation(folder: Path) -> bool:
    """Whether a job's folder is an evaluation inside a run, not a run."""
    return folder.parent.name == evaluations.FOLDER and (folder / "request.json").exists()


def serve_job(folder: Path, device: str | None, parent: int, held: int | None = None) -> str:
    """`run_job` as the child of the supervisor with process id `parent`: ends with it, and at SIGTERM.

    held: the open file with which the supervisor took the job's lock.
    """
    job = Job(folder)
    asked = False

    def end(*_: object) -> None:
        nonlocal asked
        asked = True

    def ended() -> bool:  # asked between batches, in jobs of every kind
        logs.keep_short(folder / LOG)
        return asked or os.getppid() != parent

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG: told when the supervisor is gone
    with job.claim(held):
        if not ended():
            with contextlib.suppress(Exception):  # what is wrong with it is told when it is imported again
                import dynat_core.training.trainer  # noqa: F401 - takes seconds, and so long SIGTERM just ends us: nothing is begun
            signal.signal(signal.SIGTERM, end)
            _work_on(job, device, ended)
    return job.state


def _work_on(job: Job, device: str | None, ended: Callable[[], bool], group: Alone | None = None) -> None:
    """Work on a claimed job; what goes wrong is recorded with one sentence."""
    if any((job.folder / name).exists() for name in ("result.json", "error.json", "stop")):
        return
    if is_evaluation(job.folder):
        from dynat_core.work.measurements import work_on

        work_on(evaluations.Evaluation(job.folder), device, ended)
        return
    try:
        run = RunStore(job.folder.parent).open(job.folder.name)
        if run.kind == "imported":
            from dynat_core.work.measurements import measure_imported

            measure_imported(run, device, ended)
        else:
            _train(run, job, device, ended, group)
    except Exception as error:
        details = traceback.format_exc()
        print(details, file=sys.stderr, flush=True)
        if _torn(error, group):
            raise
        job.fail(_sentence(error, job.folder), details)


def _torn(error: Exception, group: Alone | None) -> bool:
    """Whether another process of the group may be gone, which is no fault of the run. Torch's backends say that in no
    type of their own: it is a RuntimeError, and one with another cause comes again and fails the run in the end."""
    lost = isinstance(error, RuntimeError) and type(error).__name__ != "OutOfMemoryError"
    return lost and group is not None and group.size > 1


# --------------------------------------------------------------------------------------------------------- training


def _train(run: Run, job: Job, device: str | None, ended: Callable[[], bool], group: Alone | None) -> None:
    """Train and record until the end, or until somebody wants it to end."""
    from dynat_core.devices import choose, fit_threads
    from dynat_core.images import data
    from dynat_core.training.events import EpochDone, Progress
    from dynat_core.training.group import Alone
    from dynat_core.training.trainer import train
    from dynat_core.work.provenance import start_entry

    config, group = run.config, group or Alone()
    where = choose(device or config.device)
    dataset = data.load(config.data)
    _refuse_other_data(run, dataset.fingerprint)
    fit_threads(config.model.name, where)
    _as_many_threads_as_before(run)
    writer = RunWriter(run)
    state = writer.recover()
    shared = {"workers": group.size} if group.size > 1 else {}
    writer.start({**start_entry(str(where), dataset.fingerprint), "from_epoch": writer.recorded, **shared})
    pace, recorded = _Pace(config.epochs), writer.recorded
    shown = 0.0
    saved = time.monotonic()
    with Beside() as beside:  # most of writing is waiting for the disk, and training need not
        for event in train(config, device=str(where), state=group.told(state), dataset=dataset, group=group):
            now = time.monotonic()
            if isinstance(event, EpochDone):
                beside.do(partial(_record, writer, event, event.state(), config.epochs))
                recorded, saved = recorded + 1, time.monotonic()
                if recorded == config.epochs:
                    beside.settle()  # no more training to go on with: what is said of the run from here on is true
            elif isinstance(event, Progress):
                pace.see(event, now)
                if now - shown >= SHOW_EVERY:
                    shown = now
                    _show(job, pace.status(event, now))
                # Once the last epoch is recorded, everything is saved; what is measured after it is measured again.
                if recorded < config.epochs and now - saved >= SAVE_EVERY:
                    beside.do(partial(writer.resume, *event.state()))
                    saved = time.monotonic()
            else:
                beside.settle()
                writer.finish(event.result, event.final_tables, event.paths)
                return
            if _side_by_side(event, group) and group.agreed(job.stop_requested or ended()):
                beside.settle()
                _leave(writer, event, config.epochs)
                return


def _record(writer: RunWriter, event: EpochDone, state: State, epochs: int) -> None:
    """Write an epoch, then the file to resume from."""
    writer.epoch(event.record, event.tables, event.histograms, event.probes, event.weights)
    writer.resume(*state)
    print(_line(event, epochs), flush=True)


def _side_by_side(event: Progress | EpochDone, group: Alone) -> bool:
    """Whether all processes of the group stand at this very place, so that they can agree to leave: between batches of
    training and after an epoch, but not while each measures images of its own."""
    from dynat_core.training.events import EpochDone

    return group.size == 1 or isinstance(event, EpochDone) or event.phase == "train"


def _leave(writer: RunWriter, event: Progress | EpochDone, epochs: int) -> None:
    from dynat_core.training.events import Progress

    if isinstance(event, Progress) and writer.recorded < epochs:
        writer.resume(*event.state())
    print(f"left in epoch {writer.recorded + 1}, to be resumed from there", flush=True)


def _show(job: Job, status: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # for display only; a full disk is met, and told, where a record is written
        job.write_status(status)


def _line(event: EpochDone, epochs: int) -> str:
    record = event.record

    def percent(key: str) -> str:
        value = record.get(key)
        return "unknown" if value is None else f"{100 * value:.1f} %"

    return (
        f"epoch {record['epoch']} of {epochs}: validation clean {percent('validation/clean_accuracy')}, "
        f"robust {percent('validation/robust_accuracy')}"
    )


class _Pace:
    """How long it will still take, from how long it took."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._epoch: int | None = None
        self._began = time.monotonic()
        self._batch = 0
        self._lasted: float | None = None  # seconds of the last whole epoch

    def see(self, event: Progress, now: float) -> None:
        """Take note of an event, at `now` seconds."""
        if event.epoch != self._epoch:
            if self._epoch and self._batch == 0:
                self._lasted = now - self._began
            self._epoch, self._began, self._batch = event.epoch, now, max(0, event.batch - 1)

    def status(self, event: Progress, now: float) -> dict[str, Any]:
        """What status.json says at this moment."""
        return {
            "epoch": min(event.epoch, self._epochs),
            "epochs": self._epochs,
            "batch": event.batch,
            "batches": event.batches,
            "phase": event.phase,
            "eta_s": self._eta(event, now - self._began),
            "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    def _eta(self, event: Progress, spent: float) -> float | None:
        left = self._epochs - event.epoch
        if left < 0:  # the last measurements, of which only that they are short is known
            return None
        if self._lasted is not None:
            return round(left * self._lasted + max(self._lasted - spent, 0), 1)
        done = event.batch - self._batch
        if event.epoch < 1 or done < 1 or event.phase != "train":
            return None
        each = spent / done
        return round(each * (event.batches - event.batch + left * event.batches), 1)


# ---------------------------------------------------------------------------------------- what a start rests on


def _refuse_other_data(run: Run, fingerprint: str) -> None:
    """A run that goes on with other pictures would change silently."""
    before = next((s["data_hash"] for s in run.starts() if s.get("data_hash")), fingerprint)
    if before != fingerprint:
        raise RunError(
            f"The {run.config.data.name} data differs from what {run.id} began with, so it cannot go on; "
            "put the old data back, or start a new run."
        )


def _as_many_threads_as_before(run: Run) -> None:
    """Sums over more or fewer threads differ in their last bits, and a resumed run must not."""
    import torch

    before: Mapping[str, Any] = next(iter(run.starts()), {})
    threads = before.get("threads")
    if isinstance(threads, int) and 1 <= threads <= (os.cpu_count() or 1):
        torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------------- what went wrong


def _sentence(error: Exception, folder: Path) -> str:
    """What a person is told."""
    if isinstance(error, StateError):
        return (
            f"{folder.name} cannot go on: {folder / RESUME} was saved by another version of Dynat; its records are "
            f"kept. Resume it with that version, or delete that file and {EPOCHS} and resume to train it again from "
            "the start."
        )
    if isinstance(error, DynatError):
        return str(error)
    if isinstance(error, OSError) and (full := storage_sentence(error, folder)):
        return full
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There was not enough memory; choose a smaller optimizer.batch or network, then start a new run."
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"Training broke off with {type(error).__name__}: {first}; the end of {LOG} says where."

"""Waiting for a run at the command line: a progress bar on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dynat_core.jobs import UNFINISHED, worker_alive
from dynat_core.run import Run

_LOOK = 0.2  # seconds
_GRACE = 5.0  # seconds a run may wait without a worker before that is called an end


def follow(run: Run) -> str:
    """Show how `run` goes until nobody works on it any more; return its state then."""
    with _bar(run) if sys.stdout.isatty() else _plain(run) as show:
        alone_since: float | None = None
        while True:
            state = run.state
            show(state)
            if state != "running":
                if state not in UNFINISHED:
                    return state
                now = time.monotonic()
                alone_since = None if worker_alive(run.folder.parent) else (alone_since or now)
                if alone_since is not None and now - alone_since > _GRACE:
                    return state
            time.sleep(_LOOK)


def accuracies(record: dict[str, Any], steps: int) -> str:
    """`clean 97.1 %, PGD-20 75.0 % of 147 held-out images`, for the recorded attack of `steps` steps."""
    found = [record.get(f"validation/{kind}_accuracy") for kind in ("clean", "robust")]
    words = ["unknown" if value is None else f"{100 * value:.1f} %" for value in found]
    return f"clean {words[0]}, PGD-{steps} {words[1]} of {record.get('validation/n', 'the')} held-out images"


@contextmanager
def _plain(run: Run) -> Iterator[Callable[[str], None]]:
    shown = run.last_record()
    after = -1 if shown is None else shown["epoch"]
    steps = run.config.recording.steps
    was = ""

    def show(state: str) -> None:
        nonlocal after, was
        last = run.last_record()
        if last is not None and last["epoch"] != after:
            for record in run.records()[after + 1 :]:
                print(f"epoch {record['epoch']} of {run.config.epochs}: {accuracies(record, steps)}", flush=True)
            after = last["epoch"]
        if state != was:
            print(state, flush=True)
            was = state

    yield show


@contextmanager
def _bar(run: Run) -> Iterator[Callable[[str], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("queued", total=run.config.epochs, words="")

        def show(state: str) -> None:
            status = run.status() or {}
            last = run.last_record()
            done = last["epoch"] if last else 0
            batches = status.get("batches") or 0
            part = status["batch"] / batches if batches and status.get("epoch") == done + 1 else 0.0
            words = f"epoch {done} of {run.config.epochs}"
            if last:
                words += f", {accuracies(last, run.config.recording.steps)}"
            if state == "running" and status.get("eta_s") is not None:
                words += f", {duration(status['eta_s'])} left"
            progress.update(task, completed=done + part, description=state, words=words)

        yield show


def duration(seconds: float) -> str:
    """`1:10`, or `2:03:00` from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

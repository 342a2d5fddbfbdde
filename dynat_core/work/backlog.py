"""What a store has to be done, in whose turn it is, and what is given up because its process keeps dying.

Whoever hands out work, to this machine's devices or to a cluster, reads it from here. No torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dynat_core.store.evaluations import Evaluation, waiting
from dynat_core.store.jobs import UNFINISHED, Job
from dynat_core.store.layout import EPOCHS, LOG
from dynat_core.store.queue import in_turn
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore

DEATHS = 3  # times a job's process may die without a new record


@dataclass(frozen=True)
class Task:
    """A job to do: a run, or a measurement inside one. device: as asked for."""

    id: str
    folder: Path
    device: str
    created: datetime


class Backlog:
    """The waiting jobs of `store`, for one process that hands them out."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._deaths: dict[str, tuple[int, int]] = {}  # task id -> (deaths in a row, how far it was)
        # Died too often, and not even that could be written down: task id -> when its folder was last changed.
        self._hopeless: dict[str, int | None] = {}
        self._finished: dict[str, Run] = {}  # never opened again: hundreds are looked at several times a second

    def waiting(self) -> list[Task]:
        """What is to be done: measurements first, which are short, oldest first; then runs, in their turns."""
        # One that was deleted may be there again under its name, and waits.
        self._finished = {id: run for id, run in self._finished.items() if os.path.exists(run.folder / "result.json")}
        tasks = [_evaluation_task(run, asked) for run in self._finished.values() for asked in waiting(run.folder)]
        runs = []
        for run in self.store.list(skip=self._finished):
            if run.state == "finished":
                self._finished[run.id] = run
            if run.state != "broken":
                tasks += [_evaluation_task(run, asked) for asked in waiting(run.folder)]
                runs.append(run)
        tasks = [task for task in tasks if Job(task.folder).state in UNFINISHED]
        tasks.sort(key=lambda task: (task.created, task.id))
        tasks += [Task(run.id, run.folder, run.config.device, run.created) for run in in_turn(runs)]
        return [task for task in tasks if not self._given_up(task)]

    def died(self, task: Task, how: str) -> bool:
        """Count a death; the third without a new record fails the job. Returns whether it is to be tried again."""
        done = _progress(task.folder)
        count, before = self._deaths.get(task.id, (0, -1))
        count = count + 1 if done <= before else 1
        self._deaths[task.id] = count, max(done, before)
        print(f"{task.id} died ({how}), {count} of {DEATHS}", flush=True)
        if count < DEATHS:
            return True
        self._deaths.pop(task.id)
        memory = ", most often for lack of memory" if how == "signal 9" else ""
        sentence = f"Its process ended {DEATHS} times ({how}{memory}) without a new record; the end of {LOG} says more."
        try:
            Job(task.folder).fail(sentence)
        except OSError as error:
            print(f"{task.id}: {sentence} Nor could that be recorded: {error.strerror}.", flush=True)
            self._hopeless[task.id] = stamp(task.folder)
        return False

    def _given_up(self, task: Task) -> bool:
        return task.id in self._hopeless and self._hopeless[task.id] == stamp(task.folder)  # resuming touches it


def _evaluation_task(run: Run, asked: Evaluation) -> Task:
    return Task(asked.id, asked.folder, run.config.device, asked.created)


def stamp(path: Path) -> int | None:
    """When `path` was last changed, or None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _progress(folder: Path) -> int:
    """A number that grows with every record of a run, and with every state a measurement can go on from."""
    try:
        size = (folder / EPOCHS).stat().st_size
    except OSError:
        size = 0
    return size + (stamp(folder / "state.bin") or 0)

"""The run store and what is read from it, kept between reruns by modification time; and the one analysis helper.

What is kept is shared by all sessions and not copied for each, so nobody may change it.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from dynat_core.errors import RunError
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.reports.health import HealthNote, notes
from dynat_core.store import disk, queue
from dynat_core.store.history import History
from dynat_core.store.runs import Run, RunStore
from dynat_core.store.workers import worker_alive
from dynat_core.work.analyst import Analyst


def store() -> RunStore:
    """The run store that DYNAT_STORE names."""
    return RunStore()


_looks = itertools.count()


@st.cache_resource(show_spinner=False, ttl=2)
def _runs(folder: str) -> tuple[int, list[Run]]:
    return next(_looks), RunStore(folder).list()


def runs() -> list[Run]:
    """All runs, newest first, as they were at most two seconds ago; the state of each is always found out anew."""
    return numbered_runs()[1]


def numbered_runs() -> tuple[int, list[Run]]:
    """`runs`, and the number of the look at the store that they are from: a key for what is found out about all."""
    return _runs(str(store().folder))


def state_of(run: Run) -> str:
    """A run's state as screens show it: what a living worker is about to take up again is queued. None takes up what a
    program of one's own records."""
    state = run.state
    taken = state == "interrupted" and run.kind != "external" and worker_alive(store().folder)
    return "queued" if taken else state


def places() -> dict[str, int]:
    """How many runs come before each that waits, by id; once for all lines of a screen, for it looks at every run."""
    return queue.places(runs())


def look_again() -> None:
    """Forget the list of runs, after one was made or removed."""
    _runs.clear()


def size_of(run: Run) -> int:
    """Bytes that a run takes, looked up once per record."""
    return _size(str(run.folder), run.modified)


@st.cache_data(show_spinner=False, max_entries=2000, ttl=600)
def _size(folder: str, modified: float) -> int:
    return disk.size(Run(Path(folder)))


def look_at_sizes_again() -> None:
    """Forget them, after something was removed."""
    _size.clear()


def history(run: Run) -> History:
    """All epochs of a run; only what was added since the last look is read."""
    return run.history()


def health(run: Run) -> list[HealthNote]:
    """Health notes of a run, found once per record."""
    return _health(str(run.folder), run.modified)


@st.cache_resource(show_spinner=False, max_entries=64)
def _health(folder: str, modified: float) -> list[HealthNote]:
    run = Run(Path(folder))
    return notes(run.history(), run.config)


def trajectory(run: Run, index: int, epoch: int) -> Trajectory | None:
    """The recorded path of one test image at an epoch, or None."""
    blob = _trajectory(str(run.folder), run.modified, index, epoch)
    return None if blob is None else Trajectory.from_bytes(blob)


@st.cache_resource(show_spinner=False, max_entries=256)
def _trajectory(folder: str, modified: float, index: int, epoch: int) -> bytes | None:
    run = Run(Path(folder))
    found = run.trajectory(index, epoch)
    if found is None:
        return None
    return replace(found, settings={**found.settings, "classes": list(run.config.classes)}).to_bytes()


@st.cache_resource(show_spinner=False, max_entries=16)
def _curves(folder: str, modified: float, epoch: int) -> dict[str, np.ndarray]:
    return Run(Path(folder)).curves(epoch)


def curves(run: Run) -> tuple[int, dict[str, np.ndarray]] | None:
    """(epoch, curves of all paths recorded there) of a run that keeps them, else None, as for a damaged file: a screen
    of many runs does without one, and where the paths are looked at themselves it is said."""
    try:
        found = run.paths()
        return None if found is None else (found[0], _curves(str(run.folder), run.modified, found[0]))
    except RunError:
        return None


def lost_between(curves: dict[str, np.ndarray], first: int, last: int) -> int | None:
    """The lowest-numbered image first fooled at a step from `first` to `last` of its recorded path."""
    fooled = curves["margin"] < 0
    step = np.where(fooled.any(axis=1), fooled.argmax(axis=1), -1)
    found = curves["index"][(step >= first) & (step <= last)]
    return int(found.min()) if len(found) else None


def samples(run: Run, epoch: int | str) -> pd.DataFrame:
    """Rows of the test images at an epoch: the whole table of best or last where it is that epoch's."""
    return _samples(str(run.folder), run.modified, epoch)


@st.cache_resource(show_spinner=False, max_entries=32)
def _samples(folder: str, modified: float, epoch: int | str) -> pd.DataFrame:
    run = Run(Path(folder))
    for which in ("last", "best"):
        if run.state == "finished" and run.epoch_of(which) == epoch:
            return run.samples(which, split="test")
    return run.samples(epoch, split="test")


@st.cache_resource(show_spinner=False)
def analyst(folder: str) -> Analyst:
    """The one analysis helper of this web server; it ends with it."""
    return Analyst(Path(folder))


@st.cache_resource(show_spinner=False)
def checker(folder: str) -> Analyst:
    """The helper process that checks models while somebody waits; beside the one for trajectories, on all cores."""
    return Analyst(Path(folder), threads=None)


def warm_up() -> None:
    """Have the helper ready by the time somebody asks, but not before the page is drawn."""
    analyst(str(store().folder)).warm(after=4.0)


def stamp(run: Run, epoch: int) -> str:
    """What an answer about a checkpoint depends on beside the question: its weights and the run's data."""
    weights = run.weights(epoch)
    starts = run.starts()
    data = str(starts[-1].get("data_hash") if starts else "")
    return _hash(str(weights), weights.stat().st_mtime_ns) + data


@st.cache_resource(show_spinner=False, max_entries=512)
def _hash(file: str, modified: int) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()

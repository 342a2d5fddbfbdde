"""The one door that everything a screen changes passes through: starting, stopping, labelling, deleting, adding.

Each of these asks first who it is that asks, whatever the screen showed: a dead button is a courtesy, and a browser can
send a press of it all the same. Screens change nothing past this file (tests/test_access.py reads their source).
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec, TypeVar

from dynat_core.config import RunConfig
from dynat_core.errors import AccessError, ConfigError, DynatError, ModelFileError
from dynat_core.store import bookkeeping, disk, evaluations
from dynat_core.store.evaluation_settings import Measured, measured_threat
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.queue import waiting_for, waiting_in
from dynat_core.store.runs import Run
from dynat_core.store.workers import child_environment, ensure_worker
from ui.access import limits, person, refuse_viewers
from ui.store import checker, look_again, store

PATIENCE = 240.0  # seconds for reading a model file and trying it on images
_P = ParamSpec("_P")
_T = TypeVar("_T")


def editors_only(action: Callable[_P, _T]) -> Callable[_P, _T]:
    """An action that raises AccessError, and does nothing, unless an editor asks for it."""

    @functools.wraps(action)
    def asked(*given: _P.args, **named: _P.kwargs) -> _T:
        refuse_viewers()
        return action(*given, **named)

    return asked


# ------------------------------------------------------------------------------------------------------ runs, queued


@editors_only
def launch(config: RunConfig, launcher: str = "") -> Run:
    """Put a run into the queue and see that somebody works on it. Raises AccessError, RunError, JobError.

    launcher: with whom it takes turns, where nobody signs in.
    """
    _refuse_more_waiting()
    run = store().create(config, launcher=launcher, by=person())
    _work()
    return run


@editors_only
def stop(job: Run | Evaluation) -> None:
    """Ask a run or a measurement to end at its next batch. Raises AccessError, RunError, JobError."""
    job.request_stop()


@editors_only
def resume(run: Run) -> None:
    """Put a run back into the queue, with a worker. Raises AccessError, RunError, JobError."""
    _refuse_more_again(run)
    run.resume()
    _work()


def _work() -> None:
    look_again()
    ensure_worker(store().folder)


def _refuse_more_waiting() -> None:
    """Raises AccessError for somebody who has as much in the queue as one may have."""
    most = limits().waiting
    here = waiting_for(store(), person())
    if here >= most:
        whose = "You have" if person() else "There are"
        raise AccessError(
            f"{whose} {here} runs and measurements in the queue, and {most} is the most; wait for some, or stop some."
        )


def _refuse_more_again(job: Run | Evaluation) -> None:
    """The same for what would come into the queue again; what waits there already is counted."""
    if job.state in ("stopped", "failed"):
        _refuse_more_waiting()


# ------------------------------------------------------------------------------------------------------ measurements


@editors_only
def measure_here(run: Run, settings: Measured) -> Evaluation:
    """Ask for a measurement that the helper of this server does at once. Raises AccessError, ConfigError, JobError."""
    _refuse_more_waiting()
    measured_threat(run.config, settings)
    evaluation = evaluations.create(run.folder, settings, by=person())
    push(evaluation)
    return evaluation


@editors_only
def measure_by_worker(run: Run, settings: Measured) -> Evaluation:
    """Ask for a measurement that outlives browser and server. Raises AccessError, ConfigError, JobError."""
    _refuse_more_waiting()
    measured_threat(run.config, settings)
    evaluation = evaluations.create(run.folder, settings, by=person())
    ensure_worker(store().folder)
    return evaluation


@editors_only
def push(evaluation: Evaluation) -> str | None:
    """Have the helper work on it, or look whether it still does; returns a sentence when it refused."""
    request = {"store": str(store().folder.absolute()), "run": evaluation.run_id, "evaluation": evaluation.name}
    return checker(str(store().folder)).ask("measurement", request, view=evaluation.id).error


@editors_only
def go_on(evaluation: Evaluation, here: bool) -> None:
    """Want it again, here or by a worker. Raises AccessError, RunError, JobError."""
    _refuse_more_again(evaluation)
    evaluation.resume()
    checker(str(store().folder)).forget(evaluation.id)
    if here:
        push(evaluation)
    else:
        ensure_worker(store().folder)


# ------------------------------------------------------------------------------------------------------ book-keeping

edit = editors_only(bookkeeping.edit)
take_back = editors_only(bookkeeping.take_back)
archive = editors_only(bookkeeping.archive)
delete = editors_only(bookkeeping.delete)


@editors_only
def prune(run: Run, every: int | None, tables: bool) -> int:
    """Remove what nobody needs of a run; returns the bytes freed. Raises AccessError, RunError, JobError."""
    return disk.prune(run, every, tables).frees


@editors_only
def restore(name: str) -> Run:
    """Put a run back out of the trash, by its name there, and what waits in it back into the queue.

    Raises AccessError, RunError, JobError.
    """
    waits = waiting_in(bookkeeping.in_trash(store(), name)) > 0
    if waits:
        _refuse_more_waiting()
    run = bookkeeping.restore(store(), name)
    if waits:
        _work()
    return run


@editors_only
def empty_trash() -> list[str]:
    """Remove for good what is old; returns the names. Raises AccessError, JobError."""
    return bookkeeping.empty(store())


# ------------------------------------------------------------------------------------------------------------ models


@editors_only
def add_model(name: str, content: bytes, said: dict[str, str]) -> tuple[str, list[str]]:
    """Hand an uploaded file to the command that reads it; (the run's id, what was found). said: option -> value.

    The file is read in a process of its own, never here. Raises DynatError with one sentence.
    """
    most = limits().upload_mb
    if len(content) > most * 1_000_000:
        raise AccessError(f"The file has more than {most} MB, the most that may be sent here; add it with "
                          "`python -m dynat_core model add FILE`.")  # fmt: skip
    _refuse_more_waiting()
    for option, value in said.items():
        if not value.isprintable():
            raise ConfigError(f"The {option.strip('-')} has control characters in it; type plain text.")
    whose = {"--by": person()} if person() else {}
    return _read_apart(_plain_name(name), content, [f"{key}={value}" for key, value in (said | whose).items()])


def _plain_name(name: str) -> str:
    """A name for the file that a browser sent: no folder, nothing hidden, nothing that means something to a shell."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).name)[-80:].lstrip(".-") or "weights"


def _read_apart(name: str, content: bytes, options: Iterable[str]) -> tuple[str, list[str]]:
    with tempfile.TemporaryDirectory(prefix="dynat-upload-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        command = [sys.executable, "-m", "dynat_core", "model", "add", str(path), "--weights-only", *options]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
                env=child_environment(store().folder.absolute()),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ModelFileError(
                "Reading the file took too long; add it with `python -m dynat_core model add FILE`."
            ) from error
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode != 0 or not lines:
        raise DynatError(lines[-1] if lines else "The file could not be read.")
    look_again()
    return Path(lines[-1]).name, [line.strip() for line in lines[:-1]]

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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynat_core import machine
from dynat_core.errors import JobError
from dynat_core.files import read_json, replace_file, writing

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
        if _is_locked(folder + "/lock") or touched(f"{folder}/{LEASE_FILE}"):
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
        if touched(self.folder / LEASE_FILE):
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
LAG = 3.0  # seconds in which a node may still see what was there before another node changed it


def lease_seconds() -> float:
    """How long a lease lasts without renewal. Raises ConfigError for a DYNAT_LEASE that is no number of seconds."""
    return machine.seconds("DYNAT_LEASE", LEASE, least=1, most=3600)


def touched(path: Path | str) -> bool:
    """Whether a node of a cluster touched the file within the time of a lease. Opened first, since only then a network
    file system asks its server how old it is. A file from the future, of a clock that was set back, is nobody's."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return abs(time.time() - os.fstat(file).st_mtime) < lease_seconds()
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

"""One run folder as a run: what was asked, how it goes, what people wrote about it. What it recorded is read by
`Recordings`.

No torch here: screens import this.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynat_core.config import RunConfig
from dynat_core.errors import ConfigError, RunError, shown
from dynat_core.files import read_json, read_lines, replace_file, writing
from dynat_core.store import history, logs, request
from dynat_core.store.history import History
from dynat_core.store.jobs import STATES, Job, take
from dynat_core.store.layout import EPOCHS, HISTOGRAMS, LOG, odd_entry
from dynat_core.store.recordings import Recordings
from dynat_core.store.rerun import command

_FULL_BELOW = 1 << 20  # bytes left on a disk that cannot take even a sentence


class Run(Recordings):
    """One run folder. Its settings are read when it is opened, everything else when it is asked for."""

    def __init__(self, folder: Path, broken: str | None = None) -> None:
        """broken: why the folder must not be read as a run, if that is known already."""
        super().__init__(folder)
        self._job = Job(folder)
        self._config: RunConfig | None = None
        self._broken = broken
        self.kind = "training"  # or "imported" or "external", see RunStore.create
        self.launcher = ""  # whose turns in the queue it takes; empty: nobody in particular
        self.by = ""  # who asked for it, where people sign in
        self.created = datetime.fromtimestamp(_stat(folder)[0], UTC)
        if broken:
            return
        if odd := odd_entry(folder):
            why = "is a link or no plain file and is not followed; put a file in its place"
            self._broken = f"{shown(odd)} in {self.id} {why}."
            return
        try:
            asked = request.read(folder)
            self.created = request.moment(asked["created"])
            self._config = RunConfig.build(asked["config"])
            self.kind = str(asked["kind"])
            self.launcher = str(asked.get("launcher") or "")[:80]
            self.by = str(asked.get("by") or "")
        except RunError as error:
            self._broken = str(error)
        except ConfigError as error:
            self._broken = (
                f"{self.id} has a setting that this version of Dynat cannot take ({str(error).removesuffix('.')}); "
                "nothing of it is lost, open it with the version that wrote it."
            )

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self.state})"

    # -- what it is

    @property
    def config(self) -> RunConfig:
        """Everything that was asked for. Raises RunError for a broken run."""
        if self._config is None:
            raise RunError(self._broken or f"{self.id} is broken.")
        return self._config

    @property
    def state(self) -> str:
        """One of jobs.STATES, found out now."""
        return "broken" if self._broken else self._job.state

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state == "running"

    @property
    def stopping(self) -> bool:
        """Whether it still runs though somebody asked for its end."""
        return self._job.stop_requested and self.running

    @property
    def problem(self) -> str | None:
        """One sentence for a run that is broken, failed or interrupted; None for others. A stop says nothing where no
        worker listens, so a run that a program of one's own records counts as interrupted then."""
        state = self.state
        if state == "broken":
            return self._broken
        if state == "failed":
            return (self._job.error() or {}).get("error")
        if self.kind == "external" and state in ("interrupted", "stopped"):
            return self._broke_off()
        if state != "interrupted":
            return None
        with suppress(OSError):  # the folder may just have been deleted
            if shutil.disk_usage(self.folder).free < _FULL_BELOW:
                return f"The disk that holds {self.folder} is full: free some space and resume; no record is lost."
        return f"The worker stopped {self._left_at()}; resume to go on from there."

    def _left_at(self) -> str:
        last = self.last_record()
        return f"after epoch {last['epoch']}" if last else "before its first record"

    def _broke_off(self) -> str:
        return f"The program that records it ended {self._left_at()}; log_run on the same folder goes on."

    @property
    def title(self) -> str:
        """The name somebody gave it, or else what its settings say; of a broken run its id."""
        title = self.label().get("title")
        return (
            (isinstance(title, str) and title.isprintable() and title)
            or (self._config and self._config.title())
            or self.id
        )

    @property
    def modified(self) -> float:
        """A key, in seconds, that changes when a record is added or the state changes, also while the clock is moved
        back."""
        watched = ("run.json", EPOCHS, "result.json", "error.json", "label.json")
        stats = [_stat(self.folder / name) for name in watched]
        newest, size = max(time for time, _ in stats), sum(size for _, size in stats)
        return newest + STATES.index(self.state) / 16 + size / (1 << 20)

    def changed(self, kind: str) -> float:
        """When a file of this kind (a folder of the run) was last added or taken away, in seconds; 0 where there is
        none. Pruning changes nothing else."""
        return _stat(self.folder / kind)[0]

    def label(self) -> dict[str, Any]:
        """What a person wrote about it: title, tags, note, archived; {} when nothing."""
        return read_json(self.folder / "label.json") or {}

    def set_label(self, **changes: Any) -> None:
        """Change entries of the label. Raises JobError where the store cannot be written."""
        with writing(self.folder), _one_at_a_time(self.folder):
            replace_file(self.folder / "label.json", json.dumps({**self.label(), **changes}).encode())

    def rerun_command(self) -> str:
        """One command line that trains the same again."""
        return command(self.config)

    # -- how it goes

    def status(self) -> dict[str, Any] | None:
        """Progress as last written: epoch, epochs, batch, batches, phase, eta_s, updated; None before the first."""
        return self._job.status()

    def starts(self) -> list[dict[str, Any]]:
        """One entry per start: versions, device, threads, data hash, commit."""
        return read_lines(self.folder / "starts.jsonl")

    def result(self) -> dict[str, Any] | None:
        """The summary of a finished run, or None."""
        found = read_json(self.folder / "result.json")
        if found is None:
            return None
        return {key: value for key, value in found.items() if key not in ("best", "last") or _is_summary(value)}

    def error(self) -> dict[str, str] | None:
        """{"error": sentence, "traceback": text} of a failed run, or None."""
        return self._job.error()

    def log_tail(self, n: int = 40) -> str:
        """The last `n` lines that its processes printed."""
        return logs.end(self.folder / LOG, n)

    def request_stop(self) -> None:
        """Ask it to stop at the next batch, with a checkpoint. Raises RunError when there is nothing to stop."""
        state = self.state
        if state in ("finished", "failed", "broken"):
            raise RunError(f"{self.id} is {state}; there is nothing to stop.")
        if self.kind == "external":
            raise RunError(f"{self.id} is recorded by a program of one's own; end that program.")
        self._job.request_stop()

    def resume(self) -> None:
        """Want it again: a stopped or failed run goes back to the queue. Raises RunError when it has finished."""
        state = self.state
        if state in ("finished", "broken"):
            raise RunError(f"{self.id} is {state}; there is nothing to resume.")
        if self.kind == "external":
            raise RunError(f"{self.id} is recorded by a program of one's own; start that program again.")
        self._job.allow()

    def history(self) -> History:
        """All epochs and their histograms; cheap to ask again, only new lines are read."""
        return history.reader(self.folder).history(self.folder / EPOCHS, self.folder / HISTOGRAMS, self.config.classes)


def _is_summary(found: Any) -> bool:
    """Whether this is what a run says about its best or last epoch, and not something else under that name."""
    if not isinstance(found, dict):
        return False
    n, *right = (found.get(key) for key in ("n", "clean_correct", "robust_correct"))
    return (
        type(found.get("epoch")) is int
        and type(n) is int
        and n > 0
        and all(type(k) is int and 0 <= k <= n for k in right)
    )


def _stat(path: Path) -> tuple[float, int]:
    """(when it was last changed, bytes); zeros where it is not there."""
    try:
        stat = path.stat()
        return stat.st_mtime, stat.st_size
    except OSError:
        return 0.0, 0


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two people change different entries of a label at once, and both changes stay: the folder itself is locked."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks on folders: as good as it gets
            take(file, fcntl.LOCK_EX, patience=2)
        yield
    finally:
        os.close(file)
